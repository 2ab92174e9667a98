package mirrorcache

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func gzipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(s))
	z.Close()
	return b.String()
}

// TestWebQueryNotShared: a query that is ignored in the cache is not where nothing is stored.
func TestWebQueryNotShared(t *testing.T) {
	s, _ := newWeb(t, `, "ignore_query": ["*"]`, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(50 * time.Millisecond)
		w.Header().Set("Cache-Control", "no-store")
		fmt.Fprint(w, r.URL.RawQuery)
	})
	var wg sync.WaitGroup
	for n := range 12 {
		wg.Go(func() {
			s.ask(t, "GET", fmt.Sprintf("/w/f?%d", n)).want(t, 200, fmt.Append(nil, n), "")
		})
	}
	wg.Wait()
}

// TestWebEncodedErrors: other responses than 200 are decoded, too.
func TestWebEncodedErrors(t *testing.T) {
	for _, status := range []int{404, 403, 503} {
		s, _ := newWeb(t, "", give(status, gzipped("not here"), "Content-Encoding: gzip", "Content-Type: text/plain"))
		for range 2 {
			a := s.ask(t, "GET", "/w/f")
			a.want(t, status, []byte("not here"), "")
			if a.header.Get("Content-Encoding") != "" {
				t.Errorf("%d: %v", status, a.header)
			}
			s.settle(t)
			s.ask(t, "HEAD", "/w/f").want(t, status, nil, "")
		}
	}
}

