package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/breaker"
)

func groupOf(t *testing.T, moved func(*Upstream, bool, error), servers ...*raw) *Group {
	t.Helper()
	upstreams := make([]*Upstream, 0, len(servers))
	for _, s := range servers {
		upstreams = append(upstreams, use(t, Config{URL: s.url()}))
	}
	g := NewGroup(moved, upstreams...)
	t.Cleanup(g.Close)
	return g
}

func fetch(t *testing.T, g *Group, r Request) (*Response, string, error) {
	t.Helper()
	resp, err := g.Fetch(t.Context(), r)
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

// TestGroup checks which of two upstreams answers.
func TestGroup(t *testing.T) {
	t.Parallel()
	status := func(line, body string) func(*exchange) bool {
		return func(x *exchange) bool {
			return x.send("HTTP/1.1 "+line+"\nContent-Length: %d\n\n%s", len(body), body) == nil
		}
	}
	good, gone := status("200 OK", "good"), status("404 Not Found", "gone")
	down, down2 := status("503 Service Unavailable", "down"), status("500 Internal Server Error", "down2")
	dead := func(x *exchange) bool { return false }
	liar := func(x *exchange) bool { return part(x, 4) }
	for _, row := range []struct {
		name          string
		first, second func(*exchange) bool
		class         error
		body          string
		asked         int32 // the second one
	}{
		{"the first", good, good, nil, "good", 0},
		{"404 is an answer", gone, good, nil, "gone", 0},
		{"5xx", down, good, nil, "good", 1},
		{"429", status("429 Too Many Requests", "many"), good, nil, "good", 1},
		{"away", dead, good, nil, "good", 1},
		{"lying", liar, good, nil, "good", 1},
		{"away, and 404", dead, gone, nil, "gone", 1},
		{"two 5xx", down, down2, nil, "down", 1},
		{"5xx, and away", down, dead, nil, "down", 1},
		{"away, and 5xx", dead, down2, nil, "down2", 1},
		{"both away", dead, dead, ErrAway, "", 1},
		{"lying, and away", liar, dead, ErrLying, "", 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			first, second := serve(t, row.first), serve(t, row.second)
			g := groupOf(t, nil, first, second)
			_, body, err := fetch(t, g, Request{Target: "/x"})
			if classOf(t, err) != row.class || body != row.body {
				t.Errorf("%q, %v", body, err)
			}
			if err != nil && (!strings.Contains(err.Error(), first.Addr().String()) || !strings.Contains(err.Error(), second.Addr().String())) {
				t.Error(err)
			}
			if n := second.requests.Load(); n != row.asked {
				t.Errorf("the second was asked %d times", n)
			}
		})
	}
	g := groupOf(t, nil, serve(t, dead), serve(t, good))
	if _, _, err := fetch(t, g, Request{Target: "x"}); classOf(t, err) != ErrTarget {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := g.Fetch(ctx, Request{Target: "/x"}); classOf(t, err) != context.Canceled {
		t.Error(err)
	}
}

// TestGroupBreaker checks that an upstream that is away is not asked each time, and used
// again when it is back.
func TestGroupBreaker(t *testing.T) {
	t.Parallel()
	var back, away sync.WaitGroup
	back.Add(1)
	away.Add(1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	second := serve(t, func(x *exchange) bool { return x.send(ok10+"0000000002") == nil })
	g := NewGroup(func(_ *Upstream, open bool, _ error) {
		if open {
			away.Done()
		} else {
			back.Done()
		}
	}, use(t, Config{URL: "http://" + addr}), use(t, Config{URL: second.url()}))
	defer g.Close()
	for range breaker.Threshold {
		if g.States()[0].Away {
			t.Error("away already")
		}
		if _, body, err := fetch(t, g, Request{Target: "/x"}); err != nil || body != "0000000002" {
			t.Fatal(body, err)
		}
	}
	away.Wait()
	if s := g.States(); !s[0].Away || s[1].Away {
		t.Errorf("%+v", s)
	}
	if l, err = net.Listen("tcp", addr); err != nil {
		t.Skip(err) // somebody else has the port now
	}
	first := serveOn(t, l, func(x *exchange) bool {
		if strings.HasPrefix(x.head, "HEAD / ") {
			return x.send("HTTP/1.1 404 Not Found\nContent-Length: 0\n\n") == nil
		}
		return x.send(ok10+"0000000001") == nil
	})
	back.Wait()
	if _, body, err := fetch(t, g, Request{Target: "/x"}); err != nil || body != "0000000001" {
		t.Error(body, err)
	}
	if head := first.heads()[0]; !strings.HasPrefix(head, "HEAD / ") {
		t.Error(head)
	}
}

// TestGroupGoesOn checks that a body goes on elsewhere only if it is the same version.
func TestGroupGoesOn(t *testing.T) {
	t.Parallel()
	cut := func(x *exchange) bool {
		if x.n == 1 {
			x.send("HTTP/1.1 200 OK\n" + tag + "Last-Modified: Sat, 28 Nov 2026 03:00:00 GMT\nContent-Length: 10\n\n0123")
		}
		return false
	}
	rest := func(fields string) func(*exchange) bool {
		return func(x *exchange) bool {
			if x.field("Range") != "bytes=4-" || x.field("If-Range") != `"v1"` {
				return x.send("HTTP/1.1 400 Bad Request\nContent-Length: 0\n\n") == nil
			}
			return x.send("HTTP/1.1 206 Partial Content\n"+fields+"Content-Length: 6\n\n456789") == nil
		}
	}
	const modified = "Last-Modified: Sat, 28 Nov 2026 03:00:00 GMT\n"
	for _, row := range []struct {
		name   string
		second func(*exchange) bool
		whole  bool
	}{
		{"the same", rest(tag + modified + "Content-Range: bytes 4-9/10\n"), true},
		{"of another date", rest(tag + "Content-Range: bytes 4-9/10\n"), false},
		{"of another tag", rest("ETag: \"v2\"\n" + modified + "Content-Range: bytes 4-9/10\n"), false},
		{"of another size", rest(tag + modified + "Content-Range: bytes 4-9/11\n"), false},
		{"in another encoding", rest(tag + modified + "Content-Encoding: gzip\nContent-Range: bytes 4-9/10\n"), false},
		{"as a whole", func(x *exchange) bool {
			return x.send("HTTP/1.1 200 OK\n"+tag+modified+"Content-Length: 10\n\n"+ten) == nil
		}, true},
		{"as a whole of another version", func(x *exchange) bool {
			return x.send("HTTP/1.1 200 OK\nETag: \"v2\"\n"+modified+"Content-Length: 10\n\n"+ten) == nil
		}, false},
		{"away", func(x *exchange) bool { return false }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, body, err := fetch(t, groupOf(t, nil, serve(t, cut), serve(t, row.second)), Request{Target: "/x"})
			if row.whole && (err != nil || body != ten) {
				t.Errorf("%q, %v", body, err)
			}
			var broken *BrokenError
			if !row.whole && (body != "0123" || !errors.As(err, &broken) || broken.Offset != 4) {
				t.Errorf("%q, %v", body, err)
			}
		})
	}

	// Close ends it while it goes on.
	slow := serve(t, func(x *exchange) bool { time.Sleep(2 * time.Second); return false })
	g := groupOf(t, nil, serve(t, cut), slow)
	resp, err := g.Fetch(t.Context(), Request{Target: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(1300*time.Millisecond, func() { resp.Close() })
	start := time.Now()
	if body, err := io.ReadAll(resp.Body); string(body) != "0123" || err == nil || time.Since(start) > 1900*time.Millisecond {
		t.Errorf("%q, %v, %v", body, err, time.Since(start))
	}
}
