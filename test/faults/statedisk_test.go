package faults

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// onState makes the jobs' state of a server lie on a file system that can hang.
func onState(t *testing.T) (mnt *fuse, env testcaddy.Option) {
	t.Helper()
	mnt = bind(t, t.TempDir(), "--multithreaded")
	data := t.TempDir()
	if err := os.MkdirAll(filepath.Join(data, "caddy/mirror"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(mnt.dir, filepath.Join(data, "caddy/mirror/jobs")); err != nil {
		t.Fatal(err)
	}
	return mnt, testcaddy.Env("XDG_DATA_HOME=" + data)
}

// swift fails the test if f takes longer than something that waits for no disk.
func swift(t *testing.T, what string, f func() error) {
	t.Helper()
	start := time.Now()
	if err := f(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("%s took %v", what, took)
	}
}

// answers asks a server with a hung disk for all that must not wait for that, and
// returns its status as a person sees it.
func answers(t *testing.T, srv *testcaddy.Server, tr *tree) (status string) {
	t.Helper()
	swift(t, "a request", func() error {
		_, err := get(srv, "/a", tr, "file")
		return err
	})
	swift(t, "metrics", func() error {
		_, err := srv.AdminGet("/metrics")
		return err
	})
	swift(t, "status", func() (err error) {
		status, err = srv.Run("mirror", "status")
		return err
	})
	for _, job := range []string{"x", "y"} {
		swift(t, "status of "+job, func() error {
			out, err := srv.Run("mirror", "status", job)
			if !strings.Contains(out, "the disk of the jobs' state has not answered for") {
				t.Errorf("the status of %s does not say that its disk hangs: %s", job, out)
			}
			return err
		})
	}
	return status
}

// The disk of the jobs' state hangs: the server starts, serves and answers, jobs wait
// and say why, and go on by themselves when it is back.
func TestStateDiskHangs(t *testing.T) {
	t.Parallel() // it waits most of the time
	tr := newTree(t)
	tr.add(t, "file", 10_000)
	mnt, env := onState(t)
	config := func(more string) string {
		return strings.Replace(site("path "+t.TempDir(), mount("/a", tr.dir)), "mirror {",
			"mirror {\njob x {\nsync exec true\n}\njob y {\nevery 1h\nsync exec true\n}\n"+more, 1)
	}
	idle := func(srv *testcaddy.Server) func() bool {
		return func() bool {
			out, err := srv.Run("mirror", "status", "y", "--json")
			return err == nil && strings.Contains(out, `"state": "idle"`) && strings.Contains(out, `"outcome": "unchanged"`)
		}
	}
	mnt.hang(t)
	testcaddy.Binary(t) // to build it takes longer
	start := time.Now()
	srv := testcaddy.Start(t, config(""), env)
	t.Cleanup(func() { mnt.resume(t) }) // before it ends
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("the start took %v", took)
	}
	time.Sleep(time.Second)
	if out := answers(t, srv, tr); strings.Count(out, "waiting") != 2 {
		t.Errorf("jobs do not wait:\n%s", out)
	}
	start = time.Now()
	if out, err := srv.Run("mirror", "hold", "x"); err == nil || !strings.Contains(out, "not read yet") {
		t.Errorf("a hold: %v: %s", err, out)
	}
	if err := srv.Reload(config("job z {\nsync exec true\n}")); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("hold and reload took %v", took)
	}
	mnt.resume(t)
	wait(t, 20*time.Second, "the job has run", idle(srv))

	// It hangs in the middle of things.
	mnt.hang(t)
	swift(t, "run", func() error {
		_, err := srv.Run("mirror", "run", "x")
		return err
	})
	start = time.Now()
	if out, err := srv.Run("mirror", "hold", "y"); err == nil || !strings.Contains(out, "not be after a restart") {
		t.Errorf("a hold that is not kept: %v: %s", err, out)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("the hold took %v", took)
	}
	swift(t, "log", func() error {
		out, err := srv.Run("mirror", "log", "y")
		if err == nil || !strings.Contains(out, "the disk of the jobs' state has not answered for") {
			t.Errorf("a log that cannot be read: %v: %s", err, out)
		}
		return nil
	})
	time.Sleep(time.Second)
	answers(t, srv, tr)
	swift(t, "a reload", func() error { return srv.Reload(config("")) })
	answers(t, srv, tr)
	mnt.resume(t)
	wait(t, 20*time.Second, "the run has ended, and the job is held", func() bool {
		x, err := srv.Run("mirror", "status", "x", "--json")
		y, yerr := srv.Run("mirror", "status", "y", "--json")
		return err == nil && yerr == nil && strings.Contains(x, `"outcome": "unchanged"`) && strings.Contains(y, `"state": "held"`)
	})
}