// TestWebOnlyIfCached asks nobody (RFC 9111 section 5.2.1.7), also for what is known not to
// be stored.
func TestWebOnlyIfCached(t *testing.T) {
	s, u := newWeb(t, "", give(200, "one", "Cache-Control: no-store"))
	s.ask(t, "GET", "/w/f")
	s.settle(t)
	u.requests()
	s.ask(t, "GET", "/w/f", "Cache-Control: only-if-cached").want(t, 504, nil, "")
	if n := len(u.requests()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestWebCacheControlStays: where the mount decides on lifetimes, it does not permit other
// caches to share what the upstream forbids to.
func TestWebCacheControlStays(t *testing.T) {
	for _, tc := range []struct {
		status int
		cc     string
	}{{200, "no-store"}, {200, "private"}, {403, "private, max-age=60"}, {302, "no-store"}} {
		s, _ := newWeb(t, `, "policy": "mirror"`, give(tc.status, "one", "Cache-Control: "+tc.cc))
		for range 2 {
			if cc := s.ask(t, "GET", "/w/f").header.Get("Cache-Control"); cc != tc.cc {
				t.Errorf("%d %s became %s", tc.status, tc.cc, cc)
			}
			s.settle(t)
		}
	}
	s, _ := newWeb(t, `, "policy": "mirror", "pass_authorization": true`, give(200, "one"))
	if cc := s.ask(t, "GET", "/w/f", "Authorization: x").header.Get("Cache-Control"); strings.Contains(cc, "public") {
		t.Errorf("a response to a request with Authorization: %s", cc)
	}
}

// TestWebNegativeIsNotConfirmed: a 304 is about a 200 (RFC 9110 section 13.2.1), so a 404
// is asked for again without conditions.
func TestWebNegativeIsNotConfirmed(t *testing.T) {
	s, u := newWeb(t, "", give(404, "no", "Last-Modified: Mon, 02 Nov 2026 00:00:00 GMT", `Etag: "e"`, "Cache-Control: max-age=0"))
	s.ask(t, "GET", "/w/f").want(t, 404, nil, "")
	s.settle(t)
	u.set(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-Modified-Since")+r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		give(200, "file", "Last-Modified: Mon, 01 Jun 2026 00:00:00 GMT")(w, r)
	})
	s.ask(t, "GET", "/w/f").want(t, 200, []byte("file"), "")
}

// TestWebHeadChanged: a HEAD of what has changed costs no second request.
func TestWebHeadChanged(t *testing.T) {
	s, u := newWeb(t, "", give(200, "one", `Etag: "1"`, "Cache-Control: max-age=0"))
	s.ask(t, "GET", "/w/f")
	s.settle(t)
	u.requests()
	u.set(give(200, "three", `Etag: "2"`, "Cache-Control: max-age=60"))
	a := s.ask(t, "HEAD", "/w/f")
	a.want(t, 200, nil, "fwd=stale; fwd-status=200")
	if a.header.Get("Etag") != `"2"` || a.header.Get("Content-Length") != "5" {
		t.Errorf("%v", a.header)
	}
	s.settle(t)
	if n := len(u.requests()); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestWebGone: what is gone is, also if that is not to be stored.
func TestWebGone(t *testing.T) {
	for n := range 20 {
		s, u := newWeb(t, "", give(200, "one", `Etag: "1"`, "Cache-Control: max-age=0"))
		s.ask(t, "GET", "/w/f")
		s.settle(t)
		u.requests()
		u.set(give(404, "gone", "Cache-Control: no-store"))
		s.ask(t, "GET", "/w/f").want(t, 404, []byte("gone"), "")
		s.settle(t)
		if n := len(u.requests()); n != 1 {
			t.Errorf("%d requests", n)
		}
		u.Close()
		s.h.Mounts[0].unstored.forget("f") // as after a while
		if a := s.ask(t, "GET", "/w/f"); a.status == 200 {
			t.Errorf("%d: what is gone is back", n)
		}
	}
}

// TestWebUserRevalidates: the answer to a user is asked for again as that user.
func TestWebUserRevalidates(t *testing.T) {
	s, u := newWeb(t, `, "pass_authorization": true`, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		give(200, "one", `Etag: "1"`, "Cache-Control: public, max-age=0", "Vary: Authorization")(w, r)
	})
	for range 3 {
		s.ask(t, "GET", "/w/f", "Authorization: geheim").want(t, 200, []byte("one"), "")
		s.settle(t)
	}
	asked := u.requests()
	if len(asked) != 3 {
		t.Errorf("%d requests", len(asked))
	}
	for _, r := range asked {
		if r.Header.Get("Authorization") == "" {
			t.Error("asked without Authorization")
		}
	}
	err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte("geheim")) {
			t.Errorf("%s has the secret", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestWebChain: Cache-Status says what caches behind did (RFC 9211 section 2).
func TestWebChain(t *testing.T) {
	s, _ := newWeb(t, "", give(200, "one", "Cache-Control: max-age=60", "Cache-Status: cdn; hit"))
	for _, want := range []string{"mirror; fwd=uri-miss; fwd-status=200; stored", "mirror; hit"} {
		if got := strings.Join(s.ask(t, "GET", "/w/f").header["Cache-Status"], ", "); got != "cdn; hit, "+want {
			t.Error(got)
		}
		s.settle(t)
	}
}

// TestWebNoBody are responses without one.
func TestWebNoBody(t *testing.T) {
	for _, tc := range []struct {
		status int
		fields []string
	}{{204, nil}, {205, []string{"Content-Length: 0"}}, {200, []string{"Content-Length: 0"}}, {301, []string{"Content-Length: 0", "Location: http://elsewhere.example/"}}, {404, nil}, {410, []string{"Content-Length: 0"}}} {
		s, u := newWeb(t, "", give(tc.status, "", append(tc.fields, "Cache-Control: max-age=60", "X-A: 1")...))
		for n := range 3 {
			method := []string{"GET", "HEAD", "GET"}[n]
			a := s.ask(t, method, "/w/f")
			a.want(t, tc.status, nil, "")
			if a.header.Get("X-A") != "1" || len(a.body) > 0 {
				t.Errorf("%d: %v", tc.status, a)
			}
			if tc.status == 204 && a.header["Content-Length"] != nil {
				t.Errorf("%v", a.header)
			}
			s.settle(t)
		}
		if n := len(u.requests()); n != 1 {
			t.Errorf("%d: %d requests", tc.status, n)
		}
	}
}

// TestWebUnasked: what was not asked for is no answer.
func TestWebUnasked(t *testing.T) {
	for _, tc := range []struct {
		status int
		field  string
	}{{304, `Etag: "1"`}, {206, "Content-Range: bytes 0-2/10"}, {101, "Upgrade: x"}, {416, "Content-Range: bytes */3"}} {
		for _, method := range []string{"GET", "HEAD"} {
			s, _ := newWeb(t, "", give(tc.status, "", tc.field))
			if a := s.ask(t, method, "/w/f"); a.status < 500 {
				t.Errorf("%s %d: %d %v", method, tc.status, a.status, a.header)
			}
		}
	}
}

// TestWebNotModifiedFields: a 304 has what RFC 9110 section 15.4.5 asks for.
func TestWebNotModifiedFields(t *testing.T) {
	fields := []string{`Etag: "1"`, "Cache-Control: max-age=60", "Content-Location: /x", "Date: Sat, 28 Nov 2026 00:00:00 GMT", "Expires: Sun, 29 Nov 2026 00:00:00 GMT", "Vary: Accept"}
	s, _ := newWeb(t, "", give(200, "one", fields...))
	s.ask(t, "GET", "/w/f")
	s.settle(t)
	a := s.ask(t, "GET", "/w/f", `If-None-Match: W/"1"`)
	a.want(t, 304, nil, "")
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if a.header.Get(name) != value {
			t.Errorf("%s: %q", name, a.header.Get(name))
		}
	}
}

// TestWebNoStoreRequests: who has nothing stored goes past the cache, and others do not
// wait for that.
func TestWebNoStoreRequests(t *testing.T) {
	var n atomic.Int32
	s, u := newWeb(t, "", func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		time.Sleep(100 * time.Millisecond)
		give(200, "one", "Cache-Control: max-age=60")(w, r)
	})
	var wg sync.WaitGroup
	wg.Go(func() { s.ask(t, "GET", "/w/f", "Cache-Control: no-store").want(t, 200, []byte("one"), "") })
	time.Sleep(30 * time.Millisecond)
	for range 10 {
		wg.Go(func() { s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), "") })
	}
	wg.Wait()
	if n := len(u.requests()); n != 2 {
		t.Errorf("%d requests", n)
	}
}

