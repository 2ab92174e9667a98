package mirrorcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
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

	"github.com/unifiedmirrors/mirror/caddymirror/format"
	"github.com/unifiedmirrors/mirror/caddymirror/mirror"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

const (
	simpleJSON = "application/vnd.pypi.simple.v1+json"
	simpleHTML = "application/vnd.pypi.simple.v1+html"
	pipAccept  = "Accept: application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
)

const pypiFormat = `, "ttl": "1h", "format": {"format": "pypi"}`

// pages writes pages of a project as bandersnatch does, in a directory of the tree.
func pages(t testing.TB, tree, dir string, serial int, files ...string) {
	t.Helper()
	for _, file := range files {
		body := fmt.Sprintf("<!DOCTYPE html>\n<html><body>\n%s\n</body>\n</html>\n<!--SERIAL %d-->", file, serial)
		if strings.HasSuffix(file, "json") {
			body = fmt.Sprintf(`{"files": [], "meta": {"api-version": "1.1", "_last-serial": "%d"}, "name": "x", "versions": []}`, serial)
		}
		write(t, tree, filepath.Join(dir, file), []byte(body))
	}
}

// TestNegotiated: the page that the client wants, of those that there are.
func TestNegotiated(t *testing.T) {
	tree := t.TempDir()
	all := []string{"index.html", "index.v1_html", "index.v1_json"}
	pages(t, tree, "simple", 1, all...)
	pages(t, tree, "simple/flat", 2, all...)
	pages(t, tree, "simple/h/hashed", 3, all...)
	pages(t, tree, "simple/old", 4, "index.html")
	pages(t, tree, "simple/o/old-hashed", 5, "index.html")
	pages(t, tree, "simple/json-only", 6, "index.v1_json")
	pages(t, tree, "simple/v1-only", 7, "index.v1_html")
	write(t, tree, "simple/i/index.html/x", nil) // a directory
	s := newSite(t, mount("/pypi", pypiFormat, tree))

	const anything, html, json = "Accept: */*", "Accept: text/html", "Accept: " + simpleJSON
	for _, tc := range []struct {
		path, accept string
		status       int
		mediaType    string
		serial       string
		has          string
	}{
		{"/simple/", pipAccept, 200, simpleJSON, "1", "_last-serial"},
		{"/simple/", anything, 200, "text/html; charset=utf-8", "1", "index.html"},
		{"/simple/flat/", pipAccept, 200, simpleJSON, "2", "_last-serial"},
		{"/simple/flat/", "Accept: " + simpleHTML, 200, simpleHTML, "2", "index.v1_html"},
		{"/simple/flat/", "Accept: application/vnd.pypi.simple.latest+html", 200, simpleHTML, "2", "index.v1_html"},
		{"/simple/flat/", "Accept: application/vnd.pypi.simple.latest+json", 200, simpleJSON, "2", "_last-serial"},
		{"/simple/flat/", html, 200, "text/html; charset=utf-8", "2", "index.html"},
		{"/simple/flat/?format=application/vnd.pypi.simple.v1+json", html, 200, simpleJSON, "2", "_last-serial"},
		{"/simple/flat/?format=text/html", json, 200, "text/html; charset=utf-8", "2", "index.html"},
		{"/simple/flat/?format=text/plain", json, 406, "text/plain; charset=utf-8", "", simpleJSON + "\n" + simpleHTML + "\ntext/html"},
		{"/simple/flat/", "Accept: image/png", 406, "text/plain; charset=utf-8", "", simpleJSON + "\n" + simpleHTML + "\ntext/html"},
		{"/simple/hashed/", pipAccept, 200, simpleJSON, "3", "_last-serial"},
		{"/simple/hashed/", html, 200, "text/html; charset=utf-8", "3", "index.html"},
		{"/simple/old/", pipAccept, 200, simpleHTML, "4", "index.html"}, // PEP 691: an alias
		{"/simple/old/", anything, 200, "text/html; charset=utf-8", "4", "index.html"},
		{"/simple/old/", json, 406, "text/plain; charset=utf-8", "", simpleHTML + "\ntext/html"},
		{"/simple/old-hashed/", pipAccept, 200, simpleHTML, "5", "index.html"},
		{"/simple/json-only/", pipAccept, 200, simpleJSON, "6", "_last-serial"},
		{"/simple/json-only/", anything, 200, simpleJSON, "6", "_last-serial"},
		{"/simple/json-only/", html, 406, "text/plain; charset=utf-8", "", "types:\n" + simpleJSON + "\n"},
		{"/simple/v1-only/", html, 200, "text/html; charset=utf-8", "7", "index.v1_html"},
		{"/simple/none/", pipAccept, 404, "", "", ""},
		{"/simple/none/", "Accept: image/png", 404, "", "", ""},
		{"/simple/i/", pipAccept, 404, "", "", ""},
		{"/simple/flat/index.v1_json", anything, 200, simpleJSON, "2", "_last-serial"},
		{"/simple/h/hashed/index.v1_html", anything, 200, simpleHTML, "3", "index.v1_html"},
	} {
		for _, want := range []string{"cold", "warm"} {
			a := s.ask(t, "GET", "/pypi"+tc.path, tc.accept)
			vary := "Accept"
			if strings.Contains(tc.path, "format=") || strings.Contains(tc.path, "index.") {
				vary = ""
			}
			h := a.header
			if a.status != tc.status || h.Get("Content-Type") != tc.mediaType || h.Get("X-PyPI-Last-Serial") != tc.serial ||
				h.Get("Vary") != vary || !strings.Contains(string(a.body), tc.has) {
				t.Errorf("%s %s, %s: got %d, %v\n%s", tc.path, tc.accept, want, a.status, h, a.body)
			}
			s.settle(t)
			if want == "warm" && a.status == 200 && h.Get("Cache-Status") != statusHit {
				t.Errorf("%s %s: %s", tc.path, tc.accept, h.Get("Cache-Status"))
			}
			head := s.ask(t, "HEAD", "/pypi"+tc.path, tc.accept)
			for _, name := range []string{"Content-Type", "X-PyPI-Last-Serial", "Vary", "Etag", "Content-Length"} {
				if head.status != a.status || head.header.Get(name) != h.Get(name) && a.status == 200 {
					t.Errorf("HEAD %s %s: got %d, %v, and GET %v", tc.path, tc.accept, head.status, head.header, h)
				}
			}
		}
	}
}

