package wheelindex

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// ahead makes a file young for as long as the test takes.
func (s *site) ahead(name string) {
	s.Helper()
	future := time.Now().Add(time.Hour)
	if err := os.Chtimes(filepath.Join(s.root, name), future, future); err != nil {
		s.Fatal(err)
	}
}

// TestYoungWhole: a file that was changed just now is listed at the first request if it
// opens, without a checksum, and the page is not kept. One that does not open is not.
func TestYoungWhole(t *testing.T) {
	s := newSite(t, false)
	var sdist bytes.Buffer
	z := gzip.NewWriter(&sdist)
	if _, err := z.Write(bytes.Repeat([]byte("source"), 1000)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	good := wheelOf(t, "foo", "1.0", "")
	for name, b := range map[string][]byte{
		"foo/foo-1.0-py3-none-any.whl":   good,
		"foo/foo-1.1-py3-none-any.whl":   good[:len(good)-8],
		"foo/foo-2.0.tar.gz":             sdist.Bytes(),
		"foo/foo-2.1.tar.gz":             sdist.Bytes()[:sdist.Len()-4],
		"foo/foo-3.0.zip":                good,
		"foo/foo-3.1.zip":                good[:len(good)-8],
		"torn/torn-1-py3-none-any.whl":   wheelOf(t, "torn", "1", "")[:100],
		"torn/torn-2.tar.gz":             {},
		"lone/lone-1.0-py3-none-any.whl": wheelOf(t, "lone", "1.0", ""),
	} {
		s.put(name, b)
		s.ahead(name)
	}
	s.putWheel("mixed", "mixed", "1.0")
	s.put("mixed/mixed-2.0-py3-none-any.whl", good[:50])
	s.ahead("mixed/mixed-2.0-py3-none-any.whl")
	s.start()
	p := s.page("simple/foo/index.v1_json")
	if got, want := strings.Join(p.urls(), " "), "../../foo/foo-1.0-py3-none-any.whl# ../../foo/foo-2.0.tar.gz# ../../foo/foo-3.0.zip#"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, name := range []string{"simple/foo/index.html", "lone/index.html", "simple/index.html"} {
		if info, err := s.x.Stat(context.Background(), name); err != nil || !info.Passing {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	for _, name := range []string{"simple/torn/index.html", "torn/index.v1_json"} {
		if _, err := s.read(name); !errors.Is(err, origin.ErrNotYet) {
			t.Errorf("%s: %v", name, err)
		}
	}
	st := s.complete()
	if st.Files != 5 || st.LeftOut != 6 || st.Projects != 3 {
		t.Errorf("status: %+v", st)
	}
	if got := s.page("simple/index.v1_json").Projects; len(got) != 3 {
		t.Errorf("projects: %v", got)
	}
	if len(s.facts.m) != 1 {
		t.Errorf("what was read of young files is kept: %v", s.facts.m)
	}
	mixed := s.page("mixed/index.v1_json")
	if info, err := s.x.Stat(context.Background(), "mixed/index.html"); err != nil || !info.Passing || len(mixed.Files) != 1 || mixed.Files[0].Hashes["sha256"] == "" {
		t.Errorf("a page that lacks a torn file: %+v, %v, %+v", info, err, mixed)
	}

	// Once they are at rest they have checksums, and what is not there is not there.
	if err := os.RemoveAll(filepath.Join(s.root, "torn")); err != nil {
		t.Fatal(err)
	}
	s.put("foo/foo-1.0-py3-none-any.whl", good)
	for _, name := range []string{"foo/foo-1.1-py3-none-any.whl", "foo/foo-2.1.tar.gz", "foo/foo-3.1.zip"} {
		if err := os.Remove(filepath.Join(s.root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, err := s.read("simple/torn/index.html")
		p := s.page("simple/foo/index.v1_json")
		if errors.Is(err, fs.ErrNotExist) && !errors.Is(err, origin.ErrNotYet) && p.Files[0].Hashes["sha256"] == hexSum(good) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%v, %+v", err, p)
		}
	}
}

// TestNotYet: as long as a tree is being listed, nothing is said not to be there for good.
func TestNotYet(t *testing.T) {
	for _, releases := range []bool{false, true} {
		s := newSite(t, releases)
		change := func() {
			s.putWheel("f/foo", "foo", "1.0")
			s.putWheel("f/foo/more", "odd", "1.0") // not where one looks for it
			s.putWheel("b/bar", "bar", "1.0")
		}
		if releases {
			s.release(change)
		} else {
			change()
		}
		s.start()
		held := make(chan struct{})
		hold := func(dir string) {
			s.from.setFail(func(call, name string) error {
				if call == "readdir" && name == dir {
					<-held
				}
				return nil
			})
		}
		hold("b")
		if p := s.page("simple/foo/index.v1_json"); len(p.Files) != 1 {
			t.Errorf("page: %+v", p)
		}
		for _, name := range []string{"simple/odd/index.html", "odd/index.html", "odd/odd-1.0-py3-none-any.whl", "none/index.html"} {
			if _, err := s.read(name); !errors.Is(err, origin.ErrNotYet) {
				t.Errorf("%s, while another directory is being listed: %v", name, err)
			}
		}
		// Of what is being listed there is no telling.
		short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		if _, err := s.x.Stat(short, "simple/bar/index.html"); !errors.Is(err, origin.ErrAway) {
			t.Errorf("of what is being listed: %v", err)
		}
		cancel()
		close(held)
		s.complete()
		for _, name := range []string{"simple/odd/index.html", "odd/index.html", "odd/odd-1.0-py3-none-any.whl", "simple/bar/index.html"} {
			if _, err := s.read(name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := s.read("none/index.html"); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, origin.ErrNotYet) {
			t.Errorf("what is not there: %v", err)
		}
	}

	// Nothing at all is known.
	s := newSite(t, false)
	s.putWheel("foo", "foo", "1.0")
	s.start()
	held := make(chan struct{})
	s.from.setFail(func(call, _ string) error {
		if call == "readdir" {
			<-held
			return nil
		}
		return fs.ErrNotExist // the tree has no pages of its own
	})
	defer close(held)
	for _, name := range []string{"simple/index.html", "simple/foo/index.html", "foo/index.html"} {
		short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		if _, err := s.x.Stat(short, name); !errors.Is(err, origin.ErrAway) {
			t.Errorf("%s, before anything was listed: %v", name, err)
		}
		cancel()
	}
}
