package jobs

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/syncer/syncertest"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// index is a mirror of PyPI by a stand-in of bandersnatch, released as snapshots.
type index struct {
	t   *testing.T
	dir string
	srv *testcaddy.Server
}

func newIndex(t *testing.T, options string) *index {
	t.Helper()
	x := &index{t: t, dir: t.TempDir()}
	x.write("bandersnatch", syncertest.Bandersnatch, 0o755)
	x.write("conf", "[mirror]\ndirectory = "+x.dir+"/tree\n", 0o644)
	if err := os.Mkdir(filepath.Join(x.dir, "tree"), 0o755); err != nil {
		t.Fatal(err)
	}
	x.do("serial=7 packages='foo bar'")
	x.srv = testcaddy.Start(t, x.config(options))
	return x
}

func (x *index) write(name, text string, mode os.FileMode) {
	x.t.Helper()
	name = filepath.Join(x.dir, name)
	if err := errors.Join(os.WriteFile(name+".new", []byte(text), mode), os.Rename(name+".new", name)); err != nil { // a run may read it
		x.t.Fatal(err)
	}
}

// do says what comes of the next runs.
func (x *index) do(settings string) { x.write("do", settings+"\n", 0o644) }

func (x *index) config(options string) string {
	sync := "sync bandersnatch " + x.dir + "/conf {;;command " + x.dir + "/bandersnatch;;};;"
	gate := "gate exec sh -c `echo >>" + x.dir + "/gates; while test -e " + x.dir + "/block; do sleep 0.05; done`;;"
	return jobs("pypi "+options+";;directory "+x.dir+"/tree;;"+sync+gate+"release snapshot "+x.dir+"/served") +
		"http://{$ADDR} {\n\tmetrics /metrics\n}\n"
}

// run runs it, and wants that it ends so.
func (x *index) run(want string) {
	x.t.Helper()
	if r := ended(x.t, x.srv, "pypi", start(x.t, x.srv, "pypi")); r.Outcome != want {
		x.t.Errorf("the run is %+v, want %s", r, want)
	}
}

// served is the release that is served; gates is how often the gate has looked.
func (x *index) served() string {
	target, _ := os.Readlink(filepath.Join(x.dir, "served"))
	return filepath.Base(target)
}

func (x *index) gates() int { return strings.Count(read(filepath.Join(x.dir, "gates")), "\n") }

// has makes sure that what is served has a project in the state of a serial.
func (x *index) has(project string, serial int) {
	x.t.Helper()
	if page := read(filepath.Join(x.dir, "served/web/simple", project, "index.html")); !strings.Contains(page, fmt.Sprintf("SERIAL %d-", serial)) {
		x.t.Errorf("served of %s is %q, want that of serial %d", project, page, serial)
	}
}

// TestQuietIndex: runs over a quiet index release nothing, one that brings a package
// releases once, and what a kill has left is released.
func TestQuietIndex(t *testing.T) {
	t.Parallel()
	x := newIndex(t, "")
	x.run("released")
	was, gates := x.served(), x.gates()
	seen := status(t, x.srv, "pypi").Seen
	x.do("serial=7 packages=")
	for range 5 {
		before := read(x.dir + "/tree/web/last-modified")
		time.Sleep(time.Second) // which is how exact it is
		x.run("unchanged")
		if read(x.dir+"/tree/web/last-modified") == before {
			t.Error("the stand-in writes nothing: it is none")
		}
	}
	if x.served() != was || x.gates() != gates {
		t.Errorf("released is %s, was %s; gates have looked %d times, had %d times", x.served(), was, x.gates(), gates)
	}
	j := status(t, x.srv, "pypi")
	if !j.Seen.After(seen.Add(4*time.Second)) || time.Since(j.Upstream) > 10*time.Second || j.Serial != 7 || j.Pending != nil {
		t.Errorf("status is %+v", j)
	}
	x.do("serial=8 packages=bar")
	x.run("released")
	x.has("bar", 8)
	x.do("serial=8 packages=")
	x.run("unchanged")
	if out, err := x.srv.Run("mirror", "run", "pypi", "--wait", "--release"); err != nil || !strings.Contains(out, "released") {
		t.Errorf("asked for: %v, %s", err, out)
	}

	// Killed between sync and release.
	was = x.served()
	x.write("block", "", 0o644)
	x.do("serial=9 packages=foo")
	start(t, x.srv, "pypi")
	until(t, x.srv, "pypi", "at the gate", func(j job) bool { return j.Current != nil && j.Current.Stage == "gate exec" && j.Current.PID != 0 })
	x.srv.Kill()
	x.do("serial=9 packages=")
	if err := os.Remove(x.dir + "/block"); err != nil {
		t.Fatal(err)
	}
	x.srv.Restart(x.config(""))
	if x.served() != was {
		t.Error("it was released before it was killed")
	}
	if j := status(t, x.srv, "pypi"); j.Pending == nil || j.Pending.Changes != 1 || j.Last.Outcome != "interrupted" {
		t.Errorf("after the kill: %+v", j)
	}
	x.run("released")
	x.has("foo", 9)
	x.run("unchanged")

	// Killed in the sync, after the first of two packages.
	x.do("serial=10 packages='bar foo' die=yes")
	x.run("failed")
	x.do("serial=10 packages=foo")
	x.run("released")
	x.has("bar", 10)
}

