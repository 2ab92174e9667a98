package mirrorcache

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/unifiedmirrors/mirror/caddymirror/mirror"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// TestRedirectOutside: a client that knows the mount under another URL is redirected to
// that.
func TestRedirectOutside(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/foo-bar", 1, "index.html")
	s := newSite(t, mount("/pypi", pypiFormat, tree))
	for _, tc := range []struct{ from, inside, want string }{
		{"/mirror/pypi/simple/Foo.Bar", "/pypi/simple/Foo.Bar", "/mirror/pypi/simple/foo-bar/"}, // strip_prefix
		{"/a%20b/pypi/simple/Foo.Bar?x=%20", "/pypi/simple/Foo.Bar", "/a%20b/pypi/simple/foo-bar/?x=%20"},
		{"/simple/Foo.Bar", "/pypi/simple/Foo.Bar", "/simple/foo-bar/"}, // a name of its own
		{"/simple/Foo.Bar/", "/pypi/simple/Foo.Bar/", "/simple/foo-bar/"},
		{"/pip/simple/Foo.Bar", "/pypi/simple/Foo.Bar", "/pip/simple/foo-bar/"},
		{"/simple/foo-bar/", "/pypi//simple/foo-bar/", ""}, // nothing to redirect to
		{"/simple/foo-bar/", "/pypi/simple//foo-bar/", ""}, // it would go round in circles
		{"/download/foo-bar", "/pypi/simple/Foo.Bar", "404"},
		{"//evil/pypi/simple/Foo.Bar", "/pypi/simple/Foo.Bar", "/evil/pypi/simple/foo-bar/"},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://mirror.example.org"+tc.from, nil)
		w := httptest.NewRecorder()
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
		r.URL.Path = tc.inside
		err := s.h.ServeHTTP(w, r, nil)
		switch got := w.Header().Get("Location"); {
		case tc.want == "404":
			if he, ok := errors.AsType[caddyhttp.HandlerError](err); !ok || he.StatusCode != http.StatusNotFound {
				t.Errorf("%s: got %v, %s", tc.from, err, got)
			}
		case err != nil || got != tc.want:
			t.Errorf("%s, rewritten to %s: got %v, Location: %s, want %s", tc.from, tc.inside, err, got, tc.want)
		}
	}
}

// TestAbsentCandidates: a tree that has the last candidate only is not asked for the
// others again, unless it changes.
func TestAbsentCandidates(t *testing.T) {
	releases := t.TempDir()
	pages(t, releases, "1/simple/p", 1, "index.html")
	pages(t, releases, "2/simple/p", 2, "index.html", "index.v1_json")
	pages(t, releases, "3/simple/p", 3, "index.html")
	current := filepath.Join(releases, "current")
	release := func(name string) {
		t.Helper()
		if err := errors.Join(os.Symlink(name, current+".new"), os.Rename(current+".new", current)); err != nil {
			t.Fatal(err)
		}
	}
	release("1")
	s := newSite(t, mount("/pypi", pypiFormat, current))
	m := s.h.Mounts[0]
	serial := func(want, mediaType string) {
		t.Helper()
		var a answer
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			a = s.ask(t, "GET", "/pypi/simple/p/", pipAccept)
			if a.header.Get("X-PyPI-Last-Serial") == want {
				break
			}
		}
		if a.header.Get("X-PyPI-Last-Serial") != want || a.header.Get("Content-Type") != mediaType {
			t.Fatalf("got %d %v, want serial %s, %s", a.status, a.header, want, mediaType)
		}
	}
	serial("1", simpleHTML)
	s.settle(t)
	m.facts.clear() // as if there were too many of them
	before := s.reads()
	serial("1", simpleHTML)
	if n := s.reads() - before; n > 0 {
		t.Errorf("the origin is asked %d times for what was not there", n)
	}
	release("2")
	serial("2", simpleJSON)
	release("3")
	serial("3", simpleHTML)
	s.settle(t)

	// What was known to be absent is there again, though the release is the same.
	pages(t, releases, "3/simple/p", 4, "index.v1_json")
	if err := os.Remove(filepath.Join(releases, "3/simple/p/index.html")); err != nil {
		t.Fatal(err)
	}
	if _, err := m.cache.Open().Purge(m.group, nil); err != nil { // as if there had been no room
		t.Fatal(err)
	}
	m.facts.clear()
	serial("4", simpleJSON)
	if _, err := m.cache.Open().Purge(m.group, nil); err != nil {
		t.Fatal(err)
	}

	// Of what a release deletes there is nothing acceptable, nor anything else.
	html := s.ask(t, "GET", "/pypi/simple/p/", "Accept: text/html")
	html.wantStatus(t, 406)
	s.ask(t, "GET", "/pypi/simple/p/", pipAccept).wantStatus(t, 200)
	s.settle(t)
	if err := os.Mkdir(filepath.Join(releases, "4"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, releases, "4/simple/x", nil)
	release("4")
	for end := time.Now().Add(5 * time.Second); html.status != 404 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		html = s.ask(t, "GET", "/pypi/simple/p/", "Accept: text/html")
	}
	html.wantStatus(t, 404)
}

