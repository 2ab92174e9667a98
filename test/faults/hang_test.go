package faults

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// latencies asks for files that are cached for a while and returns how long
// the slowest hundredth took at least.
func latencies(t *testing.T, srv *testcaddy.Server, prefix string, tr *tree, d time.Duration) (p99 time.Duration) {
	t.Helper()
	names := tr.names()
	var mu sync.Mutex
	var all []time.Duration
	during(t, srv, d, 2, func() error {
		a, err := get(srv, prefix, tr, names[rand.IntN(len(names))])
		if err != nil {
			return err
		}
		if !a.hit() {
			return fmt.Errorf("no hit: status %d, %s", a.status, a.cache())
		}
		mu.Lock()
		all = append(all, a.took)
		mu.Unlock()
		return nil
	})
	if len(all) < 100 {
		t.Fatalf("%d answers in %v are too few to show anything", len(all), d)
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

// bestLatencies is latencies of the best of three whiles: other processes
// disturb one or the other, a mount that hangs all of them.
func bestLatencies(t *testing.T, srv *testcaddy.Server, prefix string, tr *tree) time.Duration {
	t.Helper()
	best := time.Hour
	for range 3 {
		best = min(best, latencies(t, srv, prefix, tr, 1200*time.Millisecond))
	}
	return best
}

// The file system behind a mount hangs, as AFS does. That costs the mount what
// is not cached, and nobody else anything.
func TestHang(t *testing.T) {
	needProc(t)
	const timeout = 2 * time.Second
	slow, fast := newTree(t), newTree(t)
	const files = 40
	for n := range files {
		slow.add(t, fmt.Sprintf("cached%d", n), 2000+int64(n)*20_000)
		fast.add(t, fmt.Sprintf("file%d", n), 3000+int64(n)*1000)
	}
	const more = 2000
	for n := range more {
		slow.add(t, fmt.Sprintf("new%d", n), 1000)
	}
	slow.add(t, "index.html", 100)
	slow.add(t, "sub/file", 1000)
	mnt := bind(t, slow.dir, "--multithreaded")
	srv := testcaddy.Start(t, site("path "+t.TempDir()+";memory 400KiB",
		mount("/slow", mnt.dir, "ttl 500ms;timeout 2s"), mount("/fast", fast.dir, "ttl 1h")))
	srv.WaitReady(t)
	for n := range files {
		mustGet(t, srv, "/slow", slow, fmt.Sprintf("cached%d", n))
		waitHit(t, srv, "/fast", fast, fmt.Sprintf("file%d", n), 5*time.Second)
	}
	waitQuiet(t, srv)

	// The same clients before and while it hangs.
	var next, refused, stale atomic.Int64
	background := func() (stop func()) {
		end := make(chan struct{})
		var wg sync.WaitGroup
		ask := func(f func()) {
			wg.Go(func() {
				for {
					select {
					case <-end:
						return
					case <-time.After(10 * time.Millisecond):
						f()
					}
				}
			})
		}
		for range 30 {
			ask(func() {
				a, err := get(srv, "/slow", slow, fmt.Sprintf("new%d", next.Add(1)%more))
				switch {
				case err != nil:
					t.Error(err)
				case a.status == http.StatusServiceUnavailable:
					refused.Add(1)
				}
			})
		}
		for range 2 {
			ask(func() {
				a, err := get(srv, "/slow", slow, fmt.Sprintf("cached%d", rand.IntN(files)))
				if err != nil || a.status != http.StatusOK {
					t.Errorf("a cached file: status %d: %v", a.status, err)
				} else if a.hit() {
					stale.Add(1)
				}
			})
		}
		return func() { close(end); wg.Wait() }
	}
	stop := background()
	before := bestLatencies(t, srv, "/fast", fast)
	threadsBefore := threads(t, srv.Pid())
	stop()
	refused.Store(0)
	stale.Store(0)
	next.Store(more / 2)
	if n, err := srv.Purge("/slow", "", "/new"); err != nil || n == 0 {
		t.Fatalf("purging: %d, %v", n, err)
	}

	for _, path := range []string{"/slow/", "/slow/sub"} {
		if _, _, err := srv.Get(path); err != nil {
			t.Fatal(err)
		}
	}
	waitQuiet(t, srv)

	mnt.hang(t)
	hung := time.Now()
	stop = background()
	whileHung := bestLatencies(t, srv, "/fast", fast)
	t.Logf("a hit of the other mount, p99: %v before, %v while it hangs", before, whileHung)
	if most := max(3*before, 20*time.Millisecond); whileHung > most {
		t.Errorf("other mounts are disturbed: %v at most was to be", most)
	}

	t.Run("cached", func(t *testing.T) {
		if d := time.Since(hung); d < time.Second {
			time.Sleep(time.Second - d)
		}
		var late int
		for n := range 3 * files {
			name := fmt.Sprintf("cached%d", n%files)
			a := mustGet(t, srv, "/slow", slow, name)
			if !a.hit() {
				t.Errorf("%s: %s", name, a.cache())
			}
			if a.took > 300*time.Millisecond {
				late++
			}
		}
		if late > 3 {
			t.Errorf("%d of %d answers took more than 300 ms", late, 3*files)
		}
	})
	t.Run("index", func(t *testing.T) {
		resp, body, err := srv.Get("/slow/")
		if err != nil || resp.StatusCode != http.StatusOK || slow.newest("index.html").differs(body, 0) >= 0 {
			t.Errorf("the index file: %v, %v", resp, err)
		}
	})
	t.Run("directory", func(t *testing.T) {
		resp, _, err := srv.Get("/slow/sub")
		if err != nil || resp.StatusCode != http.StatusPermanentRedirect {
			t.Errorf("a directory that is known: %v, %v", resp, err)
		}
	})
	t.Run("uncached", func(t *testing.T) {
		together(20, func(n int) {
			for _, method := range []string{"GET", "HEAD", "GET"} {
				start := time.Now()
				resp, _, err := srv.Do(method, fmt.Sprintf("/slow/no-such-file%d", n))
				if err != nil {
					t.Error(err)
					return
				}
				after, err := strconv.Atoi(resp.Header.Get("Retry-After"))
				if resp.StatusCode != http.StatusServiceUnavailable || err != nil || after < 1 || after > 60 {
					t.Errorf("status %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
				}
				if took := time.Since(start); took > timeout+time.Second {
					t.Errorf("a file that is not cached is refused after %v", took)
				}
			}
		})
	})
	if n := threads(t, srv.Pid()); n > threadsBefore+16+8 {
		t.Errorf("the server has %d threads, and %d before", n, threadsBefore)
	}
	if o := srv.Origins(t, "/slow")[0]; o.State == "up" {
		t.Errorf("the origin counts as %s", o.State)
	}
	stop()
	t.Logf("%d answers of 503, %d stale ones", refused.Load(), stale.Load())
	if refused.Load() < 30 || stale.Load() < 30 {
		t.Error("that is too few to show anything")
	}

	mnt.resume(t)
	wait(t, 10*time.Second, "well again", func() bool {
		fresh, err := get(srv, "/slow", slow, fmt.Sprintf("new%d", next.Add(1)%more))
		if err != nil {
			t.Fatal(err)
		}
		again := mustGet(t, srv, "/slow", slow, "cached7")
		return fresh.status == http.StatusOK && !fresh.hit() && again.cache() == "mirror; fwd=stale; fwd-status=304"
	})
	for _, name := range slow.names()[:files] {
		mustGet(t, srv, "/slow", slow, name)
	}
}

// A download that is under way when its file system hangs is cut off, or goes
// on when that is back: it never ends as if it were whole, and does not keep
// the server from going on.
func TestHangMidway(t *testing.T) {
	slow := newTree(t)
	slow.add(t, "large", 24<<20)
	slow.add(t, "small", 1000)
	mnt := bind(t, slow.dir, "--multithreaded", "--read-rate=4M")
	for _, cache := range []string{"max_size 1GiB", "max_object 1MiB"} {
		t.Run(cache, func(t *testing.T) {
			srv := testcaddy.Start(t, site("path "+t.TempDir()+";"+cache, mount("/slow", mnt.dir, "ttl 1h;timeout 1s")))
			srv.WaitReady(t)
			type outcome struct {
				a   answer
				err error
			}
			ended := make(chan outcome, 3)
			for n := range int64(3) {
				header := []string{byteRange(n, 24<<20-2*n)}
				if n == 0 {
					header = nil
				}
				go func() {
					a, err := get(srv, "/slow", slow, "large", header...)
					ended <- outcome{a, err}
				}()
			}
			wait(t, 10*time.Second, "under way", func() bool { return srv.Origins(t, "/slow")[0].ReadBytes > 2<<20 })
			mnt.hang(t)
			for range 3 {
				select {
				case o := <-ended:
					if o.err == nil {
						t.Errorf("a download of a file system that hangs ended well: status %d, version %d", o.a.status, o.a.of.n)
					} else {
						t.Log(o.err)
					}
				case <-time.After(15 * time.Second):
					t.Fatal("a download hangs with its file system")
				}
			}
			mnt.resume(t)
			wait(t, 10*time.Second, "well again", func() bool {
				a, err := get(srv, "/slow", slow, "small")
				if err != nil {
					t.Fatal(err)
				}
				return a.status == http.StatusOK
			})
			waitQuiet(t, srv)
			a := mustGet(t, srv, "/slow", slow, "large", byteRange(20<<20, 1000))
			if a.hit() {
				t.Errorf("half a file counts as an entry: %s", a.cache())
			}
		})
	}
}
