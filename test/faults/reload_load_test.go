package faults

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// counters are the samples of our metrics that only ever grow.
func counters(srv *testcaddy.Server) (map[string]float64, error) {
	data, err := srv.AdminGet("/metrics")
	if err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(data)) {
		series, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		name, _, _ := strings.Cut(series, "{")
		if !ok || !strings.HasPrefix(name, "caddy_mirror_") {
			continue
		}
		for _, suffix := range []string{"_total", "_count", "_sum", "_bucket"} {
			if strings.HasSuffix(name, suffix) {
				if all[series], err = strconv.ParseFloat(value, 64); err != nil {
					return nil, fmt.Errorf("%q: %w", line, err)
				}
			}
		}
	}
	return all, nil
}

// Reloads in the middle of fills and downloads: those go on, also of a mount
// that is no longer there.
func TestReloadMidway(t *testing.T) {
	const size = 12 << 20
	tr := newTree(t)
	for _, name := range []string{"kept", "moved", "gone", "alone"} {
		tr.add(t, name, size)
	}
	slow := bind(t, tr.dir, "--multithreaded", "--read-rate=4M")
	cache := t.TempDir()
	a, b := mount("/a", slow.dir, "ttl 1h"), mount("/b", slow.dir, "ttl 1h;timeout 5s")
	config := func(mounts ...string) string { return site("path "+cache+";max_size 1GiB", mounts...) }
	srv := testcaddy.Start(t, config(a, b))
	srv.WaitReady(t)

	type outcome struct {
		what string
		a    answer
		err  error
	}
	var begun int
	ended := make(chan outcome, 10)
	begin := func(prefix, name string, header ...string) {
		begun++
		go func() {
			a, err := get(srv, prefix, tr, name, header...)
			ended <- outcome{fmt.Sprint(prefix, "/", name, header), a, err}
		}()
	}
	begin("/a", "kept")
	begin("/a", "kept", byteRange(1<<20, 2<<20))
	begin("/b", "gone")
	begin("/b", "gone", byteRange(size-1000, 1000))
	wait(t, 20*time.Second, "two fills", func() bool {
		return theCache(t, srv).Filling == 2 && srv.Origins(t, "/a")[0].ReadBytes > 2<<20
	})
	// A client that leaves its fill alone, over the reload as well.
	if err := leave(srv, "/b/alone", 1000); err != nil {
		t.Fatal(err)
	}

	for range 3 {
		if err := srv.Reload(config(strings.Replace(a, "ttl 1h", "ttl 2h", 1))); err != nil {
			t.Fatal(err)
		}
	}
	srv.Client.CloseIdleConnections()
	if resp, _, err := srv.Get("/b/gone"); err != nil || resp.StatusCode == http.StatusOK && resp.ContentLength > 0 {
		t.Errorf("a mount that is gone answers: %v, %v", resp, err)
	}
	begin("/a", "kept") // joins the fill of the configuration before
	for range begun {
		o := <-ended
		if o.err != nil || o.a.status != http.StatusOK && o.a.status != http.StatusPartialContent {
			t.Errorf("%s: status %d: %v", o.what, o.a.status, o.err)
		}
	}
	waitQuiet(t, srv)
	if err := srv.Reload(config(a, b)); err != nil {
		t.Fatal(err)
	}
	before := srv.Touches(t, "/b") + srv.Touches(t, "/a")
	for _, path := range []string{"/a/kept", "/b/gone", "/b/alone"} {
		if a := mustGet(t, srv, path[:2], tr, path[3:]); !a.hit() {
			t.Errorf("%s is no hit after its fill lived through reloads: %s", path, a.cache())
		}
	}
	if n := srv.Touches(t, "/b") + srv.Touches(t, "/a"); n != before {
		t.Errorf("the origin was touched %d times", n-before)
	}
	sound(t, srv, cache)
}

