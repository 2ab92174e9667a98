package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/breaker"
)

// pass passes a request on, and reads the answer to its end.
func pass(t *testing.T, p interface {
	Pass(context.Context, PassRequest) (*Response, error)
}, r PassRequest,
) (*Response, string, error) {
	t.Helper()
	resp, err := p.Pass(t.Context(), r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Close()
	if resp.Body == nil {
		return resp, "", nil
	}
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// echo is a server that answers with the body of each request.
func echo(t *testing.T, seen *atomic.Pointer[http.Request]) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		seen.Store(r)
		if err == nil {
			w.Header().Set("ETag", `"v1"`)
			w.WriteHeader(http.StatusCreated)
			w.Write(body)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestPass checks what of a client's request goes out, and what comes back.
func TestPass(t *testing.T) {
	t.Parallel()
	var seen atomic.Pointer[http.Request]
	u := use(t, Config{URL: echo(t, &seen) + "/base", Header: http.Header{"X-Ours": {"a"}}})
	for _, size := range []int64{10, -1} {
		resp, body, err := pass(t, u, PassRequest{
			Method: "POST", Target: "/-/npm/v1/a%2fb?c=%2F", Body: io.MultiReader(strings.NewReader(ten)), Size: size,
			Header: http.Header{
				"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}, "Accept": {"text/plain", "*/*"},
				"Cookie": {"a=b"}, "Authorization": {"Bearer theirs"}, "X-Forwarded-For": {"192.0.2.1"}, "Connection": {"X-Y"}, "X-Y": {"z"},
				"Expect": {"100-continue"}, "Transfer-Encoding": {"gzip"}, "User-Agent": {"npm"}, "Range": {"bytes=1-"}, "Idempotency-Key": {"k"},
			},
			Via: []string{"1.1 a"},
		})
		if err != nil || body != ten || resp.Status != http.StatusCreated || resp.Validator != `"v1"` || resp.Upstream != u {
			t.Fatalf("%+v, %q, %v", resp, body, err)
		}
		r := seen.Load()
		if r.Method != http.MethodPost || r.RequestURI != "/base/-/npm/v1/a%2fb?c=%2F" || r.ContentLength != size {
			t.Error(r.Method, r.RequestURI, r.ContentLength)
		}
		want := http.Header{
			"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}, "Accept": {"text/plain", "*/*"},
			"Accept-Encoding": {"identity"}, "User-Agent": {"caddymirror"}, "Via": {"1.1 a, 1.1 caddymirror"}, "X-Ours": {"a"},
		}
		if size >= 0 {
			want["Content-Length"] = []string{"10"}
		}
		for name, values := range r.Header {
			if strings.Join(values, "|") != strings.Join(want[name], "|") {
				t.Errorf("%s: %q went out", name, values)
			}
		}
		if len(r.Header) < len(want) {
			t.Errorf("%v went out, of %v", r.Header, want)
		}
	}
	if resp, body, err := pass(t, u, PassRequest{Method: "DELETE", Target: "/x", Authorization: "Bearer theirs"}); err != nil || body != "" || resp.Status != 201 {
		t.Error(resp, body, err)
	}
	if r := seen.Load(); r.ContentLength != 0 || r.Header.Get("Authorization") != "Bearer theirs" {
		t.Error(r)
	}
}

// TestPassFails checks whose fault it is if a request cannot be passed on.
func TestPassFails(t *testing.T) {
	t.Parallel()
	var seen atomic.Pointer[http.Request]
	url := echo(t, &seen)
	hang := serve(t, func(x *exchange) bool { time.Sleep(time.Second); return false })
	tooLarge := func(err error) bool { _, ok := errors.AsType[*http.MaxBytesError](err); return ok }
	theirs := func(err error) bool { _, ok := errors.AsType[*RequestBodyError](err); return ok && !known(err) }
	is := func(class error) func(error) bool {
		return func(err error) bool { return errors.Is(err, class) && !theirs(err) }
	}
	pipe, _ := io.Pipe()
	for _, row := range []struct {
		name  string
		url   string
		ask   PassRequest
		fault func(error) bool
	}{
		{"too large", url, PassRequest{Body: strings.NewReader(ten), Size: 10, Limit: 9}, tooLarge},
		{"becomes too large", url, PassRequest{Body: strings.NewReader(ten), Size: -1, Limit: 9}, tooLarge},
		{"just as large", url, PassRequest{Body: strings.NewReader(ten), Size: -1, Limit: 10}, func(err error) bool { return err == nil }},
		{"breaks off", url, PassRequest{Body: iotest.ErrReader(io.ErrUnexpectedEOF), Size: 10}, theirs},
		{"shorter than it says", url, PassRequest{Body: strings.NewReader(ten), Size: 11}, theirs},
		{"a client that stops", url, PassRequest{Body: pipe, Size: 10}, theirs},
		{"an upstream that does", hang.url(), PassRequest{Body: strings.NewReader(ten), Size: 10}, is(ErrAway)},
		{"no upstream", "http://127.0.0.1:1", PassRequest{Body: strings.NewReader(ten), Size: 10}, is(ErrAway)},
		{"GET", url, PassRequest{Method: "GET"}, is(ErrTarget)},
		{"TRACE", url, PassRequest{Method: "TRACE"}, is(ErrTarget)},
		{"no method", url, PassRequest{Method: "A B"}, is(ErrTarget)},
		{"no target", url, PassRequest{Target: "x"}, is(ErrTarget)},
		{"a field of two lines", url, PassRequest{Header: http.Header{"Accept": {"a\nb: c"}}}, is(ErrTarget)},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			if row.ask.Method == "" {
				row.ask.Method = "POST"
			}
			if row.ask.Target == "" {
				row.ask.Target = "/x"
			}
			u := use(t, Config{URL: row.url, HeaderTimeout: 300 * time.Millisecond})
			g := NewGroup(nil, u)
			defer g.Close()
			start := time.Now()
			_, _, err := pass(t, g, row.ask)
			if !row.fault(err) || time.Since(start) > 3*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if n := u.health.breaker.Failures(); n != 0 && !errors.Is(err, ErrAway) {
				t.Errorf("%d failures of the upstream", n)
			}
		})
	}
	t.Cleanup(func() { pipe.Close() })
}

// TestPassSlowly checks that a body may take longer than the time-out, if it comes.
func TestPassSlowly(t *testing.T) {
	t.Parallel()
	var seen atomic.Pointer[http.Request]
	u := use(t, Config{URL: echo(t, &seen), HeaderTimeout: 400 * time.Millisecond})
	r, w := io.Pipe()
	go func() {
		for _, c := range ten {
			time.Sleep(80 * time.Millisecond)
			io.WriteString(w, string(c))
		}
		w.Close()
	}()
	if _, body, err := pass(t, u, PassRequest{Method: "PUT", Target: "/x", Body: r, Size: -1}); err != nil || body != ten {
		t.Error(body, err)
	}
}

// TestPassOnce checks that nothing is sent a second time: over a connection that is dead, to
// where it is redirected, for the rest of a body, or to the next upstream.
func TestPassOnce(t *testing.T) {
	t.Parallel()
	post := PassRequest{Method: "POST", Target: "/x", Body: strings.NewReader(ten), Size: 10}
	var posts atomic.Int32
	s := serve(t, func(x *exchange) bool {
		if strings.HasPrefix(x.head, "POST") {
			posts.Add(1)
			return false
		}
		return x.send(ok10+ten) == nil
	})
	u := use(t, Config{URL: s.url()})
	if _, _, err := get(t, u, Request{Target: "/"}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := pass(t, u, post); classOf(t, err) != ErrAway || posts.Load() != 1 {
		t.Errorf("%v after %d requests", err, posts.Load())
	}

	other := serve(t, func(x *exchange) bool { return x.send(ok10+ten) == nil })
	answer := func(text string) *raw {
		return serve(t, func(x *exchange) bool {
			x.send(text)
			return false
		})
	}
	post.Body = strings.NewReader(ten)
	moved := answer("HTTP/1.1 307 Temporary Redirect\nLocation: /y\nContent-Length: 0\n\n")
	if resp, _, err := pass(t, use(t, Config{URL: moved.url()}), post); err != nil || resp.Status != 307 || resp.Redirect.Path != "/y" || moved.requests.Load() != 1 {
		t.Error(resp, err, moved.requests.Load())
	}
	post.Body = strings.NewReader(ten)
	cut := answer("HTTP/1.1 200 OK\nETag: \"v1\"\nContent-Length: 10\n\n0123")
	g := groupOf(t, nil, cut, other)
	_, body, err := pass(t, g, post)
	if broken, ok := errors.AsType[*BrokenError](err); !ok || broken.Validator != "" || body != "0123" || cut.requests.Load() != 1 {
		t.Error(body, err, cut.requests.Load())
	}
	post.Body = strings.NewReader(ten)
	if resp, _, err := pass(t, groupOf(t, nil, answer("HTTP/1.1 503 Nope\nContent-Length: 0\n\n"), other), post); err != nil || resp.Status != 503 {
		t.Error(resp, err)
	}
	if n := other.requests.Load(); n != 0 {
		t.Errorf("%d requests to the next upstream", n)
	}
}

// TestPassPauses checks that a pause holds for what is passed on, and that the next
// upstream is asked where the first is not.
func TestPassPauses(t *testing.T) {
	t.Parallel()
	busy := serve(t, func(x *exchange) bool {
		return x.send("HTTP/1.1 429 Too Many Requests\nRetry-After: 60\nContent-Length: 0\n\n") == nil
	})
	post := PassRequest{Method: "POST", Target: "/x"}
	u := use(t, Config{URL: busy.url()})
	if resp, _, err := pass(t, u, post); err != nil || resp.Status != 429 || resp.NotBefore.IsZero() {
		t.Fatal(resp, err)
	}
	if _, _, err := get(t, u, Request{Target: "/x"}); classOf(t, err) != ErrBusy {
		t.Error(err)
	}
	if _, _, err := pass(t, u, post); classOf(t, err) != ErrBusy || busy.requests.Load() != 1 {
		t.Error(err)
	}

	dead, good := serve(t, func(x *exchange) bool { return false }), serve(t, func(x *exchange) bool { return x.send(ok10+ten) == nil })
	g := groupOf(t, nil, dead, good)
	for range breaker.Threshold {
		if _, _, err := pass(t, g, post); classOf(t, err) != ErrAway {
			t.Error(err)
		}
	}
	if _, body, err := pass(t, g, post); err != nil || body != ten {
		t.Error(body, err)
	}
}
