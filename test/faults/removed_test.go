package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// A cache directory, or a part of it, is removed under the running mirror:
// clients do not notice, and the cache is soon there again.
func TestRemoved(t *testing.T) {
	for _, part := range []string{".", "objects", "tmp", "lock"} {
		t.Run(part, func(t *testing.T) {
			tr := newTree(t)
			const files = 60
			name := func(n int64) string { return fmt.Sprintf("file%d", n%files) }
			for n := range int64(files) {
				tr.add(t, name(n), 1000+n*n*700)
			}
			cache := filepath.Join(t.TempDir(), "cache")
			srv := testcaddy.Start(t, site("path "+cache, mount("/a", tr.dir, "ttl 1h")))
			srv.WaitReady(t)
			for n := range int64(files / 2) {
				mustGet(t, srv, "/a", tr, name(n))
			}
			quiet := len(srv.Logs())

			time.AfterFunc(500*time.Millisecond, func() {
				// Fills may put new files in while it goes on.
				for range 100 {
					if os.RemoveAll(filepath.Join(cache, part)) == nil {
						return
					}
				}
				t.Error("the directory cannot be removed")
			})
			var n, whole atomic.Int64
			during(t, srv, 3*time.Second, 4, func() error {
				return stay(srv, "/a", tr, name(n.Add(1)), &whole)
			})
			for n := range int64(files) {
				waitHit(t, srv, "/a", tr, name(n), 5*time.Second)
			}
			waitQuiet(t, srv)
			time.Sleep(1200 * time.Millisecond) // until the cache looks at its directory again
			waitQuiet(t, srv)
			if s := theCache(t, srv); s.Entries != files || s.Size != usage(t, cache) {
				t.Errorf("there are %d entries of %d bytes; on disk are %d bytes, of %d files", s.Entries, s.Size, usage(t, cache), files)
			}
			log := srv.Logs()[quiet:]
			if n := loud(log); n == 0 || n > 6 {
				t.Errorf("%d answers, and %d lines in the log:\n%s", whole.Load(), n, strings.Join(strings.SplitN(log, "\n", 20), "\n"))
			}
			srv.Stop()
			srv.Restart(site("path "+cache, mount("/a", tr.dir, "ttl 1h")))
			srv.WaitReady(t)
			for n := range int64(files) {
				if a := mustGet(t, srv, "/a", tr, name(n)); !a.hit() {
					t.Errorf("%s is no hit after a restart: %s", name(n), a.cache())
					break
				}
			}
		})
	}
}
