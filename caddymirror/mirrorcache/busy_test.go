package mirrorcache

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// busyOrigin has no slot free for any call.
type busyOrigin struct{ origin.Tree }

func (busyOrigin) Stat(context.Context, string) (origin.Info, error) {
	return origin.Info{}, origin.ErrBusy
}

func (busyOrigin) Open(context.Context, string, int64) (origin.Body, error) {
	return nil, origin.ErrBusy
}

// TestOriginBusy: an origin without a free slot is like one that is away for what is
// served, and told from it in what is counted.
func TestOriginBusy(t *testing.T) {
	tree, second := t.TempDir(), t.TempDir()
	write(t, tree, "f", []byte("one"))
	s := newSite(t, mount("/t", `, "ttl": "1ms"`, tree), mount("/two", "", tree, second))
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("one"), "fwd=uri-miss")
	for _, m := range s.h.Mounts {
		m.origins[0].Tree = busyOrigin{m.origins[0].Tree}
	}
	time.Sleep(5 * time.Millisecond)

	s.ask(t, "GET", "/t/f").want(t, 200, []byte("one"), "hit; ttl=-")
	m := s.h.Mounts[0]
	before := testutil.ToFloat64(m.metrics.requests[resultBusy])
	for _, method := range []string{"GET", "HEAD"} {
		a := s.ask(t, method, "/t/cold")
		a.want(t, 503, nil, "fwd=uri-miss; fwd-status=503; detail=busy")
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", method)
		}
	}
	if n := testutil.ToFloat64(m.metrics.requests[resultBusy]) - before; n != 2 {
		t.Errorf("%v requests counted as busy, want 2", n)
	}

	write(t, second, "cold", []byte("fall-back"))
	s.ask(t, "GET", "/two/cold").want(t, 200, []byte("fall-back"), "fwd=uri-miss")
}

// waitingOrigin answers when the caller leaves, as origins do.
type waitingOrigin struct {
	origin.Tree
	asked chan struct{}
}

func (o waitingOrigin) Stat(ctx context.Context, _ string) (origin.Info, error) {
	close(o.asked)
	<-ctx.Done()
	return origin.Info{}, origin.ErrAway
}

// countedOrigin counts what it is asked.
type countedOrigin struct {
	origin.Tree
	asked atomic.Int32
}

func (o *countedOrigin) Stat(ctx context.Context, name string) (origin.Info, error) {
	o.asked.Add(1)
	return o.Tree.Stat(ctx, name)
}

// TestClientLeavesWhileAsked: that a client has left is no error of the origin, and no
// reason to ask the next.
func TestClientLeavesWhileAsked(t *testing.T) {
	s := newSite(t, mount("/t", "", t.TempDir(), t.TempDir()))
	m := s.h.Mounts[0]
	o := waitingOrigin{m.origins[0].Tree, make(chan struct{})}
	m.origins[0].Tree = o
	fallback := &countedOrigin{Tree: m.origins[1].Tree}
	m.origins[1].Tree = fallback
	failed, aborted := m.metrics.requests[resultError], m.metrics.requests[resultAborted]
	errors, left := testutil.ToFloat64(failed), testutil.ToFloat64(aborted)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-o.asked
		cancel()
	}()
	serveAs(s.h, httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodHead, "/t/f", nil))
	if n := testutil.ToFloat64(failed) - errors; n != 0 {
		t.Errorf("%v errors counted", n)
	}
	if n := fallback.asked.Load(); n != 0 {
		t.Errorf("the fall-back was asked %d times", n)
	}
	if n := testutil.ToFloat64(aborted) - left; n != 1 {
		t.Errorf("%v aborted requests counted", n)
	}
}