// TestReleaseWhen: a batch is counted over runs, reloads and a kill, is seen, and goes when
// it is large enough, or by hand.
func TestReleaseWhen(t *testing.T) {
	t.Parallel()
	x := newIndex(t, "every 1s")
	until(t, x.srv, "pypi", "released", func(j job) bool { return j.Last != nil && j.Last.Outcome == "released" })
	x.do("serial=7 packages=")
	options := "every 1s;;release_when changes 3 after 1h;;release_when project " + x.dir + "/constraints"
	x.write("constraints", "urgent===1\n", 0o644)
	if err := x.srv.Reload(x.config(options)); err != nil {
		t.Fatal(err)
	}
	reloaded := time.Now()
	until(t, x.srv, "pypi", "run with the new settings", func(j job) bool { return j.Last != nil && j.Last.Began.After(reloaded) })
	was := x.served()
	pending := func(n int) func(j job) bool {
		return func(j job) bool {
			return j.Last != nil && j.Last.Outcome == "pending" && j.Pending != nil && j.Pending.Changes == n && j.Pending.Why != ""
		}
	}
	x.do("serial=8 packages=foo")
	until(t, x.srv, "pypi", "pending", pending(1))
	x.do("serial=9 packages='foo bar'")
	j := until(t, x.srv, "pypi", "two pending", pending(2))
	since := j.Pending.Since
	if strings.Join(j.Pending.Names, " ") != "bar foo" || !j.Pending.Due.Equal(since.Add(time.Hour)) {
		t.Errorf("pending is %+v", j.Pending)
	}
	x.do("serial=9 packages=")
	if out, err := x.srv.Run("mirror", "status"); err != nil || !strings.Contains(out, "to be released: 2 of 3 changes") {
		t.Errorf("status: %v\n%s", err, out)
	}
	if _, body, err := x.srv.Get("/metrics"); err != nil || !strings.Contains(string(body), `caddy_mirror_job_pending_changes{job="pypi"} 2`) ||
		!strings.Contains(string(body), fmt.Sprintf(`caddy_mirror_job_pending_since_timestamp_seconds{job="pypi"} %v`, float64(since.Unix()))) ||
		!strings.Contains(string(body), `caddy_mirror_job_upstream_serial{job="pypi"} 9`) || !strings.Contains(string(body), "caddy_mirror_job_upstream_seen_timestamp_seconds") {
		t.Errorf("metrics: %v\n%s", err, body)
	}
	if err := x.srv.Reload(x.config(options + ";;jitter 1ms")); err != nil {
		t.Fatal(err)
	}
	x.srv.Kill()
	x.srv.Restart(x.config(options))
	j = until(t, x.srv, "pypi", "pending after a kill", func(j job) bool { return idle(j) && j.Pending != nil && j.Pending.Changes == 2 })
	if !j.Pending.Since.Equal(since) || x.served() != was {
		t.Errorf("pending is %+v, released is %s", j.Pending, x.served())
	}
	x.do("serial=10 packages='foo three'")
	until(t, x.srv, "pypi", "released", func(j job) bool { return j.Pending == nil && x.served() != was })
	x.has("three", 10)
	x.has("bar", 9)

	was = x.served()
	x.do("serial=11 packages=foo")
	until(t, x.srv, "pypi", "pending", pending(1))
	x.do("serial=11 packages=")
	for {
		// The schedule may be about to run it.
		var reply struct{ ID string }
		if call(t, x.srv, http.MethodPost, "/mirror/jobs/pypi/run", "", &reply) == http.StatusAccepted {
			if r := ended(t, x.srv, "pypi", reply.ID); r.Outcome != "released" {
				t.Errorf("by hand: %+v", r)
			}
			break
		}
	}
	x.has("foo", 11)
	was = x.served()
	x.do("serial=12 packages=urgent")
	until(t, x.srv, "pypi", "released", func(job) bool { return x.served() != was })
	x.has("urgent", 12)
}
