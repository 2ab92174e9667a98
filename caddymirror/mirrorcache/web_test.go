package mirrorcache

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
)

// web is an upstream whose answers a test gives.
type web struct {
	*httptest.Server

	mu     sync.Mutex
	answer http.HandlerFunc
	asked  []*http.Request
}

// newWeb serves an upstream under /w.
func newWeb(t *testing.T, more string, answer http.HandlerFunc) (*site, *web) {
	t.Helper()
	u := &web{answer: answer}
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.mu.Lock()
		u.asked = append(u.asked, r)
		answer := u.answer
		u.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(u.Close)
	return newSite(t, fmt.Sprintf(`{"prefix": "/w", "origins": [{"origin": "http", "upstreams": [%q]}] %s}`, u.URL, more)), u
}

func (u *web) set(answer http.HandlerFunc) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answer = answer
}

// asks is how many requests there were since the last call of requests.
func (u *web) asks() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.asked)
}

// requests are those since the last call.
func (u *web) requests() []*http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	asked := u.asked
	u.asked = nil
	return asked
}

// give answers with a body and fields ("Name: value").
func give(status int, body string, fields ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			w.Header().Add(name, value)
		}
		if etag := w.Header().Get("Etag"); status == http.StatusOK && etag != "" {
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(body))
			return
		}
		w.WriteHeader(status)
		if r.Method != http.MethodHead {
			_, _ = w.Write([]byte(body))
		}
	}
}

func TestWeb(t *testing.T) {
	s, u := newWeb(t, "", give(200, "one", `Etag: "1"`, "Cache-Control: max-age=60", "Content-Type: text/x", "Link: <a>", "Link: <b>"))
	a := s.ask(t, "GET", "/w/a%2Fb/c+d?x=%3d", "Cookie: secret", "Authorization: Basic x", "Accept: text/html")
	a.want(t, 200, []byte("one"), "fwd=uri-miss; fwd-status=200; stored")
	s.settle(t)
	asked := u.requests()
	if len(asked) != 1 || asked[0].RequestURI != "/a%2Fb/c+d?x=%3d" {
		t.Fatalf("asked for %v", asked)
	}
	h := asked[0].Header
	if len(h["Cookie"])+len(h["Authorization"])+len(h["X-Forwarded-For"]) > 0 || h.Get("Accept") != "text/html" || h.Get("Via") == "" {
		t.Errorf("sent: %v", h)
	}
	a = s.ask(t, "GET", "/w/a%2Fb/c+d?x=%3d")
	a.want(t, 200, []byte("one"), "hit")
	if a.header.Get("Etag") != `"1"` || len(a.header["Link"]) != 2 || a.header.Get("Content-Type") != "text/x" || a.header.Get("Cache-Control") != "max-age=60" || a.header.Get("Age") == "" {
		t.Errorf("served: %v", a.header)
	}
	s.ask(t, "GET", "/w/a%2Fb/c+d?x=%3d", "Range: bytes=1-1").want(t, 206, []byte("n"), "hit")
	s.ask(t, "GET", "/w/a%2Fb/c+d?x=%3d", `If-None-Match: "1"`).want(t, 304, nil, "hit")
	s.ask(t, "HEAD", "/w/a%2Fb/c+d?x=%3d").want(t, 200, nil, "hit")
	if n := len(u.requests()); n != 0 {
		t.Errorf("%d requests for what is fresh", n)
	}
	s.ask(t, "GET", "/w/a/b/c+d?x=%3d").want(t, 200, []byte("one"), "fwd=uri-miss")
}