// awayFor is an origin that goes away, after so long for each call.
type awayFor struct {
	origin.Tree
	away atomic.Bool
	hang atomic.Int64
}

func (o *awayFor) ask(ctx context.Context) error {
	if !o.away.Load() {
		return nil
	}
	select {
	case <-time.After(time.Duration(o.hang.Load())):
	case <-ctx.Done():
	}
	return origin.ErrAway
}

func (o *awayFor) Stat(ctx context.Context, name string) (origin.Info, error) {
	if err := o.ask(ctx); err != nil {
		return origin.Info{}, err
	}
	return o.Tree.Stat(ctx, name)
}

func (o *awayFor) Open(ctx context.Context, name string, off int64) (origin.Body, error) {
	if err := o.ask(ctx); err != nil {
		return nil, err
	}
	return o.Tree.Open(ctx, name, off)
}

// TestNegotiatedWhileAway: what the cache has of the candidates is served while the
// origin is away, or does not answer, with its serial.
func TestNegotiatedWhileAway(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/p", 5, "index.html")
	s := newSite(t, mount("/pypi", `, "ttl": "1ms", "revalidate_timeout": "100ms", "format": {"format": "pypi"}`, tree))
	m := s.h.Mounts[0]
	o := &awayFor{Tree: m.origins[0].Tree}
	o.hang.Store(int64(5 * time.Second))
	m.origins[0].Tree = o
	s.ask(t, "GET", "/pypi/simple/p/", pipAccept).wantStatus(t, 200)
	s.settle(t)
	time.Sleep(5 * time.Millisecond)
	m.forget() // that there is no JSON is no longer known
	o.away.Store(true)
	for range 3 {
		start := time.Now()
		a := s.ask(t, "GET", "/pypi/simple/p/", pipAccept)
		a.wantStatus(t, 200)
		if h := a.header; h.Get("X-PyPI-Last-Serial") != "5" || h.Get("Content-Type") != simpleHTML || !strings.Contains(h.Get("Cache-Status"), "origin-away") {
			t.Errorf("got %v", h)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("an answer takes %s while the origin hangs", d)
		}
	}
	o.hang.Store(0)
	s.ask(t, "GET", "/pypi/simple/p/", "Accept: "+simpleJSON).wantStatus(t, 503) // there may be JSON
	a := s.ask(t, "GET", "/pypi/simple/other/", pipAccept)
	a.wantStatus(t, 503)
	if a.header.Get("Vary") != "Accept" {
		t.Errorf("503 has %v", a.header)
	}
	o.away.Store(false)
}

// TestNegotiatedFromFallback: while the first origin is away, a page comes from the
// next one, though that has not all of the candidates, and none of their compressed forms.
func TestNegotiatedFromFallback(t *testing.T) {
	base := t.TempDir()
	first, second := filepath.Join(base, "1"), filepath.Join(base, "2")
	pages(t, second, "simple/p/pq", 7, "index.html")
	for _, more := range []string{pypiFormat, pypiFormat + `, "precompressed": {"gzip": {}}, "precompressed_order": ["gzip"]`} {
		s := newSite(t, mount("/pypi", more, first, second))
		a := s.ask(t, "GET", "/pypi/simple/pq/", pipAccept, "Accept-Encoding: gzip")
		if a.status != 200 || a.header.Get("X-PyPI-Last-Serial") != "7" || a.header.Get("Content-Type") != simpleHTML {
			t.Errorf("%s: %d %v", more, a.status, a.header)
		}
		// What the fall-back does not have the first origin may have.
		s.ask(t, "GET", "/pypi/simple/never/", pipAccept).wantStatus(t, 503)
	}
}