// The disk of a cache hangs when the server starts: it starts, and serves without the
// cache until that can be opened.
func TestCacheDiskHangsAtStart(t *testing.T) {
	t.Parallel() // it waits most of the time
	tr := newTree(t)
	tr.add(t, "file", 10_000)
	mnt := bind(t, t.TempDir(), "--multithreaded")
	mnt.hang(t)
	testcaddy.Binary(t)
	config := site("path "+mnt.dir+"/cache", mount("/a", tr.dir))
	start := time.Now()
	srv := testcaddy.Start(t, config)
	t.Cleanup(func() { mnt.resume(t) }) // before it ends
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("the start took %v", took)
	}
	swift(t, "a request", func() error {
		a, err := get(srv, "/a", tr, "file")
		if err == nil && a.status != http.StatusOK {
			t.Errorf("status %d", a.status)
		}
		return err
	})
	if s := theCache(t, srv); s.State != "bypass" {
		t.Errorf("the cache is %s", s.State)
	}
	start = time.Now()
	if err := srv.Reload(strings.Replace(config, "mirror_cache {", "mirror_cache {\n"+mount("/b", tr.dir), 1)); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("a reload took %v", took)
	}
	mnt.resume(t)
	srv.WaitReady(t)
	mustGet(t, srv, "/a", tr, "file")
	waitQuiet(t, srv)
	if a := mustGet(t, srv, "/a", tr, "file"); !a.hit() {
		t.Errorf("no hit when the disk is back: %s", a.cache())
	}
}

// The disk of a cache hangs when a reload has it no more, and when the server ends: it
// holds up neither.
func TestCacheDiskHangsAtStop(t *testing.T) {
	t.Parallel() // it waits most of the time
	tr := newTree(t)
	tr.add(t, "file", 10_000)
	mnt := bind(t, t.TempDir(), "--multithreaded")
	with, without := site("path "+mnt.dir+"/cache", mount("/a", tr.dir)), site("path "+t.TempDir(), mount("/a", tr.dir))
	srv := testcaddy.Start(t, with)
	srv.WaitReady(t)
	mustGet(t, srv, "/a", tr, "file")
	waitQuiet(t, srv)
	within := func(d time.Duration, what string, f func() error) {
		t.Helper()
		start := time.Now()
		if err := f(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if took := time.Since(start); took > d {
			t.Errorf("%s took %v", what, took)
		}
	}
	mnt.hang(t)
	within(15*time.Second, "a reload without the cache", func() error { return srv.Reload(without) })
	within(20*time.Second, "a reload with it", func() error { return srv.Reload(with) })
	if s := theCache(t, srv); s.State != "bypass" {
		t.Errorf("the cache is %s", s.State)
	}
	mustGet(t, srv, "/a", tr, "file")
	mnt.resume(t)
	srv.WaitReady(t)
	if a := mustGet(t, srv, "/a", tr, "file"); !a.hit() {
		t.Errorf("no hit when the disk is back: %s", a.cache())
	}
	mnt.hang(t)
	srv.Signal(syscall.SIGTERM)
	wait(t, 15*time.Second, "the end", func() bool { return ended(srv) })
	mnt.resume(t)
	wait(t, 10*time.Second, "the end of the process", func() bool {
		select {
		case <-srv.Done():
			return true
		default:
			return false
		}
	})
	if !strings.Contains(srv.Logs(), `"exit_code":0`) {
		t.Error("it has not ended well")
	}
}

// ended reports whether a server has ended, but for threads that wait in the kernel for a
// disk: the kernel ends a process when its last call has come back.
func ended(srv *testcaddy.Server) bool {
	select {
	case <-srv.Done():
		return true
	default:
	}
	states, err := testcaddy.ThreadStates(srv.Pid())
	return err == nil && strings.Trim(states, "DZX") == ""
}
