package mirrorcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// broken is an origin whose files can be looked at, and not be read.
type broken struct {
	origin.Tree
	open func(context.Context) error // before a file is opened
	read func() error                // in place of a read; nil: it is read
}

func (b *broken) Open(ctx context.Context, name string, offset int64) (origin.Body, error) {
	if b.open != nil {
		if err := b.open(ctx); err != nil {
			return nil, err
		}
	}
	body, err := b.Tree.Open(ctx, name, offset)
	if err != nil || b.read == nil {
		return body, err
	}
	return &brokenBody{body, b.read}, nil
}

type brokenBody struct {
	origin.Body
	read func() error
}

func (b *brokenBody) Read([]byte) (int, error) { return 0, b.read() }

// TestOldEntryIsBetterThanBroken: what has changed at the origin and cannot be
// had is served as it was, while the origin still hangs.
func TestOldEntryIsBetterThanBroken(t *testing.T) {
	t.Parallel()
	away := func(<-chan struct{}) error { return fmt.Errorf("%w: input/output error", origin.ErrAway) }
	hang := func(answered <-chan struct{}) error { <-answered; return away(nil) }
	changing := func(<-chan struct{}) error { return errors.New("the file was changed while it was read") }
	for _, tc := range []struct {
		name       string
		open, read func(answered <-chan struct{}) error
	}{
		{"open fails", away, nil},
		{"open hangs", hang, nil},
		{"first read fails", nil, away},
		{"first read hangs", nil, hang},
		{"file changes again and again", nil, changing},
	} {
		for _, large := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.name, " large ", large), func(t *testing.T) {
				t.Parallel()
				old, changed := []byte("the old version"), []byte("the new one")
				if large {
					old, changed = bytes.Repeat([]byte("old "), 1<<20), bytes.Repeat([]byte("new"), 1<<20)
				}
				tree := t.TempDir()
				write(t, tree, "f", old)
				s := newSite(t, mount("/t", `, "ttl": "1ms", "revalidate_timeout": "300ms"`, tree))
				s.ask(t, "GET", "/t/f").want(t, 200, old, "fwd=uri-miss")
				write(t, tree, "f", changed)
				m := s.h.Mounts[0]
				answered := make(chan struct{})
				end := sync.OnceFunc(func() { close(answered) })
				limit := time.AfterFunc(time.Minute, end)
				defer func() {
					if !limit.Stop() {
						t.Error("an answer waited for as long as the origin hung")
					}
					end()
				}()
				b := &broken{Tree: m.origins[0].Tree}
				if tc.open != nil {
					b.open = func(context.Context) error { return tc.open(answered) }
				}
				if tc.read != nil {
					b.read = func() error { return tc.read(answered) }
				}
				m.origins[0].Tree = b
				for _, fields := range [][]string{nil, {"Range: bytes=4-7"}, {"Range: bytes=-3"}, nil} {
					time.Sleep(5 * time.Millisecond)
					a := s.ask(t, "GET", "/t/f", fields...)
					switch {
					case fields == nil:
						a.want(t, 200, old, "hit; ttl=-")
					case fields[0] == "Range: bytes=4-7":
						a.want(t, 206, old[4:8], "hit; ttl=-")
					default:
						a.want(t, 206, old[len(old)-3:], "hit; ttl=-")
					}
				}
			})
		}
	}
}

// TestAwaitUntilSeesTheByte: a byte that has come in time is not taken for one
// that has not, however busy the machine.
func TestAwaitUntilSeesTheByte(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", bytes.Repeat([]byte("x"), 100))
	s := newSite(t, mount("/t", "", tree))
	s.ask(t, "GET", "/t/f")
	s.settle(t)
	m := s.h.Mounts[0]
	e, ok := m.cache.Open().Get(m.key("f"))
	if !ok {
		t.Fatal("not cached")
	}
	defer e.Close()
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range 4 * runtime.GOMAXPROCS(0) {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					runtime.Gosched()
				}
			}
		})
	}
	defer busy.Wait()
	defer close(stop)
	for n := range 200_000 {
		o := object{body: &body{m: m, key: "f", meta: diskcache.Meta{Size: 100}, entry: e}, until: time.Now().Add(time.Minute)}
		if err := o.awaitUntil(context.Background(), 0); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
	}
}

// TestChangingIsNotMissing: a file that changes while it is read is not told to be
// missing.
func TestChangingIsNotMissing(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("a file"))
	s := newSite(t, mount("/t", "", tree))
	m := s.h.Mounts[0]
	m.origins[0].Tree = &broken{m.origins[0].Tree, nil, func() error {
		return errors.New("the file was changed while it was read")
	}}
	w := httptest.NewRecorder() // a real client would try again after a panic
	serveAs(s.h, w, httptest.NewRequest(http.MethodGet, "/t/f", nil))
	if got := w.Header().Get("Cache-Status"); w.Code != 503 || got != statusAway {
		t.Errorf("%d, %s", w.Code, got)
	}
}

// TestOldEntryBecomesTooOld: an entry that passes max_stale while its new version is
// waited for is not served, and the answer says that there is none.
func TestOldEntryBecomesTooOld(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("old"))
	s := newSite(t, mount("/t", `, "ttl": "1ms", "max_stale": "600ms", "revalidate_timeout": "1s"`, tree))
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("old"), "fwd=uri-miss")
	write(t, tree, "f", []byte("the new one"))
	m := s.h.Mounts[0]
	hang := func(context.Context) error {
		time.Sleep(2 * time.Second)
		return fmt.Errorf("%w: input/output error", origin.ErrAway)
	}
	m.origins[0].Tree = &broken{m.origins[0].Tree, hang, nil}
	time.Sleep(5 * time.Millisecond)
	w := httptest.NewRecorder() // a real client would try again after a panic
	serveAs(s.h, w, httptest.NewRequest(http.MethodGet, "/t/f", nil))
	if got := w.Header().Get("Cache-Status"); w.Code != 503 || got != statusAway {
		t.Errorf("%d, %s", w.Code, got)
	}
}

// TestWebFailureTrickles: a failure whose body does not come is answered in time.
func TestWebFailureTrickles(t *testing.T) {
	s, _ := newWeb(t, "", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "60000")
		w.WriteHeader(http.StatusInternalServerError)
		for r.Context().Err() == nil {
			fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	})
	start := time.Now()
	s.ask(t, "GET", "/w/f").want(t, 500, nil, "")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestWebFailureFields: what an upstream says of itself or to one client is not passed on
// with its failure either.
func TestWebFailureFields(t *testing.T) {
	s, _ := newWeb(t, "", give(503, "down", "Set-Cookie: a=b", "Server: x", "Retry-After: 1", "X-Why: y"))
	a := s.ask(t, "GET", "/w/f")
	a.want(t, 503, []byte("down"), "")
	if h := a.header; h["Set-Cookie"] != nil || h["Server"] != nil || h.Get("X-Why") != "y" || h.Get("Retry-After") == "" {
		t.Errorf("%v", h)
	}
}

// TestWebLongTarget: a target that is longer than any should be is refused, since it is
// kept in many places.
func TestWebLongTarget(t *testing.T) {
	s, u := newWeb(t, "", give(200, "x"))
	a := s.ask(t, "GET", "/w/f?"+strings.Repeat("q", maxTarget))
	if a.status != 414 || u.asks() != 0 {
		t.Errorf("status %d, asked for %d times", a.status, u.asks())
	}
	s.ask(t, "GET", "/w/f?"+strings.Repeat("q", maxTarget-2)).want(t, 200, []byte("x"), "")
}
