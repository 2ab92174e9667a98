package mirrorcache

import (
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestToldOnce: one request is counted once, and says what happened to it.
func TestToldOnce(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("one"))
	s := newSite(t, mount("/m", `,"ttl": "1ns"`, tree))
	s.ask(t, "GET", "/m/f").want(t, 200, []byte("one"), "fwd=uri-miss; fwd-status=200; stored")
	counted := func(doing string, hits, misses uint64) {
		t.Helper()
		if c := s.app.Status().Caches[0]; c.Hits != hits || c.Misses != misses {
			t.Errorf("after %s: %d hits and %d misses, want %d and %d", doing, c.Hits, c.Misses, hits, misses)
		}
	}
	counted("a cold request", 0, 1)
	s.settle(t)
	s.ask(t, "GET", "/m/f").want(t, 200, []byte("one"), "")
	counted("one that is validated", 1, 1)
	write(t, tree, "f", []byte("two"))
	s.ask(t, "GET", "/m/f").want(t, 200, []byte("two"), "fwd=stale; fwd-status=200; stored")
	counted("one of what has changed", 1, 2)
	s.settle(t)
	write(t, tree, "f", []byte("three"))
	if a := s.ask(t, "HEAD", "/m/f"); a.status != 200 || a.header.Get("Cache-Status") != "mirror; fwd=stale; fwd-status=200" {
		t.Errorf("HEAD of what has changed: %d, Cache-Status %q", a.status, a.header.Get("Cache-Status"))
	}
	s.settle(t) // it is fetched all the same
}

// TestAwayIsNoError: that an origin is away is no error of every request, unless
// the server has its own error pages for that.
func TestAwayIsNoError(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("one"))
	s := newSite(t, mount("/m", "", tree))
	if err := os.Rename(tree, tree+".away"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // that it is away is seen at the next look
	for _, pages := range []bool{false, true} {
		w := httptest.NewRecorder()
		srv := new(caddyhttp.Server)
		if pages {
			srv.Errors = &caddyhttp.HTTPErrorConfig{Routes: caddyhttp.RouteList{{}}}
		}
		r := prepared(httptest.NewRequest(http.MethodGet, "/m/f", nil), w, srv)
		err := s.h.ServeHTTP(w, r, nil)
		if (err != nil) != pages {
			t.Errorf("with error pages %v: %v", pages, err)
		}
		if w.Header().Get("Retry-After") == "" || !pages && w.Code != http.StatusServiceUnavailable {
			t.Errorf("with error pages %v: %d, %v", pages, w.Code, w.Header())
		}
	}
}

func prepared(r *http.Request, w http.ResponseWriter, srv *caddyhttp.Server) *http.Request {
	return caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, srv)
}

// TestVaryOnce: however many names are tried for a directory, one field says what the
// answer depends on; and where no encoding can be chosen, none does.
func TestVaryOnce(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "d/third.html", []byte("index"))
	write(t, tree, "d/f", []byte("file"))
	const indexes = `, "index_names": ["first.html", "second.html", "third.html"]`
	const encodings = `, "precompressed": {"gzip": {}}, "precompressed_order": ["gzip"]`
	s := newSite(t, mount("/with", indexes+encodings, tree), mount("/without", indexes, tree))
	for _, path := range []string{"/d/", "/d/f", "/none/", "/d/none"} {
		if v := s.ask(t, "GET", "/with"+path).header.Values("Vary"); len(v) != 1 || v[0] != "Accept-Encoding" {
			t.Errorf("%s with precompressed: Vary %q", path, v)
		}
		if v := s.ask(t, "GET", "/without"+path).header.Values("Vary"); len(v) != 0 && v[0] == "Accept-Encoding" {
			t.Errorf("%s without precompressed: Vary %q", path, v)
		}
	}
}
