package afs_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
)

// TestJobs: most of their time is vos's, which sleeps, so they go on at once.
func TestJobs(t *testing.T) {
	bin := afscellBinary(t)
	var wg sync.WaitGroup
	for i := range faultGroups {
		wg.Go(func() { t.Run(fmt.Sprint("faults ", i), func(t *testing.T) { testFaults(t, bin, faultGroups[i]) }) })
	}
	wg.Go(func() {
		t.Run("sync", testSync)
		t.Run("killed server", testKilledServer)
		t.Run("lane", testLane)
		t.Run("trap", testTrap)
	})
	wg.Wait()
}

// testTrap: a vos that is not told otherwise ends a broken release by publishing what
// that was of, says that all went well, and leaves all copies alike. The job sees that
// they are too old. Its time is up while vos is at work, which changes nothing.
func testTrap(t *testing.T) {
	c := cell.New(t, cell.Options{})
	client := newClient(t, c)
	v := newVolume(t, c, "set", c.FS1, c.FS2)
	script := filepath.Join(t.TempDir(), "plain")
	try(t, os.WriteFile(script, []byte("#!/bin/sh\nfor a; do\nshift\n[ \"$a\" = -force-reclone ] || set -- \"$@\" \"$a\"\ndone\nexec \"$@\"\n"), 0o755))
	jobs := "job set {\ntimeout 3s\n" + releaseAFS(c, script+" "+vosPrefix(t, c), "set", "tries 1") + "}\n"
	srv := startSite(t, jobSite(t, c, jobs, "set"))
	set := runner{t, srv, "set"}

	try(t, writeSet(t.Context(), v, 1))
	time.Sleep(1100 * time.Millisecond) // dates are whole seconds
	release(t, c, "set")
	set.want(job.Unchanged, "")
	try(t, writeSet(t.Context(), v, 2))
	vos, err := c.VosStart(t.Context(), "release", "set")
	try(t, err)
	waitFor(t, 10*time.Second, "locked by vos", func() bool { return volumeState(t, client, c, "set").Locked() })
	try(t, c.FS2.Volserver().Kill())
	if _, err := vos.Wait(); err == nil {
		t.Error("vos could not release to fs2, and is content")
	}
	try(t, c.FS2.Volserver().Start(t.Context()))
	if volumeState(t, client, c, "set").Clean() {
		t.Error("vos has left no mark")
	}
	time.Sleep(1100 * time.Millisecond)
	try(t, writeSet(t.Context(), v, 3))

	run := set.want(job.Failed, "release", "vos says that it is released", "the copies are of", reclone)
	if log := set.log(run.ID); !strings.Contains(log, "Released volume set successfully") {
		t.Errorf("vos did not say that all went well:\n%s", log)
	}
	if v := volumeState(t, client, c, "set"); v.Agreed() != "" {
		t.Errorf("the copies were to be alike: %s", v.Agreed())
	}
	run = set.want(job.Released, "")
	if took := run.Ended.Sub(run.Began); took < 3*time.Second {
		t.Errorf("vos took %v, and was to take longer than the job may", took)
	}
	r := setReaders{srv: srv}
	served(t, &r, 3)
}
