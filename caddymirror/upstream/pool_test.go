package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPooledConnectionDies checks that a client does not see that an upstream closes what
// is idle just when it is used, however it does so (P5). Here it is [http.Transport] that
// asks again.
func TestPooledConnectionDies(t *testing.T) {
	t.Parallel()
	for name, die := range map[string]func(*exchange){
		"closed": func(x *exchange) { x.Close() },
		"reset":  func(x *exchange) { x.reset() },
	} {
		s := serve(t, func(x *exchange) bool {
			if x.nth > 1 {
				die(x)
				return false
			}
			return x.send(ok10+ten) == nil
		})
		u := use(t, Config{URL: s.url()})
		for i := range 20 {
			if _, body, err := get(t, u, Request{Target: "/x"}); err != nil || body != ten {
				t.Fatalf("%s: request %d: %q, %v", name, i, body, err)
			}
		}
		if n := s.conns.Load(); n != 20 {
			t.Errorf("%s: %d connections", name, n)
		}
	}
}

// TestRetryOfOurOwn is about the cases in which a transport does not ask again.
func TestRetryOfOurOwn(t *testing.T) {
	t.Parallel()
	broken := errors.New("net/http: HTTP/1.x transport connection broken: write: broken pipe")
	surplus := errors.New(`net/http: HTTP/1.x transport connection broken: malformed HTTP version "xxHTTP/1.1"`)
	answer := func(r *http.Request) *http.Response {
		return &http.Response{StatusCode: http.StatusOK, Request: r, ContentLength: 0, Body: http.NoBody, Header: http.Header{}}
	}
	for _, c := range []struct {
		name             string
		reused, answered bool
		err              error
		asked            int32
	}{
		{"a pooled one", true, false, broken, 2},
		{"a new one", false, false, broken, 1},
		{"after a byte", true, true, broken, 1},
		{"after what is no response", true, true, surplus, 2},
		{"after what is no response, a new one", false, true, surplus, 1},
		{"after a time-out", true, false, &net.OpError{Op: "read", Err: context.DeadlineExceeded}, 1},
	} {
		var asked atomic.Int32
		u := use(t, Config{URL: "http://a", Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			if asked.Add(1) > 1 {
				return answer(r), nil
			}
			client, server := net.Pipe()
			defer server.Close()
			defer client.Close()
			trace := httptrace.ContextClientTrace(r.Context())
			trace.GotConn(httptrace.GotConnInfo{Conn: client, Reused: c.reused})
			if c.answered {
				trace.GotFirstResponseByte()
			}
			return nil, c.err
		})})
		_, _, err := get(t, u, Request{Target: "/"})
		if asked.Load() != c.asked || (err == nil) != (c.asked == 2) {
			t.Errorf("%s: asked %d times, %v", c.name, asked.Load(), err)
		}
	}
}

// TestOrder checks when an answer is believed: if its first byte was read after the request
// had been written.
func TestOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		does   string // w: the request is written, r: something is read
		reused bool
		asked  int32
		class  error
	}{
		{"in order", "wr", true, 1, nil},
		{"left over", "", true, 2, nil},
		{"left over, and then written", "w", true, 2, nil},
		{"read too early", "rw", true, 2, nil},
		{"on a new connection", "", false, 1, ErrLying},
	} {
		var asked atomic.Int32
		u := use(t, Config{URL: "http://a", Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			client, server := net.Pipe()
			go io.Copy(server, server) // an echo
			defer client.Close()
			conn := &orderedConn{Conn: client}
			conn.state.Store(answered) // an earlier request
			trace := httptrace.ContextClientTrace(r.Context())
			does := "wr"
			if asked.Add(1) == 1 {
				does = c.does
				if strings.HasPrefix(does, "r") {
					client.Write([]byte("x"))
				}
			}
			trace.GotConn(httptrace.GotConnInfo{Conn: conn, Reused: c.reused})
			for _, d := range does {
				if d == 'w' {
					conn.Write([]byte("x"))
				} else {
					conn.Read(make([]byte, 1))
				}
			}
			trace.GotFirstResponseByte()
			return &http.Response{StatusCode: http.StatusOK, Request: r, Body: http.NoBody, Header: http.Header{}}, nil
		})})
		if _, _, err := get(t, u, Request{Target: "/"}); asked.Load() != c.asked || classOf(t, err) != c.class {
			t.Errorf("%s: asked %d times, %v", c.name, asked.Load(), err)
		}
	}
}