// TestWebCodings: what is encoded is decoded for who does not take that, whatever the name
// of the coding.
func TestWebCodings(t *testing.T) {
	packed := gzipped("plain")
	for coding, accepts := range map[string][2]string{"gzip": {"br, gzip;q=0.1", "gzip;q=0, *"}, "x-gzip": {"gzip", "br"}} {
		s, _ := newWeb(t, "", give(200, packed, "Content-Encoding: "+coding, "Cache-Control: max-age=60"))
		for range 2 {
			s.ask(t, "GET", "/w/f", "Accept-Encoding: "+accepts[0]).want(t, 200, []byte(packed), "")
			s.ask(t, "GET", "/w/f", "Accept-Encoding: "+accepts[1]).want(t, 200, []byte("plain"), "")
			s.settle(t)
		}
	}
}

// TestWebStaleForbidden: what is not to be served stale is not (RFC 9111 section 4.2.4).
func TestWebStaleForbidden(t *testing.T) {
	for _, cc := range []string{"max-age=0, must-revalidate", "max-age=0, proxy-revalidate", "s-maxage=0", "no-cache, max-age=60"} {
		s, u := newWeb(t, "", give(200, "one", "Cache-Control: "+cc, `Etag: "1"`))
		s.ask(t, "GET", "/w/f")
		s.settle(t)
		s.ask(t, "GET", "/w/f").want(t, 200, []byte("one"), "fwd=stale; fwd-status=304")
		u.set(give(503, "away"))
		s.ask(t, "GET", "/w/f", "Cache-Control: max-stale").want(t, 503, []byte("away"), "")
		u.Close()
		if a := s.ask(t, "GET", "/w/f", "Cache-Control: max-stale"); a.status < 500 {
			t.Errorf("%s: %d %v", cc, a.status, a.header)
		}
	}
}