// Reload after reload, under load: no answer breaks, nothing is leaked, and no
// counter goes back.
func TestReloads(t *testing.T) {
	needProc(t)
	tr := newTree(t)
	const files = 60
	name := func() string { return fmt.Sprintf("file%d", rand.IntN(files)) }
	for n := range int64(files) {
		tr.add(t, fmt.Sprintf("file%d", n), 1000+n*n*500)
	}
	cache, cache2 := t.TempDir(), t.TempDir()
	config := func(n int) string {
		// The bound changes, the disk is evicted, a second cache comes and goes.
		c := site(fmt.Sprintf("path %s;memory %dMiB;max_size %dMiB", cache, 1+n%3, 14+n%5*4),
			mount("/a", tr.dir, fmt.Sprintf("ttl %dms", 200+n)))
		if n%3 == 0 {
			c = strings.Replace(c, "mirror {", "mirror {\ncache other {\npath "+cache2+"\nmax_size 8MiB\n}", 1)
			c = strings.Replace(c, "mirror_cache {", "mirror_cache {\n"+mount("/b", tr.dir, "cache other"), 1)
		}
		return c
	}
	srv := testcaddy.Start(t, config(0))
	srv.WaitReady(t)

	// Caddy closes connections that a request is just under way on, whatever
	// its handlers; what has a status must come in full.
	var whole, unheard atomic.Int64
	asks := func() error {
		a, err := get(srv, "/a", tr, name())
		switch {
		case err != nil && a.status == 0:
			unheard.Add(1)
		case err != nil:
			return err
		case a.status != http.StatusOK:
			return fmt.Errorf("status %d", a.status)
		default:
			whole.Add(1)
		}
		return nil
	}
	during(t, srv, time.Second, 4, asks)
	srv.Client.CloseIdleConnections()
	filesBefore, threadsBefore := openFiles(t, srv.Pid()), threads(t, srv.Pid())
	last, err := counters(srv)
	if err != nil || len(last) < 10 {
		t.Fatalf("%d counters: %v", len(last), err)
	}

	reloads := make(chan int)
	stop := make(chan struct{})
	go func() {
		n := 1
		defer func() { reloads <- n - 1 }()
		for ; n <= 50; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := srv.Reload(config(n)); err != nil {
				t.Errorf("reload %d: %v", n, err)
				return
			}
			now, err := counters(srv)
			if err != nil {
				t.Errorf("reload %d: %v", n, err)
				return
			}
			for series, was := range last {
				is, ok := now[series]
				if !ok && (strings.Contains(series, `"/b"`) || strings.Contains(series, `"other"`)) {
					continue // nobody asks for what is not configured
				}
				if !ok || is < was {
					t.Errorf("reload %d: %s} was %v, and is %v (there: %v)", n, series, was, is, ok)
				}
			}
			last = now
		}
	}()
	var done int
	ended := false
	for deadline := time.Now().Add(30 * time.Second); !ended && time.Now().Before(deadline) && !t.Failed(); {
		during(t, srv, 500*time.Millisecond, 4, asks)
		select {
		case done = <-reloads:
			ended = true
		default:
		}
	}
	if !ended {
		close(stop)
		done = <-reloads
	}
	t.Logf("%d reloads, %d answers, %d requests unheard", done, whole.Load(), unheard.Load())
	if done < 20 || unheard.Load() > whole.Load()/4 {
		t.Error("that is too little to show anything")
	}
	if n, ok := last[`caddy_mirror_requests_total{mount="/a",result="aborted"`]; !ok || n > 0 {
		t.Errorf("%v answers were aborted", n)
	}
	srv.Client.CloseIdleConnections()
	wait(t, 10*time.Second, fmt.Sprintf("down to about %d descriptors", filesBefore), func() bool {
		return openFiles(t, srv.Pid()) <= filesBefore+20
	})
	if n := threads(t, srv.Pid()); n > threadsBefore+30 {
		t.Errorf("the server has %d threads, and %d before", n, threadsBefore)
	}
}