// TestNegotiatedConditional: each representation has an ETag of its own, and a 304 says
// what the choice depended on, and of which serial the page is.
func TestNegotiatedConditional(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/p", 9, "index.html", "index.v1_json")
	if err := os.Symlink("index.html", filepath.Join(tree, "simple/p/index.v1_html")); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, mount("/pypi", pypiFormat, tree))
	tags := map[string]string{}
	for _, accept := range []string{simpleJSON, simpleHTML, "text/html"} {
		cold := s.ask(t, "HEAD", "/pypi/simple/p/", "Accept: "+accept)
		if got := cold.header.Get("X-PyPI-Last-Serial"); got != "9" {
			t.Errorf("%s: HEAD of what is not cached has serial %q", accept, got)
		}
		a := s.ask(t, "GET", "/pypi/simple/p/", "Accept: "+accept)
		a.wantStatus(t, 200)
		s.settle(t)
		etag := a.header.Get("Etag")
		if etag != cold.header.Get("Etag") || etag == "" {
			t.Errorf("%s: ETag %s, and %s before", accept, etag, cold.header.Get("Etag"))
		}
		if other, ok := tags[etag]; ok {
			t.Errorf("%s and %s have the same ETag", accept, other)
		}
		tags[etag] = accept
	}
	for etag, of := range tags {
		for _, accept := range []string{simpleJSON, simpleHTML, "text/html"} {
			want := http.StatusOK
			if of == accept {
				want = http.StatusNotModified
			}
			a := s.ask(t, "GET", "/pypi/simple/p/", "Accept: "+accept, "If-None-Match: "+etag)
			a.wantStatus(t, want)
			if a.header.Get("Vary") != "Accept" || a.header.Get("X-PyPI-Last-Serial") != "9" {
				t.Errorf("%d has %v", a.status, a.header)
			}
			part := s.ask(t, "GET", "/pypi/simple/p/", "Accept: "+accept, "Range: bytes=0-4", "If-Range: "+etag)
			if want = http.StatusOK; of == accept {
				want = http.StatusPartialContent
			}
			part.wantStatus(t, want)
			if part.header.Get("Content-Type") == "" || part.header.Get("Vary") != "Accept" {
				t.Errorf("%d has %v", part.status, part.header)
			}
		}
	}
	// A date is of all representations of the second: it completes no part.
	date := s.ask(t, "GET", "/pypi/simple/p/", pipAccept).header.Get("Last-Modified")
	s.ask(t, "GET", "/pypi/simple/p/", pipAccept, "Range: bytes=0-4", "If-Range: "+date).wantStatus(t, 200)
}

