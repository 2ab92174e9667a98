package mirrorcache

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// TestWebForbiddenThenAway: after an answer that is not stored, the old entry is still better
// than an upstream that is away.
func TestWebForbiddenThenAway(t *testing.T) {
	s, u := newWeb(t, "", give(200, "one", `Etag: "1"`, "Cache-Control: max-age=0"))
	s.ask(t, "GET", "/w/f")
	s.settle(t)
	u.set(give(403, "no"))
	s.ask(t, "GET", "/w/f").want(t, 403, []byte("no"), "")
	s.settle(t)
	u.set(give(503, "away"))
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), "hit; ttl=-1; detail=origin-status-503")
	u.Close()
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), "hit; ttl=-")
	s.ask(t, "GET", "/w/f", "Cache-Control: no-cache").want(t, 502, nil, "")
}

// TestWebAge over 304s (RFC 9111 section 4.2.3).
func TestWebAge(t *testing.T) {
	old := time.Now().Add(-100 * time.Second).UTC().Format(http.TimeFormat)
	s, u := newWeb(t, "", give(200, "one", `Etag: "1"`, "Cache-Control: max-age=90", "Date: "+old, "Age: 5"))
	age := func(a answer) int { n, _ := strconv.Atoi(a.header.Get("Age")); return n }
	if n := age(s.ask(t, "GET", "/w/f")); n < 99 || n > 103 {
		t.Errorf("Age %d", n)
	}
	s.settle(t)
	u.set(give(200, "one", `Etag: "1"`, "Cache-Control: max-age=90", "Age: 50"))
	a := s.ask(t, "GET", "/w/f")
	a.want(t, 200, []byte("one"), "fwd=stale; fwd-status=304")
	if n := age(a); n < 50 || n > 53 || a.header.Get("Date") == old {
		t.Errorf("Age %d, %v", n, a.header)
	}
	a = s.ask(t, "GET", "/w/f", `If-None-Match: "1"`)
	a.want(t, 304, nil, "hit")
	if n := age(a); n < 50 || n > 54 {
		t.Errorf("Age %d", n)
	}
	s.ask(t, "GET", "/w/f", "Cache-Control: min-fresh=60").want(t, 200, nil, "fwd=stale; fwd-status=304")
	s.ask(t, "GET", "/w/f", "Cache-Control: max-age=20").want(t, 200, nil, "fwd=stale; fwd-status=304")
	if n := len(u.requests()); n != 4 {
		t.Errorf("%d requests", n)
	}
}

// TestWebVarySeveral has several fields, of which some are never sent.
func TestWebVarySeveral(t *testing.T) {
	s, u := newWeb(t, "", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Accept, User-Agent")
		w.Header().Add("Vary", "Accept-Encoding, Cookie")
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Etag", strconv.Quote(r.Header.Get("Accept")))
		fmt.Fprint(w, r.Header.Get("Accept"))
	})
	for range 2 {
		for _, a := range []string{"a/b", "c/d", "a/b;q=0.5, c/d"} {
			for _, ua := range []string{"x", "y"} {
				s.ask(t, "GET", "/w/f", "Accept: "+a, "User-Agent: "+ua, "Cookie: "+ua).want(t, 200, []byte(a), "")
				s.settle(t)
				s.ask(t, "GET", "/w/f", "Accept: "+a, "Range: bytes=1-1").want(t, 206, []byte(a[1:2]), "hit")
				s.ask(t, "GET", "/w/f", "Accept: "+a, "If-None-Match: "+strconv.Quote("a/b")).want(t, map[bool]int{true: 304, false: 200}[a == "a/b"], nil, "hit")
			}
		}
	}
	if n := len(u.requests()); n != 3 {
		t.Errorf("%d requests", n)
	}
}

// TestWebStaleWhileRevalidate and CDN-Cache-Control (RFC 5861, RFC 9213).
func TestWebStaleWhileRevalidate(t *testing.T) {
	s, u := newWeb(t, "", give(200, "one", `Etag: "1"`, "Cache-Control: no-store", "Cdn-Cache-Control: max-age=0, stale-while-revalidate=60"))
	s.ask(t, "GET", "/w/f")
	s.settle(t)
	u.set(give(200, "two", `Etag: "2"`, "Cdn-Cache-Control: max-age=60", "Cache-Control: no-store"))
	a := s.ask(t, "GET", "/w/f")
	a.want(t, 200, []byte("one"), "hit; detail=stale-while-revalidate")
	if a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%v", a.header)
	}
	time.Sleep(100 * time.Millisecond)
	s.settle(t)
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("two"), "hit")
	if n := len(u.requests()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// TestWebHeadCold: a HEAD of what is not there costs a HEAD, and a GET says the same.
func TestWebHeadCold(t *testing.T) {
	s, u := newWeb(t, "", give(200, "hello", `Etag: "1"`, "Cache-Control: max-age=60", "Content-Type: a/b", "Content-Language: de"))
	h := s.ask(t, "HEAD", "/w/f")
	h.want(t, 200, nil, "fwd=uri-miss; fwd-status=200")
	g := s.ask(t, "GET", "/w/f")
	for _, name := range []string{"Content-Length", "Etag", "Cache-Control", "Content-Type", "Content-Language", "Accept-Ranges", "Vary"} {
		if h.header.Get(name) != g.header.Get(name) {
			t.Errorf("%s: %q and %q", name, h.header.Get(name), g.header.Get(name))
		}
	}
	if asked := u.requests(); len(asked) != 2 || asked[0].Method != http.MethodHead {
		t.Errorf("%v", asked)
	}
	u.set(give(404, "no"))
	s.ask(t, "HEAD", "/w/g").want(t, 404, nil, "fwd=uri-miss; fwd-status=404")
	u.set(give(302, "", "Location: http://elsewhere.example/x"))
	if a := s.ask(t, "HEAD", "/w/h"); a.status != 302 || a.header.Get("Location") != "http://elsewhere.example/x" {
		t.Errorf("%v", a)
	}
}

// TestWebUntyped: of what the upstream says no media type, none is guessed.
func TestWebUntyped(t *testing.T) {
	s, _ := newWeb(t, "", func(w http.ResponseWriter, r *http.Request) {
		w.Header()["Content-Type"] = nil
		give(200, "x <html>", `Etag: "1"`, "Cache-Control: max-age=60")(w, r)
	})
	for _, fields := range [][]string{{"A: b"}, {"A: b"}, {"Range: bytes=2-"}} {
		if a := s.ask(t, "GET", "/w/f", fields...); a.status/100 != 2 || a.header.Get("Content-Type") != "" {
			t.Errorf("%d %v", a.status, a.header)
		}
		s.settle(t)
	}
}

// TestWebReset: a 205 has no content.
func TestWebReset(t *testing.T) {
	s, _ := newWeb(t, "", give(205, "abc", "Cache-Control: max-age=60", "Content-Length: 3"))
	for range 2 {
		if a := s.ask(t, "GET", "/w/f"); a.status != 205 || len(a.body) > 0 || a.header.Get("Content-Length") != "0" {
			t.Errorf("%d %q %v", a.status, a.body, a.header)
		}
		s.settle(t)
	}
}
