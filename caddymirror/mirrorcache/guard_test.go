package mirrorcache

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestGuard: an object that goes back is asked for past the upstream's caches, and kept for
// a while.
func TestGuard(t *testing.T) {
	page := func(serial, body string) http.HandlerFunc {
		return give(200, body, "Cache-Control: max-age=0", "X-PyPI-Last-Serial: "+serial)
	}
	s, u := newWeb(t, "", page("10", "ten"))
	m := s.h.Mounts[0]
	s.ask(t, "GET", "/w/simple/")
	s.settle(t)

	// A cache in between has an old page.
	u.set(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Cache-Control") == "no-cache" {
			page("11", "eleven")(w, r)
			return
		}
		page("9", "nine")(w, r)
	})
	s.ask(t, "GET", "/w/simple/").want(t, 200, []byte("eleven"), "fwd=stale")
	s.settle(t)

	// The upstream has, and it stays so.
	u.set(page("9", "nine"))
	for range 3 {
		s.ask(t, "GET", "/w/simple/").want(t, 200, []byte("eleven"), "fwd=stale; fwd-status=200; detail=guard")
		s.settle(t)
	}
	u.set(give(200, "no serial", "Cache-Control: max-age=0"))
	s.ask(t, "GET", "/w/simple/").want(t, 200, []byte("no serial"), "")
	s.settle(t)

	u.set(page("9", "nine"))
	s.ask(t, "GET", "/w/simple/").want(t, 200, []byte("nine"), "")
	s.settle(t)
	m.Guard = caddy.Duration(300 * time.Millisecond)
	u.set(page("8", "eight"))
	s.ask(t, "GET", "/w/simple/").want(t, 200, []byte("nine"), "")
	s.settle(t)
	time.Sleep(400 * time.Millisecond)
	s.ask(t, "GET", "/w/simple/").want(t, 200, []byte("eight"), "")
}

// TestGuardNextUpstream: the next upstream may have what the first has no more.
func TestGuardNextUpstream(t *testing.T) {
	next := httptest.NewServer(give(200, "new", "Last-Modified: Sat, 03 Jan 2026 00:00:00 GMT", "Cache-Control: max-age=0"))
	defer next.Close()
	first := httptest.NewServer(give(200, "old", "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT", "Cache-Control: max-age=0"))
	defer first.Close()
	fresh := httptest.NewServer(nil)
	defer fresh.Close()
	s := newSite(t, `{"prefix": "/w", "origins": [{"origin": "http", "upstreams": ["`+fresh.URL+`", "`+next.URL+`"]}]}`)
	fresh.Config.Handler = give(200, "new", "Last-Modified: Fri, 02 Jan 2026 00:00:00 GMT", "Cache-Control: max-age=0")
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("new"), "")
	s.settle(t)
	fresh.Config.Handler = first.Config.Handler
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("new"), "fwd=stale; fwd-status=200")
}

// TestFillWhole: a part of a large object does not have all of it copied, unless more of it
// is asked for.
func TestFillWhole(t *testing.T) {
	body := make([]byte, 2<<20)
	for i := range body {
		body[i] = byte(i >> 8)
	}
	s, u := newWeb(t, `, "fill_whole": 1048576`, give(200, string(body), `Etag: "1"`, "Cache-Control: max-age=60"))
	s.ask(t, "GET", "/w/f", "Range: bytes=2000000-2000009").want(t, 206, body[2000000:2000010], "fwd=uri-miss; fwd-status=206")
	s.settle(t)
	c := s.h.Mounts[0].cache.Open()
	if n, _ := c.Usage(s.h.Mounts[0].group); n != 0 {
		t.Error("it was copied for one part")
	}
	s.ask(t, "GET", "/w/f", "Range: bytes=2000010-2000019").want(t, 206, body[2000010:2000020], "")
	s.settle(t)
	s.ask(t, "GET", "/w/f").want(t, 200, body, "hit")
	for _, r := range u.requests() {
		if r.Header.Get("Range") == "bytes=2000000-" {
			t.Error("more was asked for than is wanted")
		}
	}
}

// TestCooldown: a version that was published a moment ago is not offered.
func TestCooldown(t *testing.T) {
	young := "Last-Modified: " + time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	s, u := newWeb(t, `, "format": {"format": "pypi"}, "cooldown": "72h"`, give(200, "file", young))
	for range 2 {
		s.ask(t, "GET", "/w/packages/a/a-1.whl").want(t, 404, nil, "hit; detail=cooldown")
		s.settle(t)
	}
	s.ask(t, "GET", "/w/simple/a/").want(t, 200, []byte("file"), "")
	u.set(give(200, "file", "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT"))
	s.ask(t, "GET", "/w/packages/b/b-1.whl").want(t, 200, []byte("file"), "")
	m := s.h.Mounts[0]
	m.Cooldown = caddy.Duration(time.Minute)
	s.ask(t, "GET", "/w/packages/a/a-1.whl").want(t, 200, []byte("file"), "hit")
}

// TestGuardLimit: to ask once more takes no second place among the requests that the
// upstream may be sent at once.
func TestGuardLimit(t *testing.T) {
	big := strings.Repeat("x", 8<<20) // or the first answer has come, and gives back its place
	u := httptest.NewServer(nil)
	defer u.Close()
	u.Config.Handler = give(200, big+"new", "Last-Modified: Fri, 02 Jan 2026 00:00:00 GMT", "Cache-Control: max-age=0")
	s := newSite(t, `{"prefix": "/w", "revalidate_timeout": "10s", "origins": [{"origin": "http", "upstreams": ["`+u.URL+`"], "limit": {"requests": 1}}]}`)
	s.ask(t, "GET", "/w/f").want(t, 200, nil, "")
	s.settle(t)
	u.Config.Handler = give(200, big+"old", "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT", "Cache-Control: max-age=0")
	start := time.Now()
	s.ask(t, "GET", "/w/f").want(t, 200, []byte(big+"new"), "fwd=stale; fwd-status=200; detail=guard")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestGuardAsks: what is guarded is not looked for past the caches at each request.
func TestGuardAsks(t *testing.T) {
	date := "Date: " + time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)
	s, u := newWeb(t, `, "policy": "rfc"`, give(200, "new", "Last-Modified: Fri, 02 Jan 2026 00:00:00 GMT", "Cache-Control: max-age=1"))
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("new"), "")
	s.settle(t)
	time.Sleep(1100 * time.Millisecond)
	u.set(give(200, "old", "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT", "Cache-Control: max-age=60", date))
	u.requests()
	for range 5 {
		s.ask(t, "GET", "/w/f").want(t, 200, []byte("new"), "")
	}
	if n := u.asks(); n != 6 {
		t.Errorf("%d requests", n)
	}
}
