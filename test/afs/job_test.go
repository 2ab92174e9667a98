package afs_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/mirror"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestReleaseJob: a job that releases a volume does so if it was written to, knows
// whether that was done, and mends what a broken release has left.
func TestReleaseJob(t *testing.T) {
	c := cell.New(t, cell.Options{})
	v := newVolume(t, c, "set", c.FS1, c.FS2)
	try(t, writeSet(t.Context(), v, 1))
	time.Sleep(2100 * time.Millisecond) // dates are whole seconds, and equal ones tell nothing
	release(t, c, "set")
	config := site(t, c, "", "", "mirror_cache {\nmount /set afs://"+c.Name+":set\n}")
	srv := startSite(t, strings.Replace(config, "mirror {", "mirror {\n"+jobOf(t, c), 1))

	job := runner{t, srv}
	if r := job.run(); r.Outcome != mirror.Unchanged {
		t.Fatalf("nothing was written: %+v", r)
	}
	r := setReaders{srv: srv}
	served := func(g uint64) {
		t.Helper()
		waitFor(t, 10*time.Second, "the new generation", func() bool {
			try(t, r.readOne("/set", 0))
			return r.newest.Load() == g
		})
	}
	try(t, writeSet(t.Context(), v, 2))
	if r := job.run(); r.Outcome != mirror.Released {
		t.Fatalf("written to: %+v", r)
	}
	served(2)

	// A release is broken off: the lock is named, and the command that removes it.
	try(t, writeSet(t.Context(), v, 3))
	vos, err := c.VosStart(t.Context(), "release", "set")
	try(t, err)
	time.Sleep(2 * time.Second) // it sleeps after the first site
	try(t, vos.Kill())
	_, _ = vos.Wait()
	if r := job.run(); r.Outcome != mirror.Failed || !strings.Contains(r.Error, "vos unlock set") {
		t.Fatalf("the volume is locked: %+v", r)
	}

	// Unlocked, a plain release would publish the clone of generation 3 and exit 0.
	try(t, writeSet(t.Context(), v, 4))
	if _, err := c.Vos(t.Context(), "unlock", "set"); err != nil {
		t.Fatal(err)
	}
	if r := job.run(); r.Outcome != mirror.Released {
		t.Fatalf("after a broken release: %+v", r)
	}
	served(4)
	state, err := newClient(t, c).Volume(t.Context(), c.Name, "set")
	try(t, err)
	if ok, why := state.Published(); !ok {
		t.Error(why)
	}
}

// jobOf is the global option of a job that releases the volume set of a cell.
func jobOf(t testing.TB, c *cell.Cell) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "afscell")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../afscell").CombinedOutput(); err != nil {
		t.Fatalf("building afscell: %v\n%s", err, out)
	}
	return `job set {
		release afs set {
			cell ` + c.Name + `
			prefix ` + bin + ` -dir ` + c.Dir + `
			lock_wait 2s
		}
	}`
}

type runner struct {
	t   testing.TB
	srv *testcaddy.Server
}

// run runs the job to its end.
func (r runner) run() mirror.JobRun {
	r.t.Helper()
	var begun struct{ ID string }
	r.ask(http.MethodPost, "/mirror/jobs/set/run", &begun)
	var run mirror.JobRun
	r.ask(http.MethodGet, "/mirror/jobs/set/runs/"+begun.ID+"?wait=2m", &run)
	return run
}

func (r runner) ask(method, path string, into any) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, "http://"+r.srv.Admin+path, nil)
	try(r.t, err)
	resp, err := http.DefaultClient.Do(req)
	try(r.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	try(r.t, err)
	if err := json.Unmarshal(b, into); err != nil || resp.StatusCode >= 400 {
		r.t.Fatalf("%s %s: %s, %s", method, path, resp.Status, b)
	}
}
