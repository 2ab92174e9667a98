package mirrorcache

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// TestPartOfLarge: one small part of a large object costs that part. The second,
// and a large one, have the object filled, and so has any part of a small one.
func TestPartOfLarge(t *testing.T) {
	tree := t.TempDir()
	large, small := bytes.Repeat([]byte("0123456789abcdef"), 2<<20), bytes.Repeat([]byte("x"), 1<<20)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		write(t, tree, name, large)
	}
	write(t, tree, "small", small)
	s := newSite(t, mount("/t", `, "ttl": "1h"`, tree))
	read := func() uint64 { return s.app.Status().Mounts[0].Origins[0].ReadBytes }
	entries := func() int { s.settle(t); return s.app.Status().Mounts[0].Entries }

	s.ask(t, "GET", "/t/a", "Range: bytes=0-0").want(t, 206, large[:1], "fwd=uri-miss; fwd-status=206")
	s.ask(t, "GET", "/t/b", "Range: bytes=-1000").want(t, 206, large[len(large)-1000:], "fwd=uri-miss; fwd-status=206")
	s.ask(t, "GET", "/t/c", "Range: bytes=7-9").want(t, 206, large[7:10], "fwd=uri-miss; fwd-status=206")
	if n := read(); n > 4<<20 || entries() != 0 {
		t.Errorf("parts of three large objects cost %d bytes of the origin, and %d entries", n, entries())
	}
	if n := s.h.Mounts[0].past.Load(); n != 0 {
		t.Errorf("%d bodies are still open", n)
	}
	s.ask(t, "GET", "/t/a", "Range: bytes=5-9").want(t, 206, large[5:10], "fwd=uri-miss; fwd-status=200; stored")
	if n := entries(); n != 1 {
		t.Errorf("an object that was asked for again: %d entries, want 1", n)
	}
	s.ask(t, "GET", "/t/a", "Range: bytes=5-9").want(t, 206, large[5:10], "hit")
	s.ask(t, "GET", "/t/d", "Range: bytes=100-").want(t, 206, large[100:], "fwd=uri-miss; fwd-status=200; stored")
	s.ask(t, "GET", "/t/e", "Range: bytes=0-0,9-9").wantStatus(t, 206)
	s.ask(t, "GET", "/t/small", "Range: bytes=0-0").want(t, 206, small[:1], "fwd=uri-miss; fwd-status=200; stored")
	if n := entries(); n != 4 {
		t.Errorf("%d entries, want 4", n)
	}
	s.ask(t, "GET", "/t/b", "Range: bytes=99999999-").wantStatus(t, 416)
	s.ask(t, "GET", "/t/c", "Range: items=0-5").want(t, 200, large, "fwd=uri-miss")
}

// counted is an origin that takes its time to open a file, and counts how many
// are open.
type counted struct {
	origin.Tree
	delay      time.Duration
	open, most atomic.Int64
}

func (c *counted) Open(ctx context.Context, name string, offset int64) (origin.Body, error) {
	n := c.open.Add(1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	time.Sleep(c.delay)
	b, err := c.Tree.Open(ctx, name, offset)
	if err != nil {
		c.open.Add(-1)
		return nil, err
	}
	return &countedBody{b, c}, nil
}

type countedBody struct {
	origin.Body
	c *counted
}

func (b *countedBody) Close() error {
	b.c.open.Add(-1)
	return b.Body.Close()
}

// TestCrawl: a crawl of cold objects of a slow origin opens so many files and no
// more, and leaves room for the other mount.
func TestCrawl(t *testing.T) {
	const objects = 600
	slow, swift := t.TempDir(), t.TempDir()
	for n := range objects {
		write(t, slow, fmt.Sprint("f", n), bytes.Repeat([]byte("x"), 5000))
	}
	for n := range 50 {
		write(t, swift, fmt.Sprint("f", n), bytes.Repeat([]byte("y"), 5000))
	}
	s := newSite(t, mount("/slow", "", slow), mount("/swift", "", swift))
	m := s.h.Mounts[0]
	o := &counted{Tree: m.origins[0].Tree, delay: 100 * time.Millisecond}
	m.origins[0].Tree = o
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	var bad atomic.Int64
	for n := range objects {
		wg.Go(func() {
			if a := s.ask(t, "GET", fmt.Sprint("/slow/f", n)); a.status != http.StatusOK || len(a.body) != 5000 {
				bad.Add(1)
			}
		})
	}
	waiting := 0
	for end := time.Now().Add(5 * time.Second); waiting == 0 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		waiting = s.app.Status().Mounts[0].Waiting
	}
	if waiting == 0 {
		t.Error("no fill waits for its turn")
	}
	// A request has three goroutines here: the test's, the client's and the server's.
	if n := runtime.NumGoroutine() - before; n > 5*objects+2*128 {
		t.Errorf("%d goroutines for %d requests", n, objects)
	}
	start := time.Now()
	for n := range 50 {
		s.ask(t, "GET", fmt.Sprint("/swift/f", n)).want(t, 200, nil, "fwd=uri-miss")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("50 objects of the other mount took %v", took)
	}
	wg.Wait()
	if n := o.most.Load(); n > 96 {
		t.Errorf("%d files were open at once, want 96 at most", n)
	}
	if bad.Load() > 0 {
		t.Errorf("%d of %d requests failed", bad.Load(), objects)
	}
	t.Logf("%d files open at once at most, %d fills waiting", o.most.Load(), waiting)
}

// TestPastIsBounded: clients that read slowly past the cache do not take any
// number of descriptors; the one too many is told to come again.
func TestPastIsBounded(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", bytes.Repeat([]byte("x"), 6<<20))
	s := newSite(t, mount("/t", "", tree))
	m := s.h.Mounts[0]
	m.past.Store(maxPast)
	a := s.ask(t, "GET", "/t/f", "Range: bytes=0-9")
	a.want(t, 503, nil, "fwd=uri-miss; fwd-status=503; detail=busy")
	if a.header.Get("Retry-After") == "" {
		t.Error("it is not told when to come again")
	}
	m.past.Store(0)
	s.ask(t, "GET", "/t/f").wantStatus(t, 200)
}