// TestPypiRedirects looks at what a client is told that does not follow redirects, and
// that they take one step.
func TestPypiRedirects(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/foo-bar", 1, "index.html")
	pages(t, tree, "simple/h/hashed", 1, "index.html")
	pages(t, tree, "simple/f/versions", 1, "index.html")
	pages(t, tree, "simple", 1, "index.html")
	write(t, tree, "json/foo-bar", []byte(`{"info": {}, "last_serial": 12, "releases": {}}`))
	write(t, tree, "pypi/linked/json", []byte(`{"info": {}, "last_serial": 13, "releases": {}}`))
	write(t, tree, "simple/v/versions/f.html", []byte("kept"))
	s := newSite(t, mount("/pypi", pypiFormat, tree), mount("/my index", pypiFormat, tree))
	for _, tc := range []struct{ from, to string }{
		{"/pypi/simple", "/pypi/simple/"},
		{"/pypi/simple?format=text/html", "/pypi/simple/?format=text/html"},
		{"/pypi/simple//", "/pypi/simple/"},
		{"/pypi/simple/foo-bar", "/pypi/simple/foo-bar/"},
		{"/pypi/simple/Foo.Bar", "/pypi/simple/foo-bar/"},
		{"/pypi/simple/Foo.Bar/", "/pypi/simple/foo-bar/"},
		{"/pypi/simple/foo_-_bar/?a=b&format=x%20y", "/pypi/simple/foo-bar/?a=b&format=x%20y"},
		{"/pypi/simple/foo-bar//", "/pypi/simple/foo-bar/"},
		{"/pypi/simple//foo-bar/", "/pypi/simple/foo-bar/"},
		{"/pypi/simple/./FOO.bar//?x", "/pypi/simple/foo-bar/?x"},
		{"/pypi/simple/x/../foo-bar/", "/pypi/simple/foo-bar/"},
		{"/pypi/simple/h/hashed/", "/pypi/simple/hashed/"},
		{"/pypi/simple/h/hashed", "/pypi/simple/hashed/"},
		{"/pypi/simple/%46oo%2eBar", "/pypi/simple/foo-bar/"},
		{"/my%20index/simple/Foo.Bar?q=%20", "/my%20index/simple/foo-bar/?q=%20"},
		{"/pypi/json/Foo.Bar", "/pypi/json/foo-bar"},
		{"/pypi/json/foo-bar/", "/pypi/json/foo-bar"},
		{"/pypi/pypi/Foo.Bar/json/?x=y", "/pypi/pypi/foo-bar/json?x=y"},
		{"/pypi/pypi/Foo.Bar/1.0/json", "/pypi/pypi/foo-bar/1.0/json"},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := s.ask(t, method, tc.from)
			if got := a.header.Get("Location"); a.status != 301 || got != tc.to {
				t.Errorf("%s %s: got %d, Location: %s, want %s", method, tc.from, a.status, got, tc.to)
			}
			if a.header.Get("Cache-Control") != ccVolatile {
				t.Errorf("%s: %v", tc.from, a.header)
			}
		}
		if strings.Contains(tc.to, "1.0/json") || strings.Contains(tc.to, "format=") {
			continue
		}
		s.ask(t, "GET", tc.to).wantStatus(t, 200)
	}
	for path, want := range map[string]string{
		"/pypi/json/foo-bar":             "12",
		"/pypi/pypi/foo-bar/json":        "12", // without bandersnatch's link
		"/pypi/json/linked":              "13",
		"/pypi/simple/v/versions/f.html": "",
	} {
		a := s.ask(t, "GET", path)
		a.wantStatus(t, 200)
		if got := a.header.Get("X-PyPI-Last-Serial"); got != want {
			t.Errorf("%s has serial %q, want %q", path, got, want)
		}
		if want != "" && a.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s is %s", path, a.header.Get("Content-Type"))
		}
	}
}

