package afs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/job"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// afscellBinary is the program of test/afscell: it is how the jobs of a test come to
// vos.
func afscellBinary(t testing.TB) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "afscell")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../afscell").CombinedOutput(); err != nil {
		t.Fatalf("building afscell: %v\n%s", err, out)
	}
	return bin
}

// vosPrefix is what a job puts before vos.
func vosPrefix(t testing.TB, c *cell.Cell) string {
	t.Helper()
	return afscellBinary(t) + " -dir " + c.Dir
}

// releaseAFS is a step of a job that releases volumes, with further options on lines
// of their own where semicolons part them.
func releaseAFS(c *cell.Cell, prefix, volumes, options string) string {
	return "release afs " + volumes + " {\ncell " + c.Name + "\nprefix " + prefix +
		"\nlock_wait 2s\n" + strings.ReplaceAll(options, ";", "\n") + "\n}\n"
}

// jobSite is a Caddyfile with jobs, whose mounts are of volumes by their own names.
func jobSite(t testing.TB, c *cell.Cell, jobs string, volumes ...string) string {
	t.Helper()
	handlers := "mirror_cache {\n"
	for _, v := range volumes {
		handlers += "mount /" + v + " afs://" + c.Name + ":" + v + "\n"
	}
	return strings.Replace(site(t, c, "", "", handlers+"}"), "mirror {", "mirror {\n"+jobs, 1)
}

// runner is a job of a server, as its admin API shows it.
type runner struct {
	t   testing.TB
	srv *testcaddy.Server
	job string
}

// run runs the job to its end.
func (r runner) run() job.Run {
	r.t.Helper()
	return r.wait(r.begin())
}

// begin has the job run.
func (r runner) begin() (id string) {
	r.t.Helper()
	var begun struct{ ID string }
	r.ask(http.MethodPost, "/mirror/jobs/"+r.job+"/run", &begun)
	return begun.ID
}

// wait waits for the end of a run, and holds what the job's status says of it against
// the record.
func (r runner) wait(id string) job.Run {
	r.t.Helper()
	var run job.Run
	r.ask(http.MethodGet, "/mirror/jobs/"+r.job+"/runs/"+id+"?wait=4m", &run)
	if s := r.status(); s.Last == nil || s.Last.ID != run.ID || s.Last.Outcome != run.Outcome || s.Last.Error != run.Error {
		r.t.Errorf("the record says %+v, and the status %+v", run, s.Last)
	} else if failing := run.Outcome == job.Failed || run.Outcome == job.Held; failing != (s.State == "failing") {
		r.t.Errorf("job %s is %q after %+v", r.job, s.State, run)
	}
	return run
}

// want runs the job and checks how that ended, and what the error names.
func (r runner) want(outcome job.Outcome, stage string, words ...string) job.Run {
	r.t.Helper()
	run := r.run()
	if run.Outcome != outcome {
		r.t.Log(r.log(run.ID))
	}
	check(r.t, run, outcome, stage, words...)
	return run
}

func check(t testing.TB, run job.Run, outcome job.Outcome, stage string, words ...string) {
	t.Helper()
	if run.Outcome != outcome || run.Stage != stage {
		t.Errorf("the run is %q at %q, want %q at %q: %s", run.Outcome, run.Stage, outcome, stage, run.Error)
	}
	for _, w := range words {
		if !strings.Contains(run.Error, w) {
			t.Errorf("the error does not say %q: %s", w, run.Error)
		}
	}
	t.Logf("%s after %v %s", run.Outcome, run.Ended.Sub(run.Began).Round(time.Millisecond), run.Error)
}

// status is the job's, of all that GET /mirror/status tells.
func (r runner) status() job.Status {
	r.t.Helper()
	var all struct{ Jobs []job.Status }
	r.ask(http.MethodGet, "/mirror/status", &all)
	for _, s := range all.Jobs {
		if s.Name == r.job {
			return s
		}
	}
	r.t.Fatalf("no job %s in %+v", r.job, all)
	return job.Status{}
}

// log is the log of a run.
func (r runner) log(id string) string {
	r.t.Helper()
	resp, err := http.Get("http://" + r.srv.Admin + "/mirror/jobs/" + r.job + "/log?run=" + id)
	try(r.t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	try(r.t, err)
	return string(text)
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

// volumeState asks the servers for the state of a volume.
func volumeState(t testing.TB, client *afs.Client, c *cell.Cell, volume string) afs.Volume {
	t.Helper()
	v, err := client.Volume(t.Context(), c.Name, volume)
	try(t, err)
	return v
}

// writeSetDir writes a generation of the set into a directory of this machine.
func writeSetDir(t testing.TB, dir string, generation uint64) {
	t.Helper()
	for n := range setSizes {
		try(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d", n)), member(generation, n), 0o644))
	}
}

// reading has a set read from now on, by clients that must not notice anything. The
// function that it returns ends that, and checks.
func reading(t testing.TB, r *setReaders) (check func()) {
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { r.read(ctx, "/set") })
	}
	check = sync.OnceFunc(func() {
		stop()
		wg.Wait()
		for _, e := range r.errs {
			t.Error(e)
		}
		t.Logf("%d reads, %d failed; status %v", r.reads.Load(), r.failed, &r.results)
	})
	t.Cleanup(check)
	return check
}

// served waits until a generation of the set is served.
func served(t testing.TB, r *setReaders, generation uint64) {
	t.Helper()
	waitFor(t, 10*time.Second, fmt.Sprintf("served: generation %d", generation), func() bool {
		try(t, r.readOne("/set", 0))
		return r.newest.Load() == generation
	})
}