// TestTooLongIsNoAnswer checks that what follows a body is not taken for the answer to
// the next request.
func TestTooLongIsNoAnswer(t *testing.T) {
	t.Parallel()
	evil := func(x *exchange) bool {
		return x.send(ok10+ten+"HTTP/1.1 200 OK\nContent-Length: 4\n\nevil") == nil
	}
	stress(t, use(t, Config{URL: serve(t, evil).url(), HeaderTimeout: 5 * time.Second}))

	template := httptest.NewTLSServer(nil)
	template.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", template.TLS)
	if err != nil {
		t.Fatal(err)
	}
	tr := NewTransport()
	tr.ForceAttemptHTTP2 = false
	tr.TLSClientConfig = template.Client().Transport.(*http.Transport).TLSClientConfig
	s := serveOn(t, l, evil)
	stress(t, use(t, Config{URL: "https://" + s.Addr().String(), Transport: tr, HeaderTimeout: 5 * time.Second}))
}

// stress asks many times at once: only what was to be answered may be.
func stress(t *testing.T, u *Upstream) {
	t.Helper()
	got := false
	var mu sync.Mutex
	defer func() {
		if !got {
			t.Error("nothing was answered")
		}
	}()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 60 {
				_, body, err := get(t, u, Request{Target: "/x"})
				if err == nil && body != ten {
					t.Errorf("request %d: %q", i, body)
					return
				}
				mu.Lock()
				got = got || err == nil
				mu.Unlock()
			}
		})
	}
	all.Wait()
}

func TestClasses(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = quiet
	untrusted.StartTLS()
	defer untrusted.Close()
	notTLS := serve(t, func(x *exchange) bool { return x.send(ok10+ten) == nil })
	for _, url := range []string{
		"http://" + l.Addr().String(), untrusted.URL, "http://does-not-exist.invalid",
		strings.Replace(notTLS.url(), "http://", "https://", 1),
	} {
		if _, _, err := get(t, use(t, Config{URL: url}), Request{Target: "/"}); classOf(t, err) != ErrAway {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestCallerLeaves checks that a caller who gives up is no fault of the upstream, and
// leaves nothing behind.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	s := serve(t, func(x *exchange) bool {
		if strings.HasPrefix(x.head, "GET /slow") {
			time.Sleep(300 * time.Millisecond)
			return false
		}
		x.send(ok10 + "0123")
		time.Sleep(300 * time.Millisecond)
		return false
	})
	u := use(t, Config{URL: s.url()})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := u.Fetch(ctx, Request{Target: "/slow"}); classOf(t, err) != context.DeadlineExceeded {
		t.Error(err)
	}
	if _, err := u.Fetch(ctx, Request{Target: "/slow"}); classOf(t, err) != context.DeadlineExceeded {
		t.Error(err)
	}

	// The body outlives the context of Fetch, and Close ends a Read.
	ctx, cancel = context.WithCancel(t.Context())
	resp, err := u.Fetch(ctx, Request{Target: "/"})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	b := make([]byte, 10)
	if n, err := io.ReadAtLeast(resp.Body, b, 4); n != 4 || err != nil {
		t.Error(n, err)
	}
	time.AfterFunc(50*time.Millisecond, func() { resp.Close() })
	start := time.Now()
	if n, err := resp.Body.Read(b); n != 0 || classOf(t, err) != context.Canceled || time.Since(start) > 250*time.Millisecond {
		t.Error(n, err, time.Since(start))
	}
	if n, err := resp.Body.Read(b); n != 0 || err == nil {
		t.Error(n, err)
	}
	resp.Close()
	eventually(t, "the connections are closed", func() bool { return s.open.Load() == 0 })
}

// TestSlowReaders checks that it is not the upstream's fault if a client takes its time.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	s := serve(t, func(x *exchange) bool {
		return x.send("HTTP/1.1 200 OK\nContent-Length: 100\n\n"+strings.Repeat(ten, 10)) == nil
	})
	u := use(t, Config{URL: s.url(), ReadTimeout: 50 * time.Millisecond, RateWindow: 50 * time.Millisecond})
	resp, err := u.Fetch(t.Context(), Request{Target: "/"})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Close()
	for n := 0; n < 100; n += 10 {
		time.Sleep(60 * time.Millisecond)
		if _, err := io.ReadFull(resp.Body, make([]byte, 10)); err != nil {
			t.Fatal(n, err)
		}
	}
}