// TestNegotiatedWithoutCache: what goes past the cache has its fields, too.
func TestNegotiatedWithoutCache(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/p", 5, "index.html", "index.v1_json")
	s := newSite(t, mount("/pypi", pypiFormat, tree))
	s.h.Mounts[0].cache = new(mirror.Cache) // never started
	for _, method := range []string{"GET", "HEAD"} {
		for _, tc := range []struct{ accept, mediaType string }{{pipAccept, simpleJSON}, {"Accept: text/html", "text/html; charset=utf-8"}} {
			a := s.ask(t, method, "/pypi/simple/p/", tc.accept)
			a.want(t, 200, nil, "fwd=bypass")
			if a.header.Get("X-PyPI-Last-Serial") != "5" || a.header.Get("Content-Type") != tc.mediaType || a.header.Get("Vary") != "Accept" {
				t.Errorf("%s %s: %v", method, tc.accept, a.header)
			}
		}
	}
	s.ask(t, "GET", "/pypi/simple/p/", "Accept: image/png").wantStatus(t, 406)
	s.ask(t, "GET", "/pypi/simple/other/", pipAccept).wantStatus(t, 404)
}

// TestPlanHides: what is hidden is no candidate, and not in the list of what there is.
func TestPlanHides(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/p", 5, "index.html", "index.v1_json")
	pages(t, tree, "simple/secret", 5, "index.html")
	s := newSite(t, mount("/pypi", pypiFormat+`, "hide": ["*_json", "simple/secret"]`, tree))
	a := s.ask(t, "GET", "/pypi/simple/p/", pipAccept)
	if a.header.Get("Content-Type") != simpleHTML {
		t.Errorf("got %d %v", a.status, a.header)
	}
	a = s.ask(t, "GET", "/pypi/simple/p/", "Accept: "+simpleJSON)
	a.wantStatus(t, 406)
	if strings.Contains(string(a.body), "json") {
		t.Errorf("got %s", a.body)
	}
	s.ask(t, "GET", "/pypi/simple/secret/", pipAccept).wantStatus(t, 404)
}

// TestPlanWithPrecompressed: the two choices go together.
func TestPlanWithPrecompressed(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/p", 5, "index.html")
	write(t, tree, "simple/p/index.html.gz", []byte("packed"))
	s := newSite(t, mount("/pypi", pypiFormat+`, "precompressed": {"gzip": {}}, "precompressed_order": ["gzip"]`, tree))
	plain := s.ask(t, "GET", "/pypi/simple/p/", "Accept: text/html")
	packed := s.ask(t, "GET", "/pypi/simple/p/", "Accept: text/html", "Accept-Encoding: gzip")
	if string(packed.body) != "packed" || packed.header.Get("Content-Encoding") != "gzip" || packed.header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Errorf("got %q, %v", packed.body, packed.header)
	}
	if got := strings.Join(packed.header["Vary"], ", "); got != "Accept, Accept-Encoding" {
		t.Errorf("Vary: %s", got)
	}
	if plain.header.Get("Etag") == packed.header.Get("Etag") {
		t.Error("the encodings share an ETag")
	}
}

func TestPurgePlanned(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/p", 5, "index.html", "index.v1_json")
	s := newSite(t, mount("/pypi", pypiFormat, tree))
	for _, accept := range []string{pipAccept, "Accept: text/html"} {
		s.ask(t, "GET", "/pypi/simple/p/", accept).wantStatus(t, 200)
	}
	s.settle(t)
	if n, err := s.h.Mounts[0].Purge("/simple/p/", ""); n != 2 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
}

// TestPassing: what will soon be better is served and not kept, however fresh it is, and
// neither does it take the place of what was there.
func TestPassing(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("file"))
	s := newSite(t, mount("/t", `, "ttl": "1h", "format": {"format": "overlaid"}`, tree))
	facts := s.h.Mounts[0].origins[0].Tree.(*madeOver).facts
	for _, value := range []string{"passing", "passing, too", "kept", "not asked for"} {
		if err := facts.Put("made", []byte(value)); err != nil {
			t.Fatal(err)
		}
		want := value
		if value == "not asked for" {
			want = "kept"
		}
		for _, method := range []string{"HEAD", "GET", "GET"} {
			a := s.ask(t, method, "/t/made")
			if a.status != 200 || method == "GET" && string(a.body) != want || a.header.Get("Content-Length") != fmt.Sprint(len(want)) {
				t.Errorf("%s: got %d, %q, %v, want %q", method, a.status, a.body, a.header, want)
			}
			s.settle(t)
		}
	}
}
