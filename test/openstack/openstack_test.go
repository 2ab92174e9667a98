// Package openstack holds examples/openstack to what it says: its configurations are
// valid, its units are, and the commands of its MIGRATION.md work.
package openstack

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// example is the content of a file of the example.
func example(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testcaddy.Root(t), "examples/openstack", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// variables are those of a file for systemd's EnvironmentFile, as NAME=VALUE.
func variables(t *testing.T, name string) (all []string) {
	t.Helper()
	for line := range strings.Lines(example(t, name)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Errorf("%s: no variable: %s", name, line)
		}
		all = append(all, key+"="+strings.Trim(value, `"`))
	}
	return all
}

// run runs a command with these variables more, and returns what it prints.
func run(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestConfigurations are as `caddy fmt` writes them and valid, and each variable that
// they need is in the file of variables, and none besides.
func TestConfigurations(t *testing.T) {
	caddy := testcaddy.Binary(t)
	tmp := t.TempDir()
	for _, name := range []string{"mirror", "mirror-update"} {
		path := filepath.Join(testcaddy.Root(t), "examples/openstack", name+".caddyfile")
		env := append(variables(t, name+".env"), "MIRROR_CACHE="+tmp+"/cache", "MIRROR_LOGS="+tmp+"/log", "HOME="+tmp)
		if out, err := run(t, nil, caddy, "fmt", "--diff", path); err != nil {
			t.Errorf("%s is not formatted:\n%s", path, out)
		}
		out, err := run(t, env, caddy, "validate", "--config", path)
		if err != nil || strings.Contains(out, "Caddyfile input") {
			t.Errorf("%s: %v\n%s", path, err, out)
		}
		var needed, given []string
		for _, m := range regexp.MustCompile(`\{\$([A-Z_]+)\}`).FindAllStringSubmatch(example(t, name+".caddyfile"), -1) {
			needed = append(needed, m[1])
		}
		for _, v := range variables(t, name+".env") {
			key, _, _ := strings.Cut(v, "=")
			given = append(given, key)
		}
		slices.Sort(needed)
		slices.Sort(given)
		if needed = slices.Compact(needed); !slices.Equal(needed, given) {
			t.Errorf("%s needs %v, and %s.env has %v", path, needed, name, given)
		}
	}
}

// TestUnits: systemd takes the units; no job's vos is killed with the server, and the
// jobs have time to end.
func TestUnits(t *testing.T) {
	testcaddy.Need(t, "systemd-analyze")
	caddy := testcaddy.Binary(t)
	dir := t.TempDir()
	for _, name := range []string{"caddy-mirror", "caddy-mirror-update"} {
		text := example(t, name+".service")
		config := strings.TrimPrefix(name, "caddy-")
		for _, want := range []string{
			"EnvironmentFile=/etc/caddy/" + config + ".env\n", "ExecStart=/usr/bin/caddy run --config /etc/caddy/" + config + ".caddyfile\n",
			"ExecReload=/usr/bin/caddy reload --config /etc/caddy/" + config + ".caddyfile\n",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s has no %s", name, want)
			}
		}
		unit := filepath.Join(dir, name+".service")
		if err := os.WriteFile(unit, []byte(strings.ReplaceAll(text, "/usr/bin/caddy", caddy)), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := run(t, nil, "systemd-analyze", "verify", unit)
		if err != nil || strings.Contains(out, unit) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	update := example(t, "caddy-mirror-update.service")
	stop := regexp.MustCompile(`(?m)^TimeoutStopSec=(\S+)in$`).FindStringSubmatch(update)
	if !strings.Contains(update, "\nKillMode=process\n") || stop == nil {
		t.Fatalf("the unit of the update host has no KillMode=process, or no TimeoutStopSec in minutes:\n%s", update)
	}
	const grace = 2 * time.Minute // a job's, by default
	if d, err := time.ParseDuration(stop[1]); err != nil || d <= grace {
		t.Errorf("TimeoutStopSec is %v, %v: jobs have a grace of %v", d, err, grace)
	}
	if strings.Contains(example(t, "mirror-update.caddyfile"), "grace") {
		t.Error("a job has a grace of its own: compare it with TimeoutStopSec")
	}
}

// section is an item of MIGRATION.md.
type section struct {
	title    string
	commands []string
}

func sections(t *testing.T) (all []section) {
	t.Helper()
	for _, part := range strings.Split(example(t, "MIGRATION.md"), "\n### ")[1:] {
		part, _, _ = strings.Cut(part, "\n## ")
		title, rest, _ := strings.Cut(part, "\n")
		s := section{title: title}
		for _, block := range strings.Split(rest, "\n```console\n")[1:] {
			block, _, _ = strings.Cut(block, "```")
			for line := range strings.Lines(block) {
				if command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ "); ok {
					s.commands = append(s.commands, command)
				}
			}
		}
		all = append(all, s)
	}
	return all
}

// TestItems: there are the specification's fourteen items, each with a command that shows
// that it is done, and commands of Caddy are such that there are.
func TestItems(t *testing.T) {
	all := sections(t)
	if len(all) != 14 {
		t.Fatalf("there are %d items, want 14", len(all))
	}
	caddy := testcaddy.Binary(t)
	subcommand := regexp.MustCompile(`\bcaddy (mirror|afs) ([a-z]+)`)
	for i, s := range all {
		if n, _, _ := strings.Cut(s.title, "."); n != []string{"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14"}[i] {
			t.Errorf("item %d is %q", i+1, s.title)
		}
		if len(s.commands) == 0 {
			t.Errorf("%s: there is no command", s.title)
		}
		for _, command := range s.commands {
			for _, m := range subcommand.FindAllStringSubmatch(command, -1) {
				out, err := run(t, nil, caddy, m[1], m[2], "--help")
				if err != nil || !strings.Contains(out, "caddy "+m[1]+" "+m[2]) {
					t.Errorf("%s: %s: %v", s.title, command, err)
				}
				for _, flag := range regexp.MustCompile(` --[a-z-]+`).FindAllString(command, -1) {
					if !strings.Contains(out, flag) {
						t.Errorf("%s: %s: there is no flag%s", s.title, command, flag)
					}
				}
			}
		}
	}
}
