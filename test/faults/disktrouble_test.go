package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// The disk of the cache becomes read-only, as ext4 does after an error, is
// filled by others, or breaks off: clients get what they ask for all the same, the log says
// so once, and when it is over the cache fills again by itself.
func TestDiskTrouble(t *testing.T) {
	fill := func(t testing.TB, dir string) (undo func()) {
		t.Helper()
		// All there is, and what becomes free later.
		name := filepath.Join(dir, "filler")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			defer f.Close()
			for n := 1 << 20; ; {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := f.Write(make([]byte, n)); err != nil {
					n = max(n/2, 4096)
					time.Sleep(time.Millisecond)
				}
			}
		}()
		return func() {
			close(stop)
			<-done
			os.Remove(name)
		}
	}
	// Every call for it fails, also of files that are open.
	disconnect := func(t testing.TB, mnt *fuse) (undo func()) {
		t.Helper()
		if err := mnt.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		return func() { run(t, "umount", "-l", mnt.dir) }
	}
	for _, tt := range []struct {
		name string
		hits bool // what is cached still is
	}{{"read-only", true}, {"filled", false}, {"disconnected", false}} {
		t.Run(tt.name, func(t *testing.T) {
			disk := tmpfs(t, "48M")
			trouble := func() (undo func()) { return readOnly(t, disk) }
			switch tt.name {
			case "filled":
				trouble = func() func() { return fill(t, disk) }
			case "disconnected":
				mnt := bind(t, disk)
				disk = mnt.dir
				trouble = func() func() { return disconnect(t, mnt) }
			}
			tr := newTree(t)
			const files = 120
			name := func(n int) string { return fmt.Sprintf("file%d", n%files) }
			for n := range files {
				tr.add(t, name(n), rand.Int64N(8000)+int64(n%5/4)*(100_000+rand.Int64N(2<<20)))
			}
			cache := filepath.Join(disk, "cache")
			srv := testcaddy.Start(t, site("path "+cache+";memory 1MiB;max_size 40MiB", mount("/a", tr.dir, "ttl 300ms")))
			srv.WaitReady(t)
			for n := range files / 2 {
				waitHit(t, srv, "/a", tr, name(n), 10*time.Second)
			}
			waitQuiet(t, srv)

			// It comes over a load.
			quiet := len(srv.Logs())
			var whole atomic.Int64
			asks := func() error {
				var header []string
				if rand.IntN(3) == 0 {
					header = []string{"Range: bytes=0-" + fmt.Sprint(rand.IntN(5000))}
				}
				a, err := get(srv, "/a", tr, name(rand.IntN(files)), header...)
				if err != nil {
					return err
				}
				if a.status != 200 && a.status != 206 && a.status != 416 {
					return fmt.Errorf("status %d, %s", a.status, a.cache())
				}
				whole.Add(1)
				return nil
			}
			undo := make(chan func(), 1)
			time.AfterFunc(500*time.Millisecond, func() {
				defer close(undo) // if it fails, too
				undo <- trouble()
			})
			during(t, srv, 4*time.Second, 4, asks)
			var hits int
			for n := range files {
				if a := mustGet(t, srv, "/a", tr, name(n)); a.hit() || a.cache() == "mirror; fwd=stale; fwd-status=304" {
					hits++
				}
			}
			s := theCache(t, srv)
			lines := loud(srv.Logs()[quiet:])
			t.Logf("%d answers; then %s, %d entries, %d hits, %d lines in the log", whole.Load(), s.State, s.Entries, hits, lines)
			if tt.hits && hits < files/4 {
				t.Errorf("%d of %d files are served from the cache", hits, files)
			}
			if lines > 8 {
				t.Errorf("%d lines in the log are too many", lines)
			}

			back, ok := <-undo
			if !ok {
				t.Fatal("there was no trouble")
			}
			back()
			wait(t, 10*time.Second, "ready", func() bool { return theCache(t, srv).State == "ready" })
			tr.add(t, "new-small", 1000)
			tr.add(t, "new-large", 3<<20)
			for _, name := range []string{"new-small", "new-large", name(0), name(files - 1)} {
				waitHit(t, srv, "/a", tr, name, 10*time.Second)
			}
			during(t, srv, time.Second, 4, asks)
			sound(t, srv, cache)
			if n := loud(srv.Logs()[quiet:]); n > lines+2 {
				t.Errorf("%d more lines in the log", n-lines)
			}
		})
	}
}