// TestWebRevalidates: a stale entry is asked for with its validators, and a 304 makes it
// fresh, with the new fields.
func TestWebRevalidates(t *testing.T) {
	s, u := newWeb(t, "", give(200, "one", `Etag: "1"`, "Cache-Control: max-age=0", "X-A: 1"))
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), "fwd=uri-miss")
	s.settle(t)
	u.requests()
	u.set(give(200, "one", `Etag: "1"`, "Cache-Control: max-age=60", "X-A: 2"))
	a := s.ask(t, "GET", "/w/f")
	a.want(t, 200, []byte("one"), "fwd=stale; fwd-status=304")
	if a.header.Get("X-A") != "2" {
		t.Errorf("the fields are those of before: %v", a.header)
	}
	if asked := u.requests(); len(asked) != 1 || asked[0].Header.Get("If-None-Match") != `"1"` {
		t.Errorf("asked %v", asked)
	}
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), "hit")
	if n := len(u.requests()); n != 0 {
		t.Error("what was confirmed is not fresh")
	}
}

// TestWebChanges: what has changed is fetched with the one request that finds that out.
func TestWebChanges(t *testing.T) {
	s, u := newWeb(t, "", give(200, "one", `Etag: "1"`, "Cache-Control: max-age=0"))
	s.ask(t, "GET", "/w/f")
	s.settle(t)
	u.requests()
	u.set(give(200, "two", `Etag: "2"`, "Cache-Control: max-age=60"))
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("two"), "fwd=stale; fwd-status=200; stored")
	s.settle(t)
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("two"), "hit")
	if n := len(u.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
	u.set(give(404, "gone", "Cache-Control: max-age=60"))
	s.ask(t, "GET", "/w/g").want(t, 404, []byte("gone"), "fwd=uri-miss; fwd-status=404; stored")
	s.settle(t)
	s.ask(t, "GET", "/w/g").want(t, 404, []byte("gone"), "hit")
}

// TestWebFails: an old entry is better than a failure, and without one the failure is the
// upstream's own.
func TestWebFails(t *testing.T) {
	s, u := newWeb(t, "", give(200, "one", `Etag: "1"`, "Cache-Control: max-age=0"))
	s.ask(t, "GET", "/w/f")
	s.settle(t)
	for _, status := range []int{500, 502, 503, 429} {
		u.set(give(status, "broken", "X-Why: broken", "Retry-After: 0"))
		s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), fmt.Sprintf("hit; ttl=-1; detail=origin-status-%d", status))
		a := s.ask(t, "GET", fmt.Sprintf("/w/g%d", status))
		a.want(t, status, []byte("broken"), fmt.Sprintf("fwd=uri-miss; fwd-status=%d", status))
		if a.header.Get("X-Why") != "broken" {
			t.Errorf("%d: %v", status, a.header)
		}
	}
	u.Close()
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), "hit; ttl=-")
	s.ask(t, "GET", "/w/g").want(t, 502, nil, "fwd=uri-miss; detail=origin-away")
}

// TestWebNotStored: what is not to be stored is not, nor shared, and costs one request each.
func TestWebNotStored(t *testing.T) {
	var n atomic.Int32
	s, u := newWeb(t, "", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprintf(w, "answer %d", n.Add(1))
	})
	seen := map[string]bool{}
	for range 4 {
		a := s.ask(t, "GET", "/w/f")
		if seen[string(a.body)] || a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
		seen[string(a.body)] = true
		s.settle(t)
	}
	if n := len(u.requests()); n != 4 {
		t.Errorf("%d requests for 4", n)
	}
}

// TestWebVariants: what depends on Accept has an entry for each.
func TestWebVariants(t *testing.T) {
	s, u := newWeb(t, "", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		w.Header().Set("Cache-Control", "max-age=60")
		fmt.Fprintf(w, "for %s", r.Header.Get("Accept"))
	})
	for range 3 {
		for _, accept := range []string{"a/b", "c/d", "e/f"} {
			s.ask(t, "GET", "/w/f", "Accept: "+accept).want(t, 200, []byte("for "+accept), "")
			s.settle(t)
		}
	}
	if n := len(u.requests()); n != 3 {
		t.Errorf("%d requests for 3 variants", n)
	}
}

