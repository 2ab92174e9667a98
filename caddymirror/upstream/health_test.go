package upstream

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/breaker"
)

// TestHealthOutlivesGroup checks that what was learnt of a server holds for an Upstream
// that comes after another: that it wants no requests, and that it is away.
func TestHealthOutlivesGroup(t *testing.T) {
	t.Parallel()
	s := serve(t, func(x *exchange) bool {
		return x.send("HTTP/1.1 429 Too Many Requests\nRetry-After: 60\nContent-Length: 0\n\n") == nil
	})
	h := NewHealth()
	defer h.Close()
	old := NewGroup(nil, use(t, Config{URL: s.url(), Health: h}))
	if resp, _, err := fetch(t, old, Request{Target: "/x"}); err != nil || resp.Status != http.StatusTooManyRequests {
		t.Fatal(resp, err)
	}
	next := NewGroup(nil, use(t, Config{URL: s.url(), Health: h}))
	defer next.Close()
	old.Close()
	if _, _, err := fetch(t, next, Request{Target: "/x"}); classOf(t, err) != ErrBusy || s.requests.Load() != 1 {
		t.Errorf("%v, after %d requests", err, s.requests.Load())
	}

	dead := serve(t, func(x *exchange) bool { return false })
	h = NewHealth()
	defer h.Close()
	var told [2]atomic.Int32
	group := func(n int) *Group {
		return NewGroup(func(*Upstream, bool, error) { told[n].Add(1) }, use(t, Config{URL: dead.url(), Health: h}))
	}
	old = group(0)
	for range breaker.Threshold {
		fetch(t, old, Request{Target: "/x"})
	}
	next = group(1)
	defer next.Close()
	old.Close()
	if s := next.States(); !s[0].Away {
		t.Errorf("%+v", s)
	}
	if told[0].Load() != 1 || told[1].Load() != 0 {
		t.Errorf("%d and %d were told", told[0].Load(), told[1].Load())
	}
	h.Close() // nobody asks any more, and nobody is told of that
	eventually(t, "the breaker's end", func() bool { return !h.breaker.Open() })
	if told[1].Load() != 0 {
		t.Error("it was told that the upstream is back")
	}
}

// TestHealthTellsNewest checks that of two configurations the one that came last is told.
func TestHealthTellsNewest(t *testing.T) {
	t.Parallel()
	dead := serve(t, func(x *exchange) bool { return false })
	h := NewHealth()
	defer h.Close()
	var told [2]atomic.Int32
	var groups [2]*Group
	for i := range groups {
		groups[i] = NewGroup(func(*Upstream, bool, error) { told[i].Add(1) }, use(t, Config{URL: dead.url(), Health: h}))
		defer groups[i].Close()
	}
	for range breaker.Threshold {
		if _, _, err := fetch(t, groups[0], Request{Target: "/x"}); classOf(t, err) != ErrAway {
			t.Error(err)
		}
	}
	if told[0].Load() != 0 || told[1].Load() != 1 {
		t.Errorf("%d and %d were told", told[0].Load(), told[1].Load())
	}
}

// TestHealthCheck checks that an upstream whose health check fails is left, and used again
// when that succeeds.
func TestHealthCheck(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	var checks atomic.Int32
	first := serve(t, func(x *exchange) bool {
		if strings.HasPrefix(x.head, "GET /repo/-/ping?x=1 ") {
			checks.Add(1)
			if sick.Load() {
				return x.send("HTTP/1.1 404 Not Found\nContent-Length: 0\n\n") == nil
			}
		}
		return x.send(ok10+"0000000001") == nil
	})
	second := serve(t, func(x *exchange) bool { return x.send(ok10+"0000000002") == nil })
	var reason atomic.Value
	g := NewGroup(func(_ *Upstream, away bool, err error) {
		if away {
			reason.Store(err)
		}
	}, use(t, Config{URL: first.url() + "/repo", HealthTarget: "/-/ping?x=1", HealthInterval: 20 * time.Millisecond}),
		use(t, Config{URL: second.url()}))
	defer g.Close()
	time.Sleep(60 * time.Millisecond)
	if checks.Load() != 0 {
		t.Error("checked before the first request")
	}
	answers := func(want string) func() bool {
		return func() bool { _, body, err := fetch(t, g, Request{Target: "/x"}); return err == nil && body == want }
	}
	if !answers("0000000001")() {
		t.Error("the first does not answer")
	}
	eventually(t, "checks", func() bool { return checks.Load() > 2 })
	sick.Store(true)
	eventually(t, "turning to the second", answers("0000000002"))
	if err, _ := reason.Load().(error); !errors.Is(err, ErrAway) || !strings.Contains(err.Error(), "status 404") {
		t.Error(err)
	}
	sick.Store(false)
	eventually(t, "turning back", answers("0000000001"))
}

// TestHealthConfig checks what cannot be checked.
func TestHealthConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{
		{HealthTarget: "ping"},
		{HealthTarget: "/../x"},
		{HealthTarget: "/a b"},
		{HealthInterval: -1},
		{HeaderTimeout: -1},
		{ReadTimeout: -1},
		{UserAgent: "a\nb"},
	} {
		c.URL = "http://a.example"
		if _, err := New(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// TestAuthorization checks that a request's own credentials go to the upstream alone, in
// the place of its usual ones, and into no error.
func TestAuthorization(t *testing.T) {
	t.Parallel()
	other := serve(t, func(x *exchange) bool { return x.send(ok10+ten) == nil })
	s := serve(t, func(x *exchange) bool {
		switch {
		case strings.HasPrefix(x.head, "GET /go "):
			return x.send("HTTP/1.1 302 Found\nLocation: %s/x\nContent-Length: 0\n\n", other.url()) == nil
		case strings.HasPrefix(x.head, "GET /bad "):
			x.send("HTTP/1.1 200 OK\nContent-Length: %s\n\n", x.field("Authorization"))
			return false
		}
		return x.send(ok10+ten) == nil
	})
	usual := http.Header{"Authorization": {"Bearer usual-one"}}
	u := use(t, Config{URL: s.url(), Header: usual, Follow: []string{other.Addr().String()}})
	for _, target := range []string{"/x", "/go"} {
		if _, body, err := get(t, u, Request{Target: target, Authorization: "Bearer of-a-user"}); err != nil || body != ten {
			t.Error(target, body, err)
		}
	}
	if _, _, err := get(t, u, Request{Target: "/x"}); err != nil {
		t.Error(err)
	}
	want := []string{"Bearer of-a-user", "Bearer of-a-user", "Bearer usual-one"}
	for i, head := range s.heads() {
		if got := (&exchange{head: head}).field("Authorization"); got != want[i] {
			t.Errorf("request %d with Authorization %q, want %q", i, got, want[i])
		}
	}
	if head := other.heads()[0]; strings.Contains(head, "Authorization") {
		t.Errorf("it went on to another host:\n%s", head)
	}
	resp, err := u.Fetch(t.Context(), Request{Target: "/bad", Authorization: "Bearer of-a-user"})
	if err == nil {
		resp.Close()
	}
	if err == nil || strings.Contains(err.Error(), "of-a-user") || !strings.Contains(err.Error(), "[redacted]") {
		t.Error(err)
	}
	if _, err := u.Fetch(t.Context(), Request{Target: "/x", Authorization: "a\r\nb: c"}); classOf(t, err) != ErrTarget {
		t.Error(err)
	}
}
