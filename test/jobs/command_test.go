package jobs

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestCommandLine is an operator's day.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/program", []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	srv := testcaddy.Start(t, jobs(
		"good directory "+dir+";;"+shell("echo hello; env | sort > env; echo $$ > tree")+
			";;env COLOUR blue;;env SHADE ``;;timestamp;;gate shrink 50%;;release snapshot "+dir+".ro",
		"bad "+shell("echo disk is full >&2; exit 7"),
		"slow "+shell("echo 42 percent; while ! test -e "+dir+"/go; do sleep 0.05; done; exit 3"),
		"later every 10h;;jitter 10h;;"+shell("true"),
		"missing sync exec "+dir+"/program",
		"kept every 10ms;;hold `until Monday`;;"+shell("touch "+dir+"/kept"),
	), testcaddy.Env("SECRET=hush", "TZ=Europe/Berlin"))

	if err := os.Remove(dir + "/program"); err != nil {
		t.Fatal(err)
	}

	out, err := srv.Run("mirror", "run", "good", "--wait")
	if err != nil || !regexp.MustCompile(`run \S+ of good: released, [\d.]+m?s`).MatchString(out) {
		t.Errorf("run good: %v: %s", err, out)
	}
	// Nothing leaks.
	var names []string
	for line := range strings.Lines(read(dir + "/env")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch name {
		case "PWD", "SHLVL", "_", "OLDPWD": // the shell's own
		case "MIRROR_JOB", "COLOUR", "SHADE", "TZ":
			name += "=" + value
			fallthrough
		default:
			names = append(names, name)
		}
	}
	if got := strings.Join(names, " "); !regexp.MustCompile(`^COLOUR=blue HOME( LANG)?( LC_ALL)?( LOGNAME)? MIRROR_JOB=good MIRROR_RUN PATH SHADE=( TMPDIR)? TZ=Europe/Berlin( USER)?$`).MatchString(got) {
		t.Errorf("the environment is %s", got)
	}
	if stamp := read(dir + ".ro/timestamp.txt"); !strings.HasPrefix(stamp, "20") {
		t.Errorf("the timestamp that was released is %q", stamp)
	}

	// A gate forgets what it has just learned.
	kept := filepath.Join(srv.Home, "data/caddy/mirror/jobs/good/shrink.index")
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("the gate remembers nothing: %v", err)
	}
	out, err = srv.Run("mirror", "forget", "good", "shrink")
	if err != nil || !strings.Contains(out, "has forgotten the last release ("+kept+" removed)") {
		t.Errorf("forget: %v: %s", err, out)
	}
	if _, err := os.Stat(kept); !os.IsNotExist(err) {
		t.Errorf("the gate has not forgotten: %v", err)
	}
	out, err = srv.Run("mirror", "forget", "good", "shrink")
	if err != nil || !strings.Contains(out, "remembers nothing yet") {
		t.Errorf("forget again: %v: %s", err, out)
	}
	out, err = srv.Run("mirror", "forget", "good", "apt")
	if err == nil || !strings.Contains(out, "those that remember are shrink") {
		t.Errorf("forget a gate that is not there: %v: %s", err, out)
	}

	out, err = srv.Run("mirror", "run", "bad", "--wait")
	if err == nil || !strings.Contains(out, "exit status 7: disk is full") || !strings.Contains(out, ": failed, ") {
		t.Errorf("run bad: %v: %s", err, out)
	}
	if j := status(t, srv, "bad"); j.State != "failing" || j.Last.Code != 7 || j.Last.Stage != "sync" || j.Failures != 1 || !j.Next.IsZero() || j.Last.Tail != "disk is full\n" {
		t.Errorf("bad: %+v, %+v", j, j.Last)
	}
	out, err = srv.Run("mirror", "run", "missing", "--wait")
	if err == nil || !strings.Contains(out, dir+"/program: no such file") || !strings.Contains(srv.Logs(), `"job":"missing"`) {
		t.Errorf("run missing: %v: %s", err, out)
	}

	out, err = srv.Run("mirror", "run", "slow")
	if err != nil || !strings.Contains(out, "is begun") {
		t.Errorf("run slow: %v: %s", err, out)
	}
	until(t, srv, "slow", "running", running)
	out, err = srv.Run("mirror", "run", "slow", "--wait")
	if err == nil || !strings.Contains(out, "it runs already: run ") {
		t.Errorf("run slow again: %v: %s", err, out)
	}
	if code := call(t, srv, http.MethodPost, "/mirror/jobs/slow/run", "", nil); code != http.StatusConflict {
		t.Errorf("run slow again: status %d", code)
	}

	out, err = srv.Run("mirror", "hold", "later", "--reason", "upstream is moving")
	if err != nil || !strings.Contains(out, "held") || !strings.Contains(out, "upstream is moving") {
		t.Errorf("hold: %v: %s", err, out)
	}
	out, err = srv.Run("mirror", "status")
	t.Logf("status:\n%s", out)
	for _, want := range []string{"slow +running .* sync, 42 percent, for ", "bad +failing .* failed, ", "later +held ", "good +idle .* released, "} {
		if err != nil || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("status has no %q: %v", want, err)
		}
	}
	// Errors do not upset the table.
	var column []int
	for line := range strings.Lines(out) {
		for _, word := range []string{"STATE  ", "failing", "running", "held", "idle"} {
			if n := strings.Index(line, word); n > 0 && strings.Contains(out[:strings.Index(out, line)+len(line)], "JOB") && !strings.HasPrefix(line, "    ") {
				column = append(column, n)
			}
		}
	}
	for _, n := range column {
		if n != column[0] {
			t.Errorf("the states are in columns %v", column)
			break
		}
	}
	var all struct{ Jobs []job }
	out, err = srv.Run("mirror", "status", "--json")
	if jerr := json.Unmarshal([]byte(out), &all); err != nil || jerr != nil || len(all.Jobs) != 6 || all.Jobs[0].Name != "bad" {
		t.Errorf("status --json: %v, %v: %s", err, jerr, out)
	}

	// One job, with its copies and its history.
	out, err = srv.Run("mirror", "status", "good")
	t.Logf("status good:\n%s", out)
	for _, want := range []string{
		`(?m)^rw +\w.* dir:` + dir + ` *$`, `(?m)^ro +\w.* dir:` + dir + `\.ro *$`, `(?m)^\S+ +manual +\w.* +- +released *$`,
	} {
		if err != nil || !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("status good has no %q: %v", want, err)
		}
	}
	var one struct {
		Name   string
		Runs   []run
		Copies []struct {
			Target, Stage string
			At            time.Time
		}
	}
	out, err = srv.Run("mirror", "status", "good", "--json")
	if jerr := json.Unmarshal([]byte(out), &one); err != nil || jerr != nil || len(one.Runs) != 1 || len(one.Copies) != 2 || one.Copies[1].Target != "dir:"+dir+".ro" {
		t.Errorf("status good --json: %v, %v: %s", err, jerr, out)
	}

	// A hold that is configured.
	if j := status(t, srv, "kept"); j.State != "held" || j.Hold.Reason != "until Monday" || !j.Next.IsZero() || j.Last != nil {
		t.Errorf("kept: %+v", j)
	}
	if out, err := srv.Run("mirror", "resume", "kept"); err == nil || !strings.Contains(out, "held by the configuration: until Monday") {
		t.Errorf("resume kept: %v: %s", err, out)
	}
	if out, err := srv.Run("mirror", "run", "kept", "--wait"); err != nil {
		t.Errorf("run kept: %v: %s", err, out)
	}
	if j := status(t, srv, "kept"); j.State != "held" || j.Last == nil {
		t.Errorf("kept: %+v", j)
	}

	out, err = srv.Run("mirror", "resume", "later")
	if err != nil || strings.Contains(out, "held") {
		t.Errorf("resume: %v: %s", err, out)
	}
	out, err = srv.Run("mirror", "log", "bad")
	if err != nil || !strings.Contains(out, "disk is full\n--- sync failed: ") {
		t.Errorf("log: %v: %s", err, out)
	}
	if out, err = srv.Run("mirror", "log", "bad", "--last", "10"); err != nil || len(out) != 10 {
		t.Errorf("log --last 10: %v: %q", err, out)
	}
	if out, err = srv.Run("mirror", "log", "slow"); err != nil || !strings.Contains(out, "42 percent\n") {
		t.Errorf("the log of what runs: %v: %s", err, out)
	}
	for _, args := range [][]string{{"run", "nobody"}, {"status", "nobody"}, {"hold", "nobody"}, {"resume", "nobody"}, {"log", "nobody"}, {"forget", "nobody", "apt"}} {
		out, err := srv.Run(append([]string{"mirror"}, args...)...)
		if err == nil || !strings.Contains(out, `there is no job`) {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
	if out, err := srv.Run("mirror", "log", "bad", "--run", "../../x"); err == nil || !strings.Contains(out, "has no run") {
		t.Errorf("a log of no run: %v: %s", err, out)
	}
	if out, err := srv.Run("mirror", "run"); err == nil {
		t.Errorf("run of nothing: %s", out)
	}

	for _, c := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/mirror/jobs/bad/run", "", 405},
		{"GET", "/mirror/jobs/bad/hold", "", 405},
		{"DELETE", "/mirror/jobs/bad/resume", "", 405},
		{"POST", "/mirror/jobs/bad", "", 405},
		{"POST", "/mirror/jobs/bad/log", "", 405},
		{"PUT", "/mirror/jobs/bad/runs/x", "", 405},
		{"GET", "/mirror/jobs/bad/runs/x", "", 404},
		{"GET", "/mirror/jobs/good/forget", "", 405},
		{"POST", "/mirror/jobs/good/forget", "", 400},
		{"POST", "/mirror/jobs/good/forget", `{"gate": "apt"}`, 404},
		{"POST", "/mirror/jobs/bad/forget", `{"gate": "shrink"}`, 404},
		{"GET", "/mirror/jobs/bad/nothing", "", 404},
		{"GET", "/mirror/jobs/nobody", "", 404},
		{"GET", "/mirror/jobs/", "", 404},
		{"POST", "/mirror/jobs/bad/run", "{", 400},
		{"POST", "/mirror/jobs/bad/run", `{"no_such": 1}`, 400},
		{"POST", "/mirror/jobs/bad/hold", `[]`, 400},
		{"GET", "/mirror/jobs/bad/runs/x?wait=1h", "", 400},
		{"GET", "/mirror/jobs/bad/runs/x?wait=-1s", "", 400},
		{"GET", "/mirror/jobs/bad/log?last=-1", "", 400},
		{"GET", "/mirror/jobs/later/log", "", 404},
	} {
		if got := call(t, srv, c.method, c.path, c.body, nil); got != c.want {
			t.Errorf("%s %s %s: status %d, want %d", c.method, c.path, c.body, got, c.want)
		}
	}

	resp, err := http.Get("http://" + srv.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`caddy_mirror_job_runs_total{job="bad",outcome="failed"} 1`, `caddy_mirror_job_running{job="slow"} 1`,
		`caddy_mirror_job_failures{job="bad"} 1`, `caddy_mirror_job_held{job="later"} 0`,
		`caddy_mirror_job_last_success_timestamp_seconds{job="good"} `, `caddy_mirror_job_last_release_timestamp_seconds{job="good"} `,
		`caddy_mirror_job_stage_seconds_count{job="good",stage="sync"} 1`, `caddy_mirror_job_held{job="kept"} 1`,
		`caddy_mirror_job_data_timestamp_seconds{job="good",site="",stage="rw",target="dir:` + dir + `"} `,
		`caddy_mirror_job_data_timestamp_seconds{job="good",site="",stage="ro",target="dir:` + dir + `.ro"} `,
		`caddy_mirror_release_seconds_count{target="dir:` + dir + `.ro"} 1`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no metric %s", want)
		}
	}

	// A wait outlasts a reload, in which the admin endpoint is replaced.
	type result struct {
		out string
		err error
	}
	done := make(chan result, 1)
	if err := os.WriteFile(dir+"/go", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, srv, "slow", "over", func(j job) bool { return j.State == "failing" })
	if err := os.Remove(dir + "/go"); err != nil {
		t.Fatal(err)
	}
	go func() {
		out, err := srv.Run("mirror", "run", "slow", "--wait")
		done <- result{out, err}
	}()
	until(t, srv, "slow", "running", running)
	time.Sleep(100 * time.Millisecond)
	if err := srv.Reload(jobs("slow " + shell("true"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.err == nil || !strings.Contains(r.out, "exit status 3: 42 percent") {
		t.Errorf("run --wait over a reload: %v: %s", r.err, r.out)
	}
}