// TestWebEncoded: an encoded body is stored as it came, and decoded for who does not take it.
func TestWebEncoded(t *testing.T) {
	plain := strings.Repeat("hello ", 10000)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(plain))
	z.Close()
	s, u := newWeb(t, "", give(200, packed.String(), `Etag: "1"`, "Cache-Control: max-age=60", "Content-Encoding: gzip", "Content-Type: text/plain", "Vary: Accept-Encoding"))
	for n := range 2 {
		a := s.ask(t, "GET", "/w/f", "Accept-Encoding: gzip")
		a.want(t, 200, packed.Bytes(), "")
		b := s.ask(t, "GET", "/w/f")
		b.want(t, 200, []byte(plain), "")
		if a.header.Get("Content-Encoding") != "gzip" || b.header.Get("Content-Encoding") != "" || a.header.Get("Etag") == b.header.Get("Etag") || b.header.Get("Vary") == "" {
			t.Errorf("%d: %v and %v", n, a.header, b.header)
		}
		s.ask(t, "GET", "/w/f", "If-None-Match: "+b.header.Get("Etag")).want(t, 304, nil, "")
		s.settle(t)
	}
	if n := len(u.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestWebCollapses: however many clients, ranges among them, there is one request.
func TestWebCollapses(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 1<<16)
	s, u := newWeb(t, "", func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(100 * time.Millisecond)
		give(200, body, `Etag: "1"`, "Cache-Control: max-age=60")(w, r)
	})
	var wg sync.WaitGroup
	for n := range 60 {
		wg.Go(func() {
			if n%3 == 0 {
				s.ask(t, "GET", "/w/f", "Range: bytes=1000000-1000009").want(t, 206, []byte(body[1000000:1000010]), "")
				return
			}
			s.ask(t, "GET", "/w/f").want(t, 200, []byte(body), "")
		})
	}
	wg.Wait()
	if n := len(u.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestWebSlowStart: a fill that does not get on at first, since a crowd has just come, is
// still waited for.
func TestWebSlowStart(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 1<<16)
	s, u := newWeb(t, "", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") == "" {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
			w.Header().Set("Etag", `"1"`)
			_, _ = io.WriteString(w, body[:1000])
			_ = http.NewResponseController(w).Flush()
			time.Sleep(600 * time.Millisecond)
			_, _ = io.WriteString(w, body[1000:])
			return
		}
		give(200, body, `Etag: "1"`)(w, r)
	})
	s.ask(t, "GET", "/w/f", "Range: bytes=1000000-1000009").want(t, 206, []byte(body[1000000:1000010]), "")
	if n := len(u.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestWebRules: what the mount says of paths goes before what the upstream says.
func TestWebRules(t *testing.T) {
	const rules = `, "ttls": [{"match": ["*.json"], "for": "1h"}], "pass": ["/live"], "ignore_query": ["*.tgz"]`
	s, u := newWeb(t, rules, give(200, "one", `Etag: "1"`, "Cache-Control: max-age=0"))
	for _, tc := range []struct {
		first, second string
		want          int // requests
	}{
		{"/w/a.json", "/w/a.json", 1},
		{"/w/a.txt", "/w/a.txt", 2},
		{"/w/live/a.json", "/w/live/a.json", 2},
		{"/w/b.json?x=1", "/w/b.json?x=2", 2},
	} {
		s.ask(t, "GET", tc.first).want(t, 200, []byte("one"), "")
		s.settle(t)
		s.ask(t, "GET", tc.second).want(t, 200, []byte("one"), "")
		s.settle(t)
		if n := len(u.requests()); n != tc.want {
			t.Errorf("%s and %s: %d requests, want %d", tc.first, tc.second, n, tc.want)
		}
	}
	s.ask(t, "GET", "/w/a.tgz?token=1")
	s.settle(t)
	s.ask(t, "GET", "/w/a.tgz?token=2").want(t, 200, []byte("one"), "fwd=stale; fwd-status=304")
	if asked := u.requests(); len(asked) != 2 || asked[0].RequestURI != "/a.tgz?token=1" {
		t.Errorf("asked for %v", asked)
	}
}

// TestWebPolicy: clients have nothing asked for again under the policy mirror.
func TestWebPolicy(t *testing.T) {
	for policy, want := range map[string]int{"rfc": 2, "mirror": 1} {
		s, u := newWeb(t, fmt.Sprintf(`, "policy": %q`, policy), give(200, "one", `Etag: "1"`, "Cache-Control: max-age=60"))
		s.ask(t, "GET", "/w/f")
		s.settle(t)
		s.ask(t, "GET", "/w/f", "Cache-Control: no-cache").want(t, 200, []byte("one"), "")
		if n := len(u.requests()); n != want {
			t.Errorf("%s: %d requests, want %d", policy, n, want)
		}
		s.ask(t, "GET", "/w/g", "Cache-Control: only-if-cached").want(t, 504, nil, "")
		if n := len(u.requests()); n != 0 {
			t.Errorf("%s: asked for what is not cached", policy)
		}
	}
}

// TestWebUnframed: a body that ends with its connection may be cut, so it is not stored.
func TestWebUnframed(t *testing.T) {
	s, u := newWeb(t, "", func(w http.ResponseWriter, _ *http.Request) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = buf.WriteString("HTTP/1.0 200 OK\r\nCache-Control: max-age=60\r\n\r\nall of it?")
		_ = buf.Flush()
	})
	for range 2 {
		s.ask(t, "GET", "/w/f").want(t, 200, []byte("all of it?"), "fwd=bypass")
		s.settle(t)
	}
	if n := len(u.requests()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// TestWebNegative: what is not there is asked for again soon, but not by each client.
func TestWebNegative(t *testing.T) {
	s, u := newWeb(t, "", give(404, "no"))
	for range 3 {
		s.ask(t, "GET", "/w/f").want(t, 404, []byte("no"), "")
		s.settle(t)
	}
	if n := len(u.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestWebFieldsOfTheUpstream: cookies and what is about the upstream's host stay there.
func TestWebFieldsOfTheUpstream(t *testing.T) {
	s, _ := newWeb(t, "", give(200, "one", "Cache-Control: max-age=60", "Set-Cookie: a=b", "Strict-Transport-Security: max-age=1", "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: 1"))
	for range 2 {
		h := s.ask(t, "GET", "/w/f").header
		for _, name := range []string{"Set-Cookie", "Strict-Transport-Security", "X-Hop", "Keep-Alive"} {
			if h.Get(name) != "" {
				t.Errorf("%s came through", name)
			}
		}
		s.settle(t)
	}
}

// TestWebPaths: what could mean another object to the upstream is refused, all else goes
// out as it came.
func TestWebPaths(t *testing.T) {
	s, u := newWeb(t, "", give(200, "one"))
	for path, want := range map[string]string{
		"/w/a%2Fb": "/a%2Fb", "/w/a//b": "/a//b", "/w/a%252f": "/a%252f", "/w/@s%2fp": "/@s%2fp", "/w/a/": "/a/", "/w/": "/",
		"/%77/a%20b": "/a%20b", "/w/a?": "/a",
	} {
		s.ask(t, "GET", path).want(t, 200, []byte("one"), "")
		if asked := u.requests(); len(asked) != 1 || asked[0].RequestURI != want {
			t.Errorf("%s: asked for %v", path, asked)
		}
	}
	for _, path := range []string{"/w/a/%2e%2e/b", "/w/a/%2E./b", "/w/a/%2e/b", "/w/a%2F..%2Fb"} {
		if a := s.ask(t, "GET", path); a.status != 400 {
			t.Errorf("%s: status %d", path, a.status)
		}
	}
	if n := len(u.requests()); n != 0 {
		t.Error("the upstream was asked for dot elements")
	}
}

// TestWebPurge removes what is of a path, with all queries.
func TestWebPurge(t *testing.T) {
	s, u := newWeb(t, "", give(200, "one", "Cache-Control: max-age=60"))
	for _, path := range []string{"/w/a%20b?x=1", "/w/a%20b", "/w/c"} {
		s.ask(t, "GET", path)
		s.settle(t)
	}
	m := s.h.Mounts[0]
	if n, err := m.Purge("a b", ""); n != 2 || err != nil {
		t.Errorf("%d purged, %v", n, err)
	}
	if n, err := m.Purge("", "c"); n != 1 || err != nil {
		t.Errorf("%d purged, %v", n, err)
	}
	u.requests()
	s.ask(t, "GET", "/w/c").want(t, 200, nil, "fwd=uri-miss")
}

// TestWebEncodedLie: a body that is not what its Content-Encoding says, or becomes too much,
// is cut and does not stay in the cache.
func TestWebEncodedLie(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 64 {
		_, _ = z.Write(zeros)
	}
	z.Close()
	for name, body := range map[string]string{"lie": "this is no gzip", "bomb": bomb.String()} {
		t.Run(name, func(t *testing.T) {
			s, u := newWeb(t, "", give(200, body, `Etag: "1"`, "Cache-Control: max-age=60", "Content-Encoding: gzip"))
			for range 2 {
				resp, err := http.Get(s.URL + "/w/f")
				if err == nil {
					resp.Body.Close()
				}
				s.settle(t)
			}
			for range 2 {
				r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/w/f", nil)
				r.Header.Set("Accept-Encoding", "identity")
				resp, err := http.DefaultTransport.RoundTrip(r)
				if err == nil {
					var n int64
					n, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					if n > 40<<20 {
						t.Errorf("%d bytes were sent", n)
					}
				}
				if err == nil {
					t.Error("the answer was not cut")
				}
				s.settle(t)
				if n, _ := s.h.Mounts[0].cache.Open().Usage(s.h.Mounts[0].group); n != 0 {
					t.Error("it is still in the cache")
				}
			}
			if n := len(u.requests()); n != 2 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestWebFailurePastTheCache: what is known not to be stored fails as the upstream fails.
func TestWebFailurePastTheCache(t *testing.T) {
	s, u := newWeb(t, "", give(200, "one", "Cache-Control: no-store"))
	s.ask(t, "GET", "/w/f")
	s.settle(t)
	u.set(give(500, "broken"))
	s.ask(t, "GET", "/w/f").want(t, 500, []byte("broken"), "fwd=bypass")
}

// TestWebRedirects: a redirect to another host is the client's, and leads to the mount that
// has it if there is one.
func TestWebRedirects(t *testing.T) {
	files := httptest.NewServer(give(200, "file", "Cache-Control: max-age=60"))
	defer files.Close()
	index := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/file":
			http.Redirect(w, r, files.URL+"/store/a%2Fb?x=1", http.StatusFound)
		case "/elsewhere":
			http.Redirect(w, r, "http://elsewhere.example/f", http.StatusMovedPermanently)
		case "/here":
			http.Redirect(w, r, "/there", http.StatusFound)
		default:
			give(200, "there", "Cache-Control: max-age=60")(w, r)
		}
	}))
	defer index.Close()
	s := newSite(
		t, fmt.Sprintf(`{"prefix": "/w", "origins": [{"origin": "http", "upstreams": [%q]}]}`, index.URL),
		fmt.Sprintf(`{"prefix": "/files", "origins": [{"origin": "http", "upstreams": [%q]}]}`, files.URL+"/store"),
	)
	for path, want := range map[string]string{
		"/w/file":      "/files/a%2Fb?x=1",
		"/w/elsewhere": "http://elsewhere.example/f",
	} {
		for range 2 {
			a := s.ask(t, "GET", path)
			if a.status/100 != 3 || a.header.Get("Location") != want {
				t.Errorf("%s: %d to %q, want %q", path, a.status, a.header.Get("Location"), want)
			}
			s.settle(t)
		}
	}
	s.ask(t, "GET", "/w/here").want(t, 200, []byte("there"), "")
	s.ask(t, "GET", "/files/a%2Fb?x=1").want(t, 200, []byte("file"), "")
}

// TestWebReload: what is in memory goes by the configuration of now.
func TestWebReload(t *testing.T) {
	s, u := newWeb(t, `, "ttl": "1h"`, give(200, "one", `Etag: "1"`))
	s.ask(t, "GET", "/w/f")
	s.settle(t)
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), "hit")
	m := s.h.Mounts[0]
	m.lifetimes.ttl[0].For = 1
	m.serial = mountSerial.Add(1) // as the next configuration's
	u.requests()
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), "fwd=stale; fwd-status=304")
}

