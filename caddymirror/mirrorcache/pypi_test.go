package mirrorcache

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
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