// TestPypiHostileNames: nothing leaves the tree, nothing is redirected to another host,
// and each gets an answer.
func TestPypiHostileNames(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "web/simple/foo", 1, "index.html")
	pages(t, tree, "secret", 1, "index.html")
	s := newSite(t, mount("/pypi", pypiFormat, filepath.Join(tree, "web")))
	long := strings.Repeat("a", 10<<10)
	for path, want := range map[string]int{
		"/pypi/simple/..%2f..%2fsecret/":    418,
		"/pypi/simple/../../secret/":        418,
		"/pypi/simple/%2e%2e/%2e%2e/x":      418,
		"/pypi/simple/%2e%2e/foo":           404,
		"/pypi/simple/foo%00/":              400,
		"/pypi/simple/%00":                  400,
		"/pypi/simple/foo%2Fbar/":           404,
		"/pypi/simple/foo%2Findex.html":     200,
		"/pypi/simple/" + long:              404,
		"/pypi/simple/" + long + "/":        404,
		"/pypi/simple/A" + long:             404,
		"/pypi/pypi/" + long + "/json":      404,
		"/pypi/simple/...":                  404,
		"/pypi/simple/.../":                 404,
		"/pypi/simple/-/":                   404,
		"/pypi/simple/%0d%0aX-Evil:%201/":   400,
		"/pypi/simple/%ff%fe/":              404,
		"/pypi/simple/caf%C3%A9/":           404,
		"/pypi//evil.example/..%2fsimple":   301,
		"/pypi/simple/http:%2F%2Fevil/":     404,
		"/pypi/simple/%5c%5cevil/":          404,
		"/pypi/simple/foo%3Fx/":             404,
		"/pypi/json/..%2f..%2fsecret":       418,
		"/pypi/json/..%2fsecret":            404,
		"/pypi/pypi/../../secret/json":      418,
		"/pypi/simple/foo/?format=" + long:  406,
		"/pypi/simple/foo/?" + long:         200,
		"/pypi/simple/f/foo/index.html/":    404,
		"/pypi/simple/foo/index.v1_json":    404,
		"/pypi/simple/index.html":           404,
		"/pypi/simple/index.html/":          301,
		"/pypi/simple/foo/../Foo/":          301,
		"/pypi/simple/foo/%2e%2e%2f%2e%2e/": 404,
	} {
		a := s.ask(t, "GET", path)
		if len(path) > 60 {
			path = path[:60]
		}
		if a.status != want {
			t.Errorf("%s: got %d %v, want %d", path, a.status, a.header, want)
		}
		if to := a.header.Get("Location"); to != "" && !strings.HasPrefix(to, "/pypi/simple/") {
			t.Errorf("%s is redirected to %s", path, to)
		}
		if strings.Contains(string(a.body), "secret") || a.header.Get("X-Evil") != "" {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	s.ask(t, "GET", "/pypi/simple/foo/", "Accept: "+strings.Repeat("a/b;q=0.1,", 5<<10)).wantStatus(t, 406)
	if n := s.h.Mounts[0].plans.kept.Len(); n > 40 {
		t.Errorf("%d plans are kept", n)
	}
}

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
	origin.Origin
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
	return o.Origin.Stat(ctx, name)
}

func (o *awayFor) Open(ctx context.Context, name string, off int64) (origin.Body, error) {
	if err := o.ask(ctx); err != nil {
		return nil, err
	}
	return o.Origin.Open(ctx, name, off)
}