// TestWebAskedOnce: what replaces an entry that may not be served without asking is asked
// for once, also if it is in the cache before the request looks there again.
func TestWebAskedOnce(t *testing.T) {
	n := 0
	s, u := newWeb(t, "", func(w http.ResponseWriter, r *http.Request) {
		n++
		give(200, fmt.Sprint("version ", n), "Cache-Control: max-age=0")(w, r)
	})
	s.ask(t, "GET", "/w/f")
	s.settle(t)
	for n := 2; n < 60; n++ {
		s.ask(t, "GET", "/w/f").want(t, 200, []byte(fmt.Sprint("version ", n)), "fwd=stale; fwd-status=200")
		s.settle(t)
	}
	if n := len(u.requests()); n != 59 {
		t.Errorf("%d requests for 59", n)
	}
}

// TestWebCollapsesSlowly: ranges far ahead of a fill wait for it if it gets there soon, and
// are asked for if it does not.
func TestWebCollapsesSlowly(t *testing.T) {
	const parts = 64
	part := strings.Repeat("0123456789abcdef", 1<<10)
	whole := strings.Repeat(part, parts)
	for name, tc := range map[string]struct {
		pause time.Duration // after each part
		least int           // requests
		most  int
	}{"soon": {20 * time.Millisecond, 1, 1}, "late": {500 * time.Millisecond, 2, 11}} {
		t.Run(name, func(t *testing.T) {
			end := make(chan struct{})
			defer close(end)
			s, u := newWeb(t, "", func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Range") != "" {
					give(200, whole, `Etag: "1"`)(w, r)
					return
				}
				w.Header().Set("Etag", `"1"`)
				w.Header().Set("Content-Length", strconv.Itoa(len(whole)))
				for range parts {
					_, _ = io.WriteString(w, part)
					w.(http.Flusher).Flush()
					select {
					case <-time.After(tc.pause):
					case <-end:
						panic(http.ErrAbortHandler)
					}
				}
			})
			var wg sync.WaitGroup
			for range 10 {
				wg.Go(func() {
					s.ask(t, "GET", "/w/f", "Range: bytes=1000000-1000009").want(t, 206, []byte(whole[1000000:1000010]), "")
				})
			}
			wg.Wait()
			if n := len(u.requests()); n < tc.least || n > tc.most {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestWebMethods: a method that is let through goes there and back, and what it may have
// changed is asked for again.
func TestWebMethods(t *testing.T) {
	version := 1
	s, u := newWeb(t, `, "methods": ["POST"]`, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			body, _ := io.ReadAll(r.Body)
			version++
			w.Header().Set("Content-Location", "/index")
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, "got %s as %s", body, r.Header.Get("Content-Type"))
			return
		}
		give(200, fmt.Sprint("version ", version, " for ", r.Header.Get("Accept")), "Cache-Control: max-age=60", "Vary: Accept")(w, r)
	})
	get := func(path, want, status string) {
		t.Helper()
		for _, accept := range []string{"a/b", "c/d"} {
			s.ask(t, "GET", path, "Accept: "+accept).want(t, 200, []byte(want+" for "+accept), status)
			s.settle(t)
		}
	}
	paths := []string{"/w/f", "/w/index", "/w/other"}
	for _, path := range paths {
		get(path, "version 1", "fwd=uri-miss")
		get(path, "version 1", "hit")
	}
	resp, err := http.Post(s.URL+"/w/f", "text/x", strings.NewReader("something"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusCreated || string(body) != "got something as text/x" || resp.Header.Get("Cache-Status") != "mirror; fwd=method; fwd-status=201" {
		t.Errorf("%s %s %v", resp.Status, body, resp.Header)
	}
	get("/w/f", "version 2", "fwd=uri-miss")
	get("/w/index", "version 2", "fwd=uri-miss")
	get("/w/other", "version 1", "hit")
	u.requests()
	if a := s.ask(t, "PUT", "/w/f"); a.status != 405 || a.header.Get("Allow") != "GET, HEAD, POST" || len(u.requests()) > 0 {
		t.Errorf("PUT: %d %v", a.status, a.header)
	}
}

// TestWebVariantsStay: that one variant was replaced does not lose the others.
func TestWebVariantsStay(t *testing.T) {
	s, u := newWeb(t, "", nil)
	answer := func(body string) {
		u.set(func(w http.ResponseWriter, r *http.Request) {
			give(200, body+" for "+r.Header.Get("Accept"), "Cache-Control: max-age=0", "Vary: Accept")(w, r)
		})
	}
	ask := func(accept, want string) {
		t.Helper()
		s.ask(t, "GET", "/w/f", "Accept: "+accept).want(t, 200, []byte(want), "")
		s.settle(t)
	}
	answer("one")
	ask("a/b", "one for a/b")
	ask("c/d", "one for c/d")
	answer("two")
	ask("a/b", "two for a/b")
	u.set(give(500, ""))
	ask("c/d", "one for c/d")
	ask("a/b", "two for a/b")
}

// TestWebUnconfirmed: an entry of which it is not known when it was confirmed is asked for,
// and serves if that fails.
func TestWebUnconfirmed(t *testing.T) {
	s, u := newWeb(t, "", give(200, "one", `Etag: "1"`, "Cache-Control: max-age=3600"))
	s.ask(t, "GET", "/w/f")
	s.settle(t)
	e, ok := s.h.Mounts[0].cache.Open().Get(s.h.Mounts[0].key("f"))
	if !ok {
		t.Fatal("it is not cached")
	}
	defer e.Close()
	e.Refresh(diskcache.Freshness{})
	u.set(give(500, "broken"))
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), "hit; ttl=-")
	u.set(give(200, "one", `Etag: "1"`, "Cache-Control: max-age=3600"))
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), "fwd=stale; fwd-status=304")
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), "hit")
}

