package faults

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// held is what the server has on disk for its cache at this moment: files
// that are unlinked but still open included.
func held(srv *testcaddy.Server, cache string) (n int64, err error) {
	err = freeze(srv.Pid(), func() error {
		seen := map[file]bool{}
		if n, err = du(cache, seen); err != nil {
			return err
		}
		gone, err := unlinked(srv.Pid(), cache, seen)
		n += gone
		return err
	})
	return n, err
}

// watch looks again and again at what the server holds, until it is stopped.
func watch(t *testing.T, srv *testcaddy.Server, cache string, limit int64) (stop func() (samples int, most int64)) {
	var samples int
	var most int64
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-end:
				return
			case <-time.After(time.Duration(rand.IntN(15)) * time.Millisecond):
			}
			n, err := held(srv, cache)
			if err != nil {
				t.Errorf("looking at what the server holds: %v", err)
				return
			}
			samples++
			if most = max(most, n); n > limit {
				t.Errorf("%d bytes are on disk, of %d that may be", n, limit)
				return
			}
		}
	})
	return func() (int, int64) {
		close(end)
		wg.Wait()
		return samples, most
	}
}

// linger begins to read a file and keeps the connection for as long as the
// test takes, so that the entry stays in use.
func linger(t *testing.T, srv *testcaddy.Server, path string) {
	t.Helper()
	c, err := dial(srv, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 4096), nil)
	if err == nil {
		_, err = io.CopyN(io.Discard, resp.Body, 1000)
	}
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
}

// The bound holds at any instant, while ten times as much is filled, while
// readers keep entries that are long evicted, and when it is lowered.
func TestBound(t *testing.T) {
	needProc(t)
	const bound, lower = 32 << 20, 12 << 20
	tr := newTree(t)
	var total int64
	for n := 0; total < 10*bound; n++ {
		size := rand.Int64N(8 << 10)
		switch n % 4 {
		case 0:
			size = 1 + rand.Int64N(4<<20)
		case 1:
			size = 1 + rand.Int64N(300<<10)
		}
		tr.add(t, fmt.Sprintf("file%d", n), size)
		total += size
	}
	tr.add(t, "kept0", 4<<20)
	tr.add(t, "kept1", 4<<20)
	names := tr.names()
	cache := t.TempDir()
	config := func(size int64) string {
		return site(fmt.Sprintf("path %s;memory 1MiB;max_object 6MiB;max_size %d", cache, size), mount("/a", tr.dir, "ttl 1h"))
	}
	srv := testcaddy.Start(t, config(bound))
	srv.WaitReady(t)

	storm := func(d time.Duration, limit int64) {
		t.Helper()
		stop := watch(t, srv, cache, limit)
		var next, whole atomic.Int64
		end := time.Now().Add(d)
		together(6, func(int) {
			for int(next.Load()) < len(names) && time.Now().Before(end) && !t.Failed() {
				name := names[int(next.Add(1)-1)%len(names)]
				if err := stay(srv, "/a", tr, name, &whole); err != nil {
					t.Error(err)
				}
			}
		})
		samples, most := stop()
		t.Logf("%d answers, %d samples, at most %d of %d bytes", whole.Load(), samples, most, limit)
		if samples < 10 {
			t.Errorf("%d samples are too few to show anything", samples)
		}
		if most < limit/2 {
			t.Errorf("the cache was never half full: %d bytes at most", most)
		}
	}

	linger(t, srv, "/a/kept0")
	linger(t, srv, "/a/kept1")
	storm(14*time.Second, bound)
	if t.Failed() {
		return
	}
	sound(t, srv, cache)

	if err := srv.Reload(config(lower)); err != nil {
		t.Fatal(err)
	}
	wait(t, 5*time.Second, "shrunk", func() bool {
		n, err := held(srv, cache)
		return err == nil && n <= lower
	})
	storm(4*time.Second, lower)
}

// The disk is smaller than the bound: then the disk is the bound, and no
// client notices.
func TestSmallDisk(t *testing.T) {
	for _, tt := range []struct {
		minFree string
		percent int64
	}{{"2%", 2}, {"0", 0}} {
		t.Run("min_free "+tt.minFree, func(t *testing.T) {
			disk := tmpfs(t, "64M")
			tr := newTree(t)
			var total int64
			for n := 0; total < 160<<20; n++ {
				size := rand.Int64N(20 << 10)
				if n%3 == 0 {
					size = 1 + rand.Int64N(6<<20)
				}
				tr.add(t, fmt.Sprintf("file%d", n), size)
				total += size
			}
			tr.add(t, "large", 30<<20)
			tr.add(t, "too-large", 70<<20)
			names := tr.names()
			cache := disk + "/cache"
			srv := testcaddy.Start(t, site("path "+cache+";memory 1MiB;max_size 1GiB;max_object 1GiB;min_free "+tt.minFree,
				mount("/a", tr.dir, "ttl 1h")))
			srv.WaitReady(t)

			// All of it, and in part at a time.
			var next, whole atomic.Int64
			together(5, func(int) {
				for {
					n := int(next.Add(1) - 1)
					if n >= 2*len(names) || t.Failed() {
						return
					}
					if err := stay(srv, "/a", tr, names[n%len(names)], &whole); err != nil {
						t.Error(err)
					}
				}
			})
			if t.Failed() {
				return
			}
			sound(t, srv, cache)
			var st syscall.Statfs_t
			if err := syscall.Statfs(disk, &st); err != nil {
				t.Fatal(err)
			}
			if free := int64(st.Bavail) * 100; free < int64(st.Blocks)*tt.percent {
				t.Errorf("%d of %d blocks are free, which is less than %d%%", st.Bavail, st.Blocks, tt.percent)
			}
			s := theCache(t, srv)
			t.Logf("%d answers; %d entries of %d bytes", whole.Load(), s.Entries, s.Size)
			if s.Size < 16<<20 {
				t.Errorf("the cache holds %d bytes on a disk of 64 MiB", s.Size)
			}
			if n := loud(srv.Logs()); n > 6 {
				t.Errorf("%d lines in the log", n)
			}
			// It goes on to take what is asked for.
			for _, name := range []string{"file0", "file1", "file2"} {
				waitHit(t, srv, "/a", tr, name, 10*time.Second)
			}
		})
	}
}
