package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// leave moves a tree away, as if its file system were not mounted, until
// back is called.
func (tr *tree) leave(t testing.TB) (back func()) {
	t.Helper()
	away := tr.dir + ".away"
	if err := os.Rename(tr.dir, away); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := os.Rename(away, tr.dir); err != nil {
			t.Fatal(err)
		}
	}
}

// sound waits until the cache says of itself what du says, and holds nothing
// that it should not.
func sound(t testing.TB, srv *testcaddy.Server, cache string) {
	t.Helper()
	var s cacheStatus
	var disk int64
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if s, disk = theCache(t, srv), usage(t, cache); s.State == "ready" && s.Filling == 0 && s.Size == disk {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("the cache is %s, has %d fills under way and counts %d bytes; on disk are %d", s.State, s.Filling, s.Size, disk)
			break
		}
	}
	if temps, err := os.ReadDir(cache + "/tmp"); err != nil || len(temps) > 0 {
		t.Errorf("temporary files are left: %v, %v", temps, err)
	}
}

// load asks for files of a tree at random, whole and in part, while others
// come in their place, until stop is closed. Only wrong bytes fail the test:
// a file may change while it is copied, and the server may end.
func load(t *testing.T, srv *testcaddy.Server, prefix string, tr *tree, size func(n int) int64, stop <-chan struct{}) (done func()) {
	names := tr.names()
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				name := names[rand.IntN(len(names))]
				var header []string
				if rand.IntN(4) == 0 {
					header = []string{byteRange(rand.Int64N(1+tr.newest(name).size), 1+rand.Int64N(100_000))}
				}
				if _, err := get(srv, prefix, tr, name, header...); errors.Is(err, errWrong) {
					t.Error(err)
				}
			}
		})
	}
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			n := rand.IntN(len(names))
			put := tr.put
			if rand.IntN(3) == 0 {
				put = tr.putNow
			}
			if err := put(names[n], size(n)); err != nil {
				t.Errorf("churn: %v", err)
				return
			}
		}
	})
	return wg.Wait
}

// However often the mirror is killed, in the middle of fills, evictions and
// replacements: what it serves after that is what the origin has, or had, and
// its books are right.
func TestKill(t *testing.T) {
	tr := newTree(t)
	const files = 100
	size := func(n int) int64 {
		switch {
		case n < 60:
			return rand.Int64N(12_000)
		case n < 90:
			return rand.Int64N(1 << 20)
		}
		return 1<<20 + rand.Int64N(5<<20)
	}
	name := func(n int) string { return fmt.Sprintf("dir%d/file%02d", n%7, n) }
	// The churn finds files by their place in the sorted list.
	for n := range files {
		tr.add(t, name(n), size(n))
	}
	cache := t.TempDir()
	config := site("path "+cache+";max_size 32MiB;memory 2MiB",
		mount("/a", tr.dir, "ttl 300ms;revalidate_timeout 15s;timeout 15s"))
	srv := testcaddy.Start(t, config)

	var hits, fills int
	for round := range 12 {
		stop := make(chan struct{})
		done := load(t, srv, "/a", tr, size, stop)
		time.Sleep(time.Duration(50+rand.IntN(1500)) * time.Millisecond)
		srv.Kill()
		close(stop)
		done()
		srv.Client.CloseIdleConnections()
		if t.Failed() {
			t.FailNow()
		}

		away := round%3 == 2
		back := func() {}
		if away {
			back = tr.leave(t)
		}
		srv.Restart(config)
		srv.WaitReady(t)
		time.Sleep(300 * time.Millisecond) // nothing is fresh any more
		for _, name := range tr.names() {
			a, err := get(srv, "/a", tr, name)
			newest := tr.newest(name)
			switch {
			case err != nil:
				t.Errorf("round %d: GET %s: %v", round, name, err)
			case away && a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "":
			case away && a.status == http.StatusOK && a.hit():
				hits++
			case away:
				t.Errorf("round %d: GET %s: status %d, %s, while the origin is away", round, name, a.status, a.cache())
			case a.status != http.StatusOK:
				t.Errorf("round %d: GET %s: status %d", round, name, a.status)
			case a.of != newest:
				t.Errorf("round %d: GET %s: version %d, and the origin has %d: %s", round, name, a.of.n, newest.n, a.cache())
			default:
				fills++
			}
		}
		sound(t, srv, cache)
		if n := theCache(t, srv).Corrupt; n > 0 {
			t.Errorf("%d entries are corrupt", n)
		}
		back()
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("%d answers of the origin's newest version, %d from the cache alone", fills, hits)
	if hits < 20 {
		t.Errorf("the cache alone has answered %d times: too few to show anything", hits)
	}
}