// TestWebAsk: the format says how an upstream is asked: clients that want the same in other
// words share an entry, and files are not packed once more.
func TestWebAsk(t *testing.T) {
	s, u := newWeb(t, `, "format": {"format": "pypi"}`, give(200, "page", "Vary: Accept, Accept-Encoding", `Etag: "1"`))
	const json, html = "application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.v1+html"
	for _, accept := range []string{
		json + ", " + html + ";q=0.1, text/html;q=0.01",
		json + ", " + html + "; q=0.2, text/html; q=0.01, x/y;q=0.5",
	} {
		s.ask(t, "GET", "/w/simple/a/", "Accept: "+accept).want(t, 200, []byte("page"), "")
		s.settle(t)
	}
	s.ask(t, "GET", "/w/simple/a/", "Accept: text/html").want(t, 200, []byte("page"), "fwd=uri-miss")
	s.settle(t)
	s.ask(t, "GET", "/w/packages/a.whl", "Accept: */*", "Accept-Encoding: gzip").want(t, 200, []byte("page"), "fwd=uri-miss")
	asked := u.requests()
	if len(asked) != 3 {
		t.Fatalf("%d requests for 3 variants", len(asked))
	}
	if got := asked[0].Header.Get("Accept"); got != json+", "+html+";q=0.5, text/html;q=0.1" {
		t.Errorf("asked for %s", got)
	}
	if h := asked[2].Header; h.Get("Accept-Encoding") != "identity" || h.Get("Accept") != "" {
		t.Errorf("a file was asked for as %v", h)
	}
}
