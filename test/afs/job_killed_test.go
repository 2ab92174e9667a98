package afs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
)

// testKilledServer: Caddy is killed while vos is at work for a job. Vos goes on, and
// when Caddy is there again, it says so, waits, and finds what has come of it.
func testKilledServer(t *testing.T) {
	c := cell.New(t, cell.Options{})
	client := newClient(t, c)
	v := newVolume(t, c, "set", c.FS1, c.FS2)
	try(t, writeSet(t.Context(), v, 1))
	time.Sleep(1100 * time.Millisecond) // dates are whole seconds
	release(t, c, "set")
	try(t, writeSet(t.Context(), v, 2))
	time.Sleep(1100 * time.Millisecond)
	prefix, lines := vosLog(t, c)
	config := jobSite(t, c, "job set {\n"+releaseAFS(c, prefix, "set", "")+"}\n", "set")
	srv := startSite(t, config)
	r := setReaders{srv: srv}
	served(t, &r, 1)
	set := runner{t, srv, "set"}
	id := set.begin()
	waitFor(t, 10*time.Second, "locked by vos", func() bool { return volumeState(t, client, c, "set").Locked() })
	srv.Kill()
	srv.Restart(config)
	srv.WaitReady(t)
	if !volumeState(t, client, c, "set").Locked() {
		t.Error("vos has ended too early for this test to show anything")
	}
	s := set.status()
	if last := s.Last; last == nil || last.ID != id || last.Outcome != job.Interrupted || last.Stage != "release" || last.PID == 0 {
		t.Errorf("after a restart: %+v, last %+v", s, last)
	}
	next := set.begin()
	waitFor(t, 5*time.Second, "waiting for vos", func() bool {
		s := set.status()
		return s.State == "waiting" && strings.Contains(s.Waits, id)
	})
	if got := lines(); len(got) != 1 {
		t.Errorf("while vos is at work: %q", got)
	}
	check(t, set.wait(next), job.Unchanged, "")
	if got := lines(); len(got) != 2 || !strings.HasPrefix(got[1], "end ") {
		t.Errorf("one vos has done all: %q", got)
	}
	if ok, why := volumeState(t, client, c, "set").Published(); !ok {
		t.Error(why)
	}
	served(t, &r, 2)
}
