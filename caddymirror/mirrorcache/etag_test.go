package mirrorcache

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// replace puts a file of the same size and mtime in the place of another.
func replace(t testing.TB, dir, name string, body []byte) {
	t.Helper()
	p := filepath.Join(dir, name)
	old, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	if old.Size() != int64(len(body)) {
		t.Fatalf("%d bytes in the place of %d", len(body), old.Size())
	}
	if err := os.WriteFile(p+".new", body, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(p+".new", old.ModTime(), old.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p+".new", p); err != nil {
		t.Fatal(err)
	}
}

// TestOneETagOneBody: whatever happens to a file, an ETag that a client has seen
// stands for the bytes that came with it.
func TestOneETagOneBody(t *testing.T) {
	for name, size := range map[string]int{"small": 5, "memory": 1 << 20, "disk": 1<<20 + 1} {
		t.Run(name, func(t *testing.T) {
			tree := t.TempDir()
			one, two := bytes.Repeat([]byte("1"), size), bytes.Repeat([]byte("2"), size)
			write(t, tree, "f", one)
			s := newSite(t, mount("/t", `, "ttl": "1ms"`, tree))
			first := s.ask(t, "GET", "/t/f")
			first.want(t, 200, one, "")
			replace(t, tree, "f", two)
			s.settle(t)
			if _, err := s.h.Mounts[0].Purge("f", ""); err != nil {
				t.Fatal(err)
			}
			etag := first.header.Get("Etag")
			for range 3 { // cold, and from the cache
				a := s.ask(t, "GET", "/t/f", "If-None-Match: "+etag)
				a.want(t, 200, two, "")
				if a.header.Get("Etag") == etag {
					t.Errorf("two versions have the ETag %s", etag)
				}
				s.ask(t, "GET", "/t/f", "Range: bytes=1-2", "If-Range: "+etag).want(t, 200, two, "")
				s.ask(t, "HEAD", "/t/f", "If-Match: "+etag).want(t, 412, nil, "")
				s.settle(t)
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
}

// TestReplacedIsNoticed: without a purge, if the file is small.
func TestReplacedIsNoticed(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("one"))
	s := newSite(t, mount("/t", `, "ttl": "1ms"`, tree))
	etag := s.ask(t, "GET", "/t/f").header.Get("Etag")
	replace(t, tree, "f", []byte("two"))
	time.Sleep(5 * time.Millisecond)
	s.ask(t, "GET", "/t/f", "If-None-Match: "+etag).want(t, 200, []byte("two"), "fwd=stale; fwd-status=200")
}

// TestNoETagWhileChanging: of a file that was changed just now there may be
// another version of its size and time: no ETag stands for it.
func TestNoETagWhileChanging(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("one"))
	age(t, filepath.Join(tree, "f"), 0)
	s := newSite(t, mount("/t", `, "ttl": "1ms"`, tree))
	for _, method := range []string{"HEAD", "GET", "GET", "HEAD"} {
		a := s.ask(t, method, "/t/f")
		a.wantStatus(t, 200)
		if etag := a.header.Get("Etag"); etag != "" {
			t.Errorf("%s: ETag is %s", method, etag)
		}
		s.settle(t)
	}
}

// TestETagOfHosts: hosts with the same tree give the same ETag.
func TestETagOfHosts(t *testing.T) {
	tree := t.TempDir()
	write(t, tree, "f", []byte("one"))
	var etags []string
	for range 2 {
		etags = append(etags, newSite(t, mount("/t", "", tree)).ask(t, "GET", "/t/f").header.Get("Etag"))
	}
	if etags[0] == "" || etags[0] != etags[1] {
		t.Errorf("ETags are %q", etags)
	}
}
