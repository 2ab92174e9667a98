package afs_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/afscell/cell"
)

// TestOldWhileFailingOver: what is cached of an older release is not served once a
// newer one was, though the file server that is asked falls silent in between.
func TestOldWhileFailingOver(t *testing.T) {
	c := cell.New(t, cell.Options{})
	v := newVolume(t, c, "set", c.FS1, c.FS2)
	try(t, writeSet(t.Context(), v, 1))
	release(t, c, "set")
	srv := startMirror(t, c, "", "/set afs://"+c.Name+":set")
	r := setReaders{srv: srv}
	for n := range setSizes {
		try(t, r.readOne("/set", n))
	}
	for i, silent := range []*cell.Host{c.FS1, c.FS2} {
		g := uint64(i + 2)
		try(t, writeSet(t.Context(), v, g))
		release(t, c, "set")
		waitFor(t, 10*time.Second, fmt.Sprintf("generation %d", g), func() bool {
			try(t, r.readOne("/set", 0))
			return r.newest.Load() == g
		})
		try(t, silent.Fileserver().Pause())
		for n := range setSizes {
			start := time.Now()
			if err := r.readOne("/set", n); err != nil { // it complains of what is older
				t.Errorf("%s is silent: f%d: %v", silent, n, err)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("%s is silent: f%d took %v", silent, n, took)
			}
		}
		try(t, silent.Fileserver().Continue())
		time.Sleep(3 * time.Second) // until it is asked again
	}
}
