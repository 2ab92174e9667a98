package upstreams

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/upstreams/faulty"
)

// pause is a little longer than a ttl of 1ms.
func pause() { time.Sleep(20 * time.Millisecond) }

// TestKilled kills the mirror in the middle of fills, again and again. What it has
// afterwards, with the upstream away, is whole or not there; with the upstream back, all is
// right.
func TestKilled(t *testing.T) {
	const size, objects = 1 << 20, 40
	between := faulty.Start(t, newContents(t, size).URL)
	between.Set(faulty.Slow(32<<10, 10*time.Millisecond))
	config := site("path "+t.TempDir(), mount("/x", between.URL, "ttl 1h"))
	srv := startMirror(t, config)
	check := func(i int) (stored bool) {
		t.Helper()
		name := fmt.Sprintf("object%d", i)
		got := ask(srv, http.MethodGet, "/x/"+name)
		whole := got.Response != nil && got.err == nil && got.StatusCode == http.StatusOK
		if whole && !bytes.Equal(got.body, content(name, 1, size)) {
			t.Errorf("%s: %v, with wrong bytes", name, got)
		}
		return whole
	}
	stored := 0
	for round := range 4 {
		var clients sync.WaitGroup
		done := make(chan struct{}, objects)
		for i := range objects {
			clients.Go(func() {
				ask(srv, http.MethodGet, fmt.Sprintf("/x/object%d", i)) // most break off
				done <- struct{}{}
			})
		}
		for range stored + 5 { // the stored ones come at once
			<-done
		}
		srv.Kill()
		clients.Wait()
		between.Refuse()
		srv.Restart(config)
		srv.WaitReady(t)
		stored = 0
		for i := range objects {
			if check(i) {
				stored++
			}
		}
		t.Logf("round %d: %d of %d objects are stored", round, stored, objects)
		between.Accept()
		waitState(t, srv, "/x", "up")
	}
	if stored == 0 || stored == objects {
		t.Errorf("%d of %d objects are stored: this test shows nothing", stored, objects)
	}
	between.Set(faulty.Honest)
	for i := range objects {
		if !check(i) {
			t.Errorf("object %d cannot be had", i)
		}
	}
}

// TestReloaded reloads the configuration again and again with fills under way: no client
// notices, and each object is asked for once, save for parts that lie far ahead.
func TestReloaded(t *testing.T) {
	const size, objects = 1 << 20, 30
	between := faulty.Start(t, newContents(t, size).URL)
	between.Set(faulty.Slow(32<<10, 20*time.Millisecond))
	dir := t.TempDir()
	config := func(ttl int) string {
		return site("path "+dir, mount("/x", between.URL, fmt.Sprintf("ttl %dh", ttl)))
	}
	srv := startMirror(t, config(1))
	done := make(chan struct{})
	go func() {
		defer close(done)
		crowd(t, plain(srv), "/x", 2*objects, objects, size)
	}()
	reloads := 0
	for ttl := 2; ; ttl++ {
		select {
		case <-done:
			if reloads < 2 {
				t.Errorf("%d reloads in time: this test shows nothing", reloads)
			}
			for i := range objects {
				n := 0
				for _, r := range between.Seen() {
					if r.Target == fmt.Sprintf("/object%d", i) && r.Header["Range"] == nil {
						n++
					}
				}
				if n != 1 {
					t.Errorf("the whole of object %d was asked for %d times, want once", i, n)
				}
			}
			return
		case <-time.After(100 * time.Millisecond):
		}
		if err := srv.Reload(config(ttl)); err != nil {
			t.Error(err)
		}
		reloads++
	}
}

// TestPause shows that a 429 with Retry-After holds for all clients and all objects of the
// upstream, however many want something, and not longer.
func TestPause(t *testing.T) {
	const size = 1000
	c := newContents(t, size)
	between := faulty.Start(t, c.URL)
	srv := startMirror(t, site("path "+t.TempDir(), mount("/x", between.URL, deadlines+";ttl 1ms")))
	old := content("cached", 1, size)
	if got := ask(srv, http.MethodGet, "/x/cached"); !bytes.Equal(got.body, old) {
		t.Fatal(got)
	}
	pause()
	c.publish("cached")
	between.Set(faulty.Status(http.StatusTooManyRequests, "Retry-After: 3"))
	between.Forget()
	begin := time.Now()
	if got := ask(srv, http.MethodGet, "/x/other"); got.Response == nil || got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Retry-After") == "" {
		t.Errorf("%v, Retry-After %q, want the upstream's 429", got, got.Header.Get("Retry-After"))
	}
	between.Set(faulty.Honest)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			if got := ask(srv, http.MethodGet, "/x/cached"); got.Response == nil || !bytes.Equal(got.body, old) {
				t.Errorf("what is cached: %v", got)
			}
			got := ask(srv, http.MethodGet, fmt.Sprintf("/x/cold%d", i))
			if got.Response == nil || got.StatusCode != http.StatusServiceUnavailable && got.StatusCode != http.StatusTooManyRequests || got.Header.Get("Retry-After") == "" {
				t.Errorf("what is not: %v", got)
			}
		})
	}
	all.Wait()
	if took := time.Since(begin); took > 2500*time.Millisecond {
		t.Fatalf("it took %v to ask: this test shows nothing", took)
	}
	if n := between.Count(""); n != 1 {
		t.Errorf("%d requests to an upstream that wants none, want 1", n)
	}
	time.Sleep(time.Until(begin.Add(4 * time.Second)))
	if got := ask(srv, http.MethodGet, "/x/cached"); !bytes.Equal(got.body, content("cached", 2, size)) {
		t.Errorf("after the pause: %v", got)
	}
}

// TestThroughOurselves shows that a mount whose upstream is the mirror itself ends with 508.
func TestThroughOurselves(t *testing.T) {
	srv := startMirror(t, site("path "+t.TempDir(), mount("/loop", "http://{$ADDR}/loop", deadlines), mount("/a", "http://{$ADDR}/b", deadlines), mount("/b", "http://{$ADDR}/a", deadlines)))
	for _, path := range []string{"/loop/x", "/a/x"} {
		if got := ask(srv, http.MethodGet, path); got.Response == nil || got.StatusCode != http.StatusLoopDetected || got.took > atOnce+slack {
			t.Errorf("%s: %v, want 508", path, got)
		}
	}
}

// TestPooled shows that an upstream that closes connections which are idle is not noticed.
func TestPooled(t *testing.T) {
	const size = 1000
	between := faulty.Start(t, newContents(t, size).URL)
	srv := startMirror(t, site("path "+t.TempDir(), mount("/x", between.URL, "ttl 1h")))
	for i := range 20 {
		name := fmt.Sprintf("object%d", i)
		if got := ask(srv, http.MethodGet, "/x/"+name); got.Response == nil || got.StatusCode != http.StatusOK || !bytes.Equal(got.body, content(name, 1, size)) {
			t.Errorf("%s: %v", name, got)
		}
		between.Cut()
	}
}