// TestNegotiatedWhileAway: what the cache has of the candidates is served while the
// origin is away, or does not answer, with its serial.
func TestNegotiatedWhileAway(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/p", 5, "index.html")
	s := newSite(t, mount("/pypi", `, "ttl": "1ms", "revalidate_timeout": "100ms", "format": {"format": "pypi"}`, tree))
	m := s.h.Mounts[0]
	o := &awayFor{Origin: m.origins[0].Origin}
	o.hang.Store(int64(5 * time.Second))
	m.origins[0].Origin = o
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

// TestFormatIsNewToTheCache: entries from before the mount had its format get the
// fields that it reads out of them.
func TestFormatIsNewToTheCache(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/p", 5, "index.html")
	s := newSite(t, mount("/pypi", `, "ttl": "1h"`, tree))
	m := s.h.Mounts[0]
	s.ask(t, "GET", "/pypi/simple/p/").wantStatus(t, 200)
	s.settle(t)
	m.format, m.formatName, m.inspector = new(format.Pypi), "pypi", new(format.Pypi)
	m.plans = newPlans(new(format.Pypi), m.hidden)
	for _, status := range []string{"fwd=stale", "hit"} {
		a := s.ask(t, "GET", "/pypi/simple/p/")
		a.want(t, 200, nil, status)
		if got := a.header.Get("X-PyPI-Last-Serial"); got != "5" {
			t.Errorf("%s: the serial is %q", status, got)
		}
		s.settle(t)
	}
}

// TestLargePage: of a page that is not read as a whole before it is stored, too, the
// fields are known with its first byte.
func TestLargePage(t *testing.T) {
	tree := t.TempDir()
	link := `{"filename": "a-1.tar.gz", "yanked": "\"meta\": {\"_last-serial\": 1}"},`
	write(t, tree, "simple/p/index.v1_json", fmt.Appendf(nil, `{"files": [%s {}], "meta": {"api-version": "1.1", "_last-serial": "77"}, "name": "p", "versions": [%s "1"]}`,
		strings.Repeat(link, 60_000), strings.Repeat(`"1.0.0", `, 5_000)))
	write(t, tree, "simple/index.v1_json", fmt.Appendf(nil, `{"meta": {"_last-serial": 78, "api-version": "1.1"}, "projects": [%s {}]}`,
		strings.Repeat(`{"name": "x"},`, 200_000)))
	write(t, tree, "simple/p/index.html", fmt.Appendf(nil, "<!--SERIAL 1-->%s<!--SERIAL 79-->\n", strings.Repeat("<a href=x>y</a>\n", 100_000)))
	s := newSite(t, mount("/pypi", pypiFormat, tree))
	for _, way := range []string{"cold", "warm"} {
		for _, tc := range []struct{ path, accept, serial string }{
			{"/pypi/simple/p/", pipAccept, "77"},
			{"/pypi/simple/", pipAccept, "78"},
			{"/pypi/simple/p/", "Accept: text/html", "79"},
		} {
			a := s.ask(t, "GET", tc.path, tc.accept)
			a.wantStatus(t, 200)
			if got := a.header.Get("X-PyPI-Last-Serial"); got != tc.serial {
				t.Errorf("%s %s, %s: serial %q, want %s", tc.path, tc.accept, way, got, tc.serial)
			}
		}
		s.settle(t)
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

// twoVersions is an origin whose files change between two calls.
type twoVersions struct {
	origin.Origin
	n atomic.Int64
}

func (o *twoVersions) Stat(ctx context.Context, name string) (origin.Info, error) {
	info, err := o.Origin.Stat(ctx, name)
	info.Validator += fmt.Sprint(o.n.Add(1))
	return info, err
}

// TestPageChangesWhileInspected: HEAD answers all the same, and tells no serial that may
// be of another version.
func TestPageChangesWhileInspected(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/p", 5, "index.html")
	s := newSite(t, mount("/pypi", pypiFormat, tree))
	m := s.h.Mounts[0]
	m.origins[0].Origin = &twoVersions{Origin: m.origins[0].Origin}
	a := s.ask(t, "HEAD", "/pypi/simple/p/", "Accept: text/html")
	a.wantStatus(t, 200)
	if got := a.header.Get("X-PyPI-Last-Serial"); got != "" {
		t.Errorf("the serial is %s", got)
	}
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

// TestPypiAtTheRoot: the mount has no prefix.
func TestPypiAtTheRoot(t *testing.T) {
	tree := t.TempDir()
	pages(t, tree, "simple/foo", 5, "index.html")
	s := newSite(t, mount("/", pypiFormat, tree))
	if to := s.ask(t, "GET", "/simple/Foo?x").header.Get("Location"); to != "/simple/foo/?x" {
		t.Errorf("redirected to %q", to)
	}
	s.ask(t, "GET", "/simple/foo/").wantStatus(t, 200)
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

// madeOver has one more file than the origin: what the fact "made" is.
type madeOver struct {
	origin.Origin
	facts format.Facts
}

type overlaid struct{ format.Plain }

func (*overlaid) Over(o origin.Origin, env format.Env) (origin.Origin, error) {
	return &madeOver{o, env.Facts}, nil
}

func (o *madeOver) Stat(ctx context.Context, name string) (origin.Info, error) {
	if name != "made" {
		return o.Origin.Stat(ctx, name)
	}
	value, ok := o.facts.Get("made")
	if !ok {
		return origin.Info{}, fs.ErrNotExist
	}
	return origin.Info{
		Name: "made", Size: int64(len(value)), Validator: string(value), ModTime: time.Unix(1e9, 0),
		Passing: strings.HasPrefix(string(value), "passing"),
	}, nil
}

func (o *madeOver) Open(ctx context.Context, name string, off int64) (origin.Body, error) {
	if name != "made" {
		return o.Origin.Open(ctx, name, off)
	}
	info, err := o.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	return &madeBody{strings.NewReader(info.Validator[off:]), info}, nil
}

type madeBody struct {
	io.Reader
	info origin.Info
}

func (b *madeBody) Info() origin.Info { return b.info }
func (b *madeBody) Close() error      { return nil }

func (*overlaid) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.formats.overlaid", New: func() caddy.Module { return new(overlaid) }}
}

func init() { caddy.RegisterModule(new(overlaid)) }

// TestOverlay: what a format makes is cached and revalidated as any file, and its facts
// are within the cache.
func TestOverlay(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("file"))
	s := newSite(t, mount("/t", `, "ttl": "1ms", "format": {"format": "overlaid"}`, tree))
	m := s.h.Mounts[0]
	facts := m.origins[0].Origin.(*madeOver).facts
	s.ask(t, "GET", "/t/made").wantStatus(t, 404)
	m.forget()
	for _, value := range []string{"first", "second", ""} {
		if err := facts.Put("made", []byte(value)); err != nil {
			t.Fatal(err)
		}
		if got, ok := facts.Get("made"); string(got) != value || !ok {
			t.Fatalf("the fact is %q, %t", got, ok)
		}
		if value == "" {
			break
		}
		time.Sleep(5 * time.Millisecond) // until what was made before is stale
		a := s.ask(t, "GET", "/t/made")
		if a.status != 200 || string(a.body) != value || a.header.Get("Etag") == "" {
			t.Errorf("got %d, %q, %v", a.status, a.body, a.header)
		}
		s.settle(t)
	}
	s.ask(t, "GET", "/t/f").want(t, 200, []byte("file"), "")
	s.settle(t)
	if _, err := m.Purge("", ""); err != nil {
		t.Fatal(err)
	}
	if _, ok := facts.Get("made"); ok {
		t.Error("a fact outlives the purge of its mount")
	}
}

// TestPassing: what will soon be better is served and not kept, however fresh it is, and
// neither does it take the place of what was there.
func TestPassing(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("file"))
	s := newSite(t, mount("/t", `, "ttl": "1h", "format": {"format": "overlaid"}`, tree))
	facts := s.h.Mounts[0].origins[0].Origin.(*madeOver).facts
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

// BenchmarkHitPackage is a file that the format has no plan for.
func BenchmarkHitPackage(b *testing.B) {
	tree := b.TempDir()
	write(b, tree, "packages/aa/bb/cc/p-1.0-py3-none-any.whl", bytes.Repeat([]byte("x"), 4<<10))
	s := newSite(b, mount("/pypi", pypiFormat, tree))
	s.ask(b, "GET", "/pypi/packages/aa/bb/cc/p-1.0-py3-none-any.whl").wantStatus(b, 200)
	s.settle(b)
	r := httptest.NewRequest(http.MethodGet, "/pypi/packages/aa/bb/cc/p-1.0-py3-none-any.whl", nil)
	w := &discard{http.Header{}}
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
	b.ReportAllocs()
	for b.Loop() {
		clear(w.h)
		if err := s.h.ServeHTTP(w, r, nil); err != nil {
			b.Fatal(err)
		}
	}
	if got := w.h.Get("Cache-Control"); got != ccImmutable {
		b.Fatal(got)
	}
}

// BenchmarkHitNegotiated is a warm page of a project, as pip asks for it: of a tree that
// has JSON, and of one that has the last candidate only.
func BenchmarkHitNegotiated(b *testing.B) {
	for name, file := range map[string]string{"first": "index.v1_json", "last": "index.html"} {
		b.Run(name, func(b *testing.B) {
			tree := b.TempDir()
			pages(b, tree, "1/simple/p", 5, file)
			link := filepath.Join(tree, "current")
			if err := os.Symlink("1", link); err != nil {
				b.Fatal(err)
			}
			s := newSite(b, mount("/pypi", pypiFormat, link))
			s.ask(b, "GET", "/pypi/simple/p/", pipAccept).wantStatus(b, 200)
			s.settle(b)
			r := httptest.NewRequest(http.MethodGet, "/pypi/simple/p/", nil)
			_, accept, _ := strings.Cut(pipAccept, ": ")
			r.Header.Set("Accept", accept)
			w := &discard{http.Header{}}
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
			b.ReportAllocs()
			for b.Loop() {
				clear(w.h)
				if err := s.h.ServeHTTP(w, r, nil); err != nil {
					b.Fatal(err)
				}
			}
			if got := w.h.Get("Cache-Status"); got != statusHit {
				b.Fatal(got)
			}
		})
	}
}
