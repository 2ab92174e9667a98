package mirrorcache

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
)

const wheelFormat = `, "ttl": "1h", "browse": true, "format": {"format": "wheel"}`

// putWheel writes a wheel into a directory of a tree and returns its file name.
func putWheel(t testing.TB, tree, dir, project, version string) string {
	t.Helper()
	w := wheel.Wheel{Name: project, Version: version, Files: map[string]string{project + ".py": "x = 1\n"}}
	var b strings.Builder
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	write(t, tree, filepath.Join(dir, w.Filename()), []byte(b.String()))
	return w.Filename()
}

// awaitIndex waits until all files of the first mount's index are known, in the release
// that has this prefix.
func (s *site) awaitIndex(t testing.TB, release string) *origin.IndexStatus {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		s.ask(t, "HEAD", s.h.Mounts[0].Prefix+"/simple/", "Accept: text/html")
		o := s.app.Status().Mounts[0].Origins[0]
		if o.Index != nil && o.Index.State == "complete" && strings.HasPrefix(o.Release, release) {
			return o.Index
		}
		if time.Now().After(end) {
			t.Fatalf("the index is not complete: %+v, %+v", o, o.Index)
		}
	}
}

// TestWheels serves an index that is made of wheels, over releases.
func TestWheels(t *testing.T) {
	top := t.TempDir()
	const platform = "debian-12-x86_64"
	name := ""
	release := func(n int, change func(tree string)) string {
		t.Helper()
		next := fmt.Sprintf("r%d", n)
		tree := filepath.Join(top, next)
		if n > 1 {
			if err := os.CopyFS(tree, os.DirFS(filepath.Join(top, fmt.Sprintf("r%d", n-1)))); err != nil {
				t.Fatal(err)
			}
		}
		change(tree)
		if err := filepath.WalkDir(tree, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				age(t, path, time.Hour)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(top, "current")
		if err := os.Symlink(next, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
		return next
	}
	release(1, func(tree string) {
		name = putWheel(t, tree, platform+"/f/foo-bar", "foo_bar", "1.0")
		write(t, tree, platform+"/f/foo-bar/build.log", []byte("x"))
		write(t, tree, platform+"/index.html", []byte("their own list"))
		write(t, tree, platform+"/b/bad/bad-1.0-py3-none-any.whl", []byte("corrupt"))
	})
	s := newSite(t, mount("/wheel", wheelFormat, filepath.Join(top, "current")))
	st := s.awaitIndex(t, "r1")
	if st.Files != 1 || st.LeftOut != 1 || st.Remarks[0].Name != platform+"/b/bad/bad-1.0-py3-none-any.whl" {
		t.Errorf("status: %+v", st)
	}
	file := s.ask(t, "GET", "/wheel/"+platform+"/f/foo-bar/"+name)
	file.wantStatus(t, 200)
	sum := fmt.Sprintf("%x", sha256.Sum256(file.body))
	const prefix = "/wheel/" + platform
	for _, tc := range []struct {
		path, accept string
		status       int
		mediaType    string
		has          string
	}{
		{"/simple/", pipAccept, 200, simpleJSON, `{"name":"foo-bar"}`},
		{"/simple/foo-bar/", pipAccept, 200, simpleJSON, sum},
		{"/simple/foo-bar/", "Accept: text/html", 200, "text/html; charset=utf-8", name + "#sha256=" + sum},
		{"/simple/foo-bar/", "Accept: " + simpleHTML, 200, simpleHTML, name + "#sha256=" + sum},
		{"/simple/foo-bar/?format=text/html", pipAccept, 200, "text/html; charset=utf-8", sum},
		{"/simple/foo-bar/", "Accept: image/png", 406, "text/plain; charset=utf-8", simpleJSON},
		{"/simple/none/", pipAccept, 404, "", ""},
		{"/simple/bad/", pipAccept, 404, "", ""},
		{"/foo-bar/", pipAccept, 200, simpleJSON, `"../f/foo-bar/` + name},
		{"/foo.bar/", "Accept: text/html", 200, "text/html; charset=utf-8", `"../f/foo-bar/` + name},
		{"/foo-bar/" + name, "Accept: */*", 200, "application/octet-stream", ""},
		{"/foo-bar/" + name + ".metadata", "Accept: */*", 200, "", "Name: foo_bar"},
		{"/f/foo-bar/" + name + ".metadata", "Accept: */*", 200, "", "Name: foo_bar"},
		{"/f/foo-bar/build.log", "Accept: */*", 200, "", "x"},
		{"/foo-bar/build.log", "Accept: */*", 200, "", "x"},
		{"/f/", "Accept: text/html", 200, "text/html; charset=utf-8", "foo-bar"},
		{"/", "Accept: text/html", 200, "text/html; charset=utf-8", "their own list"},
		{"/none/", pipAccept, 404, "", ""},
		{"/f/none/", pipAccept, 404, "", ""},
	} {
		for _, want := range []string{"cold", "warm"} {
			a := s.ask(t, "GET", prefix+tc.path, tc.accept)
			if tc.mediaType == "" || tc.mediaType == "application/octet-stream" {
				tc.mediaType = a.header.Get("Content-Type")
			}
			if a.status != tc.status || a.header.Get("Content-Type") != tc.mediaType || !strings.Contains(string(a.body), tc.has) {
				t.Errorf("%s %s, %s: got %d, %v\n%s", tc.path, tc.accept, want, a.status, a.header, a.body)
			}
			s.settle(t)
			if want == "warm" && a.status == 200 && a.header.Get("Cache-Status") != statusHit && tc.path != "/f/" {
				t.Errorf("%s %s: %s", tc.path, tc.accept, a.header.Get("Cache-Status"))
			}
		}
	}
	for path, want := range map[string]string{
		"/simple": "/simple/", "/simple/Foo.Bar": "/simple/foo-bar/", "/simple/foo_bar/?x=1": "/simple/foo-bar/?x=1", "/foo-bar": "/foo-bar/",
	} {
		a := s.ask(t, "GET", prefix+path, "Accept: text/html")
		if a.status/100 != 3 || a.header.Get("Location") != prefix+want {
			t.Errorf("%s: %d to %s", path, a.status, a.header.Get("Location"))
		}
	}

	// What a page was made from has changed, and what a wheel is has not.
	etag := s.ask(t, "GET", prefix+"/simple/foo-bar/", pipAccept).header.Get("Etag")
	read := s.app.Status().Mounts[0].Origins[0].Reads
	release(2, func(tree string) { putWheel(t, tree, platform+"/f/foo-bar", "foo_bar", "2.0") })
	s.awaitIndex(t, "r2")
	a := s.ask(t, "GET", prefix+"/simple/foo-bar/", pipAccept, "If-None-Match: "+etag)
	a.wantStatus(t, http.StatusOK)
	if !strings.Contains(string(a.body), `"versions":["1.0","2.0"]`) {
		t.Errorf("page: %s", a.body)
	}
	if a.header.Get("Last-Modified") != "" {
		t.Errorf("a page has the date %s", a.header.Get("Last-Modified"))
	}
	// A copy of the tree: the identity of each small file is another.
	if n := s.app.Status().Mounts[0].Origins[0].Reads - read; n > 3 {
		t.Errorf("%d files were opened for a release with one new wheel", n)
	}
	etag = a.header.Get("Etag")
	s.ask(t, "GET", prefix+"/simple/foo-bar/", pipAccept, "If-None-Match: "+etag).wantStatus(t, http.StatusNotModified)
}

// TestWheelsHidden: what is hidden is in no page.
func TestWheelsHidden(t *testing.T) {
	tree := t.TempDir()
	shown := putWheel(t, tree, "f/foo", "foo", "1.0")
	hidden := putWheel(t, tree, "f/foo", "foo", "2.0")
	putWheel(t, tree, "b/bar", "bar", "1.0")
	s := newSite(t, mount("/wheel", wheelFormat+`, "hide": ["foo-2.0-*", "b/bar"]`, tree))
	s.awaitIndex(t, "")
	for path, want := range map[string]string{"/wheel/simple/": `"foo"`, "/wheel/simple/foo/": shown, "/wheel/foo/": shown} {
		a := s.ask(t, "GET", path, pipAccept)
		if body := string(a.body); a.status != 200 || !strings.Contains(body, want) || strings.Contains(body, hidden) || strings.Contains(body, "bar") {
			t.Errorf("%s: %d\n%s", path, a.status, body)
		}
	}
	for _, path := range []string{"/wheel/f/foo/" + hidden, "/wheel/f/foo/" + hidden + ".metadata", "/wheel/simple/bar/"} {
		s.ask(t, "GET", path, pipAccept).wantStatus(t, 404)
	}
}

// TestYoungWheels: a wheel that was written just now is on its page at the first request.
// That a torn one is not there is forgotten at once, though the TTL is long.
func TestYoungWheels(t *testing.T) {
	tree := t.TempDir()
	const dir = "debian-12-x86_64/f/foo"
	foo := filepath.Join(dir, putWheel(t, tree, dir, "foo", "1.0"))
	bar := filepath.Join("bar", putWheel(t, tree, "bar", "bar", "1.0"))
	whole, err := os.ReadFile(filepath.Join(tree, bar))
	if err != nil {
		t.Fatal(err)
	}
	write(t, tree, bar, whole[:len(whole)-9])
	for _, name := range []string{foo, bar} {
		age(t, filepath.Join(tree, name), -time.Hour) // it stays young
	}
	s := newSite(t, mount("/wheel", wheelFormat, tree))
	for _, page := range []string{"/wheel/debian-12-x86_64/foo/", "/wheel/debian-12-x86_64/simple/foo/"} {
		a := s.ask(t, "GET", page, pipAccept)
		a.wantStatus(t, 200)
		if !strings.Contains(string(a.body), filepath.Base(foo)) || strings.Contains(string(a.body), "sha256") {
			t.Errorf("%s: %s", page, a.body)
		}
		if cs := a.header.Get("Cache-Status"); cs != statusUnfinished {
			t.Errorf("%s: Cache-Status %q", page, cs)
		}
	}
	for _, page := range []string{"/wheel/simple/bar/", "/wheel/bar/index.html"} {
		s.ask(t, "GET", page, pipAccept).wantStatus(t, 404)
	}
	write(t, tree, bar, whole)
	age(t, filepath.Join(tree, bar), time.Hour)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		missing := ""
		for _, page := range []string{"/wheel/bar/", "/wheel/simple/bar/", "/wheel/bar/index.html"} {
			if a := s.ask(t, "GET", page, pipAccept); a.status != 200 || !strings.Contains(string(a.body), "sha256") {
				missing = page
			}
		}
		if missing == "" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not there", missing)
		}
	}
}
