package jobs

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestCommandErrors: whatever goes wrong, `caddy mirror` and `caddy afs` say it in one
// plain sentence on standard error, with what to do about it on the next line, print
// nothing else, and exit with status 1.
func TestCommandErrors(t *testing.T) {
	t.Parallel()
	srv := testcaddy.Start(t, jobs(
		"bad "+shell("echo disk is full >&2; exit 7"),
		"held every 10h;;hold moving;;"+shell("true"),
		"gated directory "+t.TempDir()+";;"+shell("true")+";;gate exists none;;release exec true",
	))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	closed := l.Addr().String()
	config := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(config, []byte("{\n\tadmin "+srv.Admin+"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const (
		isItRunning = `\nIs it running\? If its admin endpoint is at another address, give --address or --config\.\n`
		run         = `\d{8}T\d{6}\.\d{3}Z`
	)
	for _, c := range []struct{ args, out, err string }{
		// Calls that cannot be meant.
		{"mirror nope", "", `caddy mirror: there is no command "nope"\nUsage: caddy mirror .*\n`},
		{"mirror run", "", `caddy mirror run: which JOB\?\nUsage: caddy mirror run JOB \[--wait\].*\n`},
		{"mirror run bad worse", "", `caddy mirror run: what is "worse" for\?\nUsage: .*\n`},
		{"mirror run bad --wat", "", `caddy mirror run: unknown flag: --wat\nUsage: .*\n`},
		{"mirror status a b", "", `caddy mirror status: what is "b" for\?\nUsage: .*\n`},
		{"mirror forget bad", "", `caddy mirror forget: which GATE\?\nUsage: .*\n`},
		{"mirror purge", "", `which mount\?\nUsage: caddy mirror purge --mount .*\n`},
		{"mirror purge --mount /a --path x --prefix y", "", `path and prefix exclude each other\nUsage: .*\n`},
		{"mirror purge /a", "", `caddy mirror purge: what is "/a" for\?\nUsage: .*\n`},
		{"mirror log bad --last x", "", `caddy mirror log: invalid argument "x" for "--last" flag: .*\nUsage: .*\n`},
		{"afs nope", "", `caddy afs: there is no command "nope"\nUsage: caddy afs .*\n`},
		{`mirror run ""`, "", `caddy mirror run: which JOB\?\nUsage: .*\n`},
		{`mirror status ""`, "", `caddy mirror status: which JOB\?\nUsage: .*\n`},
		{`mirror forget bad ""`, "", `caddy mirror forget: which GATE\?\nUsage: .*\n`},
		{"afs ls", "", `caddy afs ls: which TREE\?\nUsage: caddy afs ls TREE.*\n`},
		{"afs volume example.org", "", `caddy afs volume: which VOLUME\?\nUsage: .*\n`},
		{"afs cat a b", "", `caddy afs cat: what is "b" for\?\nUsage: .*\n`},
		{"afs stat afs://example.org/ --timeout x", "", `caddy afs stat: invalid argument "x" .*\nUsage: .*\n`},

		// What Caddy does not know, or will not do.
		{"mirror run nobody", "", `there is no job "nobody": there are bad, gated, held\n`},
		{"mirror status nobody", "", `there is no job "nobody": .*\n`},
		{"mirror log held", "", `job held has not run yet\n`},
		{"mirror log held --run x", "", `job held has no run "x", or has forgotten it\n`},
		{"mirror resume held", "", `the job is held by the configuration: moving\n`},
		{"mirror forget held apt", "", `job held: nothing can be forgotten: there is no gate "apt", and none that remembers\n`},
		{"mirror purge --mount /nope", "", `there is no mount /nope\n`},

		// Runs that fail.
		{
			"mirror run bad --wait", `run ` + run + ` of bad: failed, [\d.]+m?s\n`,
			`bad failed in sync: /bin/sh: exit status 7: disk is full\nIts log: caddy mirror log bad --run ` + run + `\n`,
		},
		{
			"mirror run gated --wait --address " + srv.Admin, `run ` + run + ` of gated: gate, [\d.]+m?s\n`,
			`gated failed in gate exists: none: is missing\nIts log: caddy mirror log gated --run ` + run + ` --address ` + srv.Admin + `\n`,
		},

		// No Caddy, or not this one.
		{"mirror status --address " + closed, "", `no Caddy answers at ` + closed + `: connection refused` + isItRunning},
		{"mirror run bad --wait --address " + closed, "", `no Caddy answers at ` + closed + `: connection refused` + isItRunning},
		{"mirror log bad --address " + closed, "", `no Caddy answers at ` + closed + `: connection refused` + isItRunning},
		{"mirror status --address unix//nonexistent/socket", "", `no Caddy answers at unix//nonexistent/socket: no such file or directory` + isItRunning},
		{"mirror status --address a:b:c", "", `admin address a:b:c: .*\n`},
		{"mirror status --config /nonexistent", "", `finding the admin address: .*no such file or directory\n`},

		// AFS.
		{"afs ls /srv", "", `/srv: it does not begin with afs://\n`},
		{"afs volume example.org v --server nope", "", `cell example\.org: "nope:7003" is not an IPv4 address, with or without a port\n`},
		{"afs volume example.org v --server 127.0.0.1:1 --timeout 1s", "", `looking up volume v: AFS is not available: .*cell example\.org.*\n`},
		{"afs ls afs://example.org/ --server 127.0.0.1:1 --timeout 1s", "", `afs://example\.org/: .*AFS is not available: .*\n`},
	} {
		args := strings.Fields(c.args)
		for i, arg := range args {
			if arg == `""` {
				args[i] = ""
			}
		}
		stdout, stderr, code := srv.Exec(args...)
		if code != 1 {
			t.Errorf("caddy %s: exit status %d", c.args, code)
		}
		if !regexp.MustCompile(`^` + c.out + `$`).MatchString(stdout) {
			t.Errorf("caddy %s prints %q", c.args, stdout)
		}
		// What the client of AFS warns of comes before.
		if !regexp.MustCompile(`^(Note: .*\n)*Error: ` + c.err + `$`).MatchString(stderr) {
			t.Errorf("caddy %s: %s", c.args, stderr)
		}
		if strings.Contains(stderr, `{"`) {
			t.Errorf("caddy %s shows a line of a log: %s", c.args, stderr)
		}
	}

	// And nothing is said where all is well, but for what Caddy says of --config.
	for _, args := range []string{"mirror status", "mirror", "afs", "mirror run --help", "mirror run held --wait"} {
		if stdout, stderr, code := srv.Exec(strings.Fields(args)...); code != 0 || stderr != "" || stdout == "" {
			t.Errorf("caddy %s: %d: %q, %q", args, code, stdout, stderr)
		}
	}
	if stdout, stderr, code := srv.Exec("mirror", "status", "--config", config); code != 0 || !strings.Contains(stdout, "gated") {
		t.Errorf("with --config: %d: %q, %q", code, stdout, stderr)
	}

	// A Caddy with nothing of ours configured.
	if err := srv.Reload("http://{$ADDR} {\n\tbind 127.0.0.1\n}\n"); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := srv.Exec("mirror", "status"); code != 1 || !strings.HasPrefix(stderr, "Error: no mirror is configured") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("no mirror: %d: %s", code, stderr)
	}
}
