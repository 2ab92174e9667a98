package wheelindex

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// TestPages makes the pages of a tree, and asks for all that they link.
func TestPages(t *testing.T) {
	for _, releases := range []bool{true, false} {
		t.Run(fmt.Sprint("releases ", releases), func(t *testing.T) {
			s := newSite(t, releases)
			var one, two []byte
			put := func() {
				one = s.putWheel("f/foo-bar", "foo-bar", "1.0")
				two = s.putWheel("f/foo-bar", "foo-bar", "1.10")
				s.putWheel("f/foo-bar", "foo-bar", "1.9")
				s.put("f/foo-bar/foo-bar-0.9.tar.gz", []byte("source"))
				s.put("f/foo-bar/README", []byte("x"))
				s.putWheel("b/baz", "baz", "2.0")
			}
			if releases {
				s.release(put)
			} else {
				put()
			}
			s.start()
			st := s.complete()
			if st.Files != 5 || st.Projects != 2 || st.LeftOut != 0 || len(st.Remarks) != 0 {
				t.Errorf("status: %+v", st)
			}
			p := s.page("simple/foo-bar/index.v1_json")
			if p.Name != "foo-bar" || !slices.Equal(p.Versions, []string{"0.9", "1.0", "1.9", "1.10"}) || len(p.Files) != 4 {
				t.Fatalf("page: %+v", p)
			}
			f := p.Files[1]
			metadata, err := s.read("f/foo-bar/foo_bar-1.0-py3-none-any.whl.metadata")
			if err != nil || !strings.Contains(metadata, "Name: foo-bar\n") {
				t.Errorf("metadata: %q, %v", metadata, err)
			}
			if f.Filename != "foo_bar-1.0-py3-none-any.whl" || f.URL != "../../f/foo-bar/foo_bar-1.0-py3-none-any.whl" || f.Size != int64(len(one)) ||
				f.Hashes["sha256"] != hexSum(one) || f.RequiresPython != ">=3.9" || f.CoreMetadata["sha256"] != hexSum([]byte(metadata)) {
				t.Errorf("file: %+v", f)
			}
			if at, err := time.Parse(time.RFC3339, f.UploadTime); err != nil || time.Since(at) < 50*time.Minute || time.Since(at) > 2*time.Hour {
				t.Errorf("uploaded at %s", f.UploadTime)
			}
			if f := p.Files[0]; f.Filename != "foo-bar-0.9.tar.gz" || f.Hashes["sha256"] != hexSum([]byte("source")) || f.CoreMetadata != nil {
				t.Errorf("source: %+v", f)
			}
			page, err := s.read("simple/foo-bar/index.html")
			if err != nil || !strings.Contains(page, "foo_bar-1.10-py3-none-any.whl#sha256="+hexSum(two)) {
				t.Errorf("page: %v, %s", err, page)
			}
			var names []string
			for _, n := range s.page("simple/index.v1_json").Projects {
				names = append(names, n.Name)
			}
			if !slices.Equal(names, []string{"baz", "foo-bar"}) {
				t.Errorf("projects: %v", names)
			}
			for _, name := range []string{"simple/none/index.html", "simple/foo-bar/none", "f/foo-bar/none.whl.metadata", "f/foo-bar/foo-bar-0.9.tar.gz.metadata", "simple/foo-bar/index.v1_html"} {
				if text, err := s.read(name); !isGone(err) {
					t.Errorf("%s: %q, %v", name, text, err)
				}
			}
			if opens, _ := s.from.reads(); len(opens) != 5 {
				t.Errorf("read %v", opens)
			}
		})
	}
}

// TestReadOnce starts again and again, and makes releases, and counts what is read.
func TestReadOnce(t *testing.T) {
	s := newSite(t, true)
	s.release(func() {
		for i := range 20 {
			s.putWheel(fmt.Sprintf("p/p%d", i), fmt.Sprintf("p%d", i), "1.0")
		}
		s.put("p/p0/p0-2.0-py3-none-any.whl", []byte("corrupt"))
	})
	s.start().complete()
	before := s.x.Release(context.Background()).Token
	page, err := s.read("simple/p7/index.html")
	if err != nil {
		t.Fatal(err)
	}
	if opens, _ := s.from.reads(); len(opens) != 21 || opens["p/p7/p7-1.0-py3-none-any.whl"] != 1 {
		t.Errorf("at first, read %v", opens)
	}

	s.start().complete()
	if again, err := s.read("simple/p7/index.html"); err != nil || again != page {
		t.Errorf("after a restart: %v, %s", err, again)
	}
	if _, err := s.read("p/p7/p7-1.0-py3-none-any.whl.metadata"); err != nil {
		t.Error(err)
	}
	if opens, n := s.from.reads(); len(opens) != 0 || n != 0 {
		t.Errorf("after a restart, read %v, %d bytes", opens, n)
	}
	if after := s.x.Release(context.Background()).Token; after != before {
		t.Errorf("release is %s after a restart, and was %s", after, before)
	}

	// Releases in which the tree is another directory, while the server runs or not.
	next := s.putNext("n1", "1.0")
	s.complete()
	if opens, _ := s.from.reads(); len(opens) != 1 || opens[next] != 1 {
		t.Errorf("after a release, read %v", opens)
	}
	if p := s.page("simple/n1/index.v1_json"); len(p.Files) != 1 || p.Files[0].Hashes["sha256"] == "" {
		t.Errorf("after a release: %+v", p)
	}
	s.stop()
	next = s.putNext("n2", "1.0")
	s.start().complete()
	if opens, _ := s.from.reads(); len(opens) != 1 || opens[next] != 1 {
		t.Errorf("after a release while it was down, read %v", opens)
	}
}

// putNext releases one more wheel.
func (s *site) putNext(project, version string) string {
	s.Helper()
	s.release(func() { s.putWheel("n/"+project, project, version) })
	return "n/" + project + "/" + project + "-" + version + "-py3-none-any.whl"
}

// TestChanges replaces and removes files.
func TestChanges(t *testing.T) {
	s := newSite(t, true)
	const name = "foo-1.0-py3-none-any.whl"
	s.release(func() {
		s.put("foo/"+name, wheelOf(t, "foo", "1.0", ">=3.8"))
		s.putWheel("foo", "foo", "2.0")
		s.put("README", []byte("x"))
	})
	s.start().complete()
	first, err := s.x.Stat(context.Background(), "simple/foo/index.html")
	if err != nil {
		t.Fatal(err)
	}
	replaced := wheelOf(t, "foo", "1.0", ">=3.10")
	s.release(func() { s.put("foo/"+name, replaced) })
	s.complete()
	p := s.page("simple/foo/index.v1_json")
	if len(p.Files) != 2 || p.Files[0].Hashes["sha256"] != hexSum(replaced) || p.Files[0].RequiresPython != ">=3.10" {
		t.Errorf("replaced: %+v", p)
	}
	second, err := s.x.Stat(context.Background(), "simple/foo/index.html")
	if err != nil || second.Validator == first.Validator || first.Validator == "" {
		t.Errorf("validators %q, then %q, %v", first.Validator, second.Validator, err)
	}
	s.release(func() {
		if err := os.Remove(filepath.Join(s.root, "foo", name)); err != nil {
			t.Fatal(err)
		}
	})
	s.complete()
	if p := s.page("simple/foo/index.v1_json"); len(p.Files) != 1 || !slices.Equal(p.Versions, []string{"2.0"}) {
		t.Errorf("removed: %+v", p)
	}
	s.release(func() {
		if err := os.RemoveAll(filepath.Join(s.root, "foo")); err != nil {
			t.Fatal(err)
		}
	})
	s.complete()
	for _, name := range []string{"simple/foo/index.html", "simple/index.html", "foo/index.html"} {
		if _, err := s.read(name); !isGone(err) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// TestLeftOut has files that do not belong into an index.
func TestLeftOut(t *testing.T) {
	s := newSite(t, true)
	good := wheelOf(t, "foo", "1.0", "")
	s.release(func() {
		s.put("foo/foo-1.0-py3-none-any.whl", good)
		s.put("foo/foo-1.1-py3-none-any.whl", good)                            // another version
		s.put("foo/foo-1.2-py3-none-any.whl", wheelOf(t, "bar", "1.2", ""))    // another name
		s.put("foo/foo-1.3-py3-none-any.whl", good[:len(good)-10])             // cut off
		s.put("foo/foo-1.4-py3-none-any.whl", nil)                             // empty
		s.put("foo/foo-1.5-py3-any.whl", good)                                 // no wheel's name
		s.put("foo/.foo-1.6-py3-none-any.whl.Xy12Z", good)                     // by rsync
		s.put("foo/foo-1.7-py3-none-any.whl.part", good)                       // by curl
		s.put("bar/bar.tar.gz", []byte("x"))                                   // no version
		s.put("foo/foo-1.0-py3-none-any.whl.asc", []byte("x"))                 // a signature
		s.put("other/foo-1.0-py3-none-any.whl", good)                          // twice
		s.put("zed/zed-1.0-py3-none-any.whl", []byte("all of zed is corrupt")) // no other file
	})
	s.start()
	st := s.complete()
	reasons := map[string]string{}
	for _, r := range st.Remarks {
		reasons[r.Name] = r.Reason
	}
	want := map[string]string{
		"foo/foo-1.1-py3-none-any.whl":        "has the version 1.0 in its METADATA, and 1.1 in its file name",
		"foo/foo-1.2-py3-none-any.whl":        "has the directory bar-1.2.dist-info in it",
		"foo/foo-1.3-py3-none-any.whl":        "can not be read: zip",
		"foo/foo-1.4-py3-none-any.whl":        "can not be read: zip",
		"foo/foo-1.5-py3-any.whl":             "has a file name of 4 parts",
		"foo/.foo-1.6-py3-none-any.whl.Xy12Z": "is being written",
		"foo/foo-1.7-py3-none-any.whl.part":   "is being written",
		"bar/bar.tar.gz":                      "has a file name without a valid project name",
		"other/foo-1.0-py3-none-any.whl":      "has the same name as foo/foo-1.0-py3-none-any.whl",
		"zed/zed-1.0-py3-none-any.whl":        "can not be read: zip",
	}
	for name, reason := range want {
		if !strings.Contains(reasons[name], reason) {
			t.Errorf("%s %q, want %q", name, reasons[name], reason)
		}
	}
	if st.LeftOut != len(want) || len(st.Remarks) != len(want) || st.Files != 1 || st.Projects != 1 {
		t.Errorf("status: %+v", st)
	}
	if p := s.page("simple/foo/index.v1_json"); len(p.Files) != 1 || p.Files[0].Filename != "foo-1.0-py3-none-any.whl" {
		t.Errorf("page: %+v", p)
	}
	if p := s.page("simple/index.v1_json"); len(p.Projects) != 1 {
		t.Errorf("projects: %+v", p)
	}
	if _, err := s.read("simple/zed/index.html"); !isGone(err) {
		t.Errorf("error is %v", err)
	}
	if _, err := s.read("foo/foo-1.3-py3-none-any.whl.metadata"); !isGone(err) {
		t.Errorf("error is %v", err)
	}
}

// TestYoung has files that are being written while the index is asked for.
func TestYoung(t *testing.T) {
	s := newSite(t, false)
	s.putWheel("foo", "foo", "1.0")
	good := wheelOf(t, "foo", "2.0", "")
	path := filepath.Join(s.root, "foo", "foo-2.0-py3-none-any.whl")
	if err := os.WriteFile(path, good[:50], 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	st := s.complete()
	if st.LeftOut != 1 || !strings.Contains(st.Remarks[0].Reason, "may be being written") {
		t.Errorf("status: %+v", st)
	}
	if p := s.page("simple/foo/index.v1_json"); len(p.Files) != 1 {
		t.Errorf("page: %+v", p)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if p := s.page("simple/foo/index.v1_json"); len(p.Files) == 2 && p.Files[1].Hashes["sha256"] == hexSum(good) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("it is not listed once it is at rest: %+v", s.x.Status().Index)
		}
	}
	if st := s.complete(); st.LeftOut != 0 {
		t.Errorf("status: %+v", st)
	}
}

// TestFirst asks for pages while nothing was read yet, and the origin is slow.
func TestFirst(t *testing.T) {
	s := newSite(t, true)
	s.release(func() {
		for i := range 9 {
			s.putWheel(fmt.Sprintf("p/p%d", i), fmt.Sprintf("p%d", i), "1.0")
		}
	})
	s.start()
	s.from.slow = 600 * time.Millisecond
	s.from.setFail(func(call, name string) error {
		if call == "open" {
			return origin.ErrAway
		}
		return nil
	})
	start := time.Now()
	p := s.page("simple/p8/index.v1_json")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the first page took %s", took)
	}
	if len(p.Files) != 1 || p.Files[0].URL != "../../p/p8/p8-1.0-py3-none-any.whl" || p.Files[0].Hashes["sha256"] != "" || p.Files[0].Size == 0 {
		t.Errorf("page: %+v", p)
	}
	for end := time.Now().Add(10 * time.Second); s.x.Status().Index.State != "reading"; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("status: %+v", s.x.Status().Index)
		}
	}
	if info, err := s.x.Stat(context.Background(), "simple/p8/index.html"); err != nil || !info.Passing {
		t.Errorf("info: %+v, %v", info, err)
	}
	before := s.x.Release(context.Background())
	s.from.setFail(nil)
	s.complete()
	if info, err := s.x.Stat(context.Background(), "simple/p8/index.html"); err != nil || info.Passing {
		t.Errorf("info: %+v, %v", info, err)
	}
	if after := s.x.Release(context.Background()); after.Token == before.Token {
		t.Errorf("release is %+v before and after the files were read", after)
	}
	if p := s.page("simple/p8/index.v1_json"); p.Files[0].Hashes["sha256"] == "" {
		t.Errorf("page: %+v", p)
	}
}

// TestPanic has the origin panic.
func TestPanic(t *testing.T) {
	s := newSite(t, true)
	s.release(func() {
		s.putWheel("foo", "foo", "1.0")
		s.putWheel("bar", "bar", "1.0")
	})
	s.start()
	s.from.setFail(func(call, name string) error {
		if call == "open" && strings.HasPrefix(name, "foo/") {
			panic("a bug")
		}
		return nil
	})
	st := s.complete()
	if st.LeftOut != 1 || !strings.Contains(st.Remarks[0].Reason, "panic in") {
		t.Errorf("status: %+v", st)
	}
	if p := s.page("simple/bar/index.v1_json"); len(p.Files) != 1 || p.Files[0].Hashes["sha256"] == "" {
		t.Errorf("page: %+v", p)
	}
	s.start().complete()
	if p := s.page("simple/foo/index.v1_json"); len(p.Files) != 1 {
		t.Errorf("after a restart: %+v", p)
	}
}

// TestEnd checks that nothing is read once the configuration has ended.
func TestEnd(t *testing.T) {
	s := newSite(t, true)
	s.release(func() {
		for i := range 200 {
			s.putWheel("p", fmt.Sprintf("p%d", i), "1.0")
		}
	})
	s.start()
	s.from.setFail(func(call, name string) error {
		if call == "open" {
			time.Sleep(20 * time.Millisecond)
		}
		return nil
	})
	for s.x.Release(context.Background()); s.x.Status().Index.State != "reading"; time.Sleep(time.Millisecond) {
		continue
	}
	s.stop()
	time.Sleep(100 * time.Millisecond)
	s.from.reads()
	time.Sleep(200 * time.Millisecond)
	if opens, _ := s.from.reads(); len(opens) > 0 {
		t.Errorf("read %v after its end", opens)
	}
}

// TestFactsGone has the cache drop what was kept, or change it.
func TestFactsGone(t *testing.T) {
	s := newSite(t, true)
	s.release(func() { s.putWheel("foo", "foo", "1.0") })
	s.start().complete()
	want, err := s.read("foo/foo-1.0-py3-none-any.whl.metadata")
	if err != nil {
		t.Fatal(err)
	}
	const name = "1/foo/foo-1.0-py3-none-any.whl"
	kept := s.facts.m[name]
	for _, b := range [][]byte{nil, {}, kept[:len(kept)-5], kept[:20], []byte("{}\n")} {
		s.facts.m[name] = b
		if got, err := s.read("foo/foo-1.0-py3-none-any.whl.metadata"); err != nil || got != want {
			t.Errorf("with %q kept: %q, %v", b, got, err)
		}
		s.start().complete()
		if p := s.page("simple/foo/index.v1_json"); len(p.Files) != 1 || p.Files[0].Hashes["sha256"] == "" {
			t.Errorf("with %q kept: %+v", b, p)
		}
	}
}

// TestTouch has the cache evict what is kept, and sees it kept again.
func TestTouch(t *testing.T) {
	s := newSite(t, true)
	s.release(func() { s.putWheel("foo", "foo", "1.0") })
	s.start().complete()
	want := s.page("simple/foo/index.v1_json").urls()
	clear(s.facts.m)
	s.x.touch()
	s.from.reads()
	s.start().complete()
	if got := s.page("simple/foo/index.v1_json").urls(); !slices.Equal(got, want) {
		t.Errorf("page has %v, want %v", got, want)
	}
	if opens, _ := s.from.reads(); len(opens) > 0 {
		t.Errorf("read %v", opens)
	}
	if _, err := s.read("foo/foo-1.0-py3-none-any.whl.metadata"); err != nil {
		t.Error(err)
	}
}

// TestNotKept has a cache that takes nothing at first, as while it reads its directory.
func TestNotKept(t *testing.T) {
	s := newSite(t, true)
	s.release(func() { s.putWheel("foo", "foo", "1.0") })
	s.start()
	s.facts.full = 3
	s.complete() // though nothing is kept
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, ok := s.facts.Get("1/foo/foo-1.0-py3-none-any.whl"); ok {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is never kept")
		}
	}
	s.start().complete()
	if opens, _ := s.from.reads(); len(opens) > 0 {
		t.Errorf("read %v", opens)
	}
}

// TestLargePage reads a page that is not made in memory, in parts.
func TestLargePage(t *testing.T) {
	s := newSite(t, true)
	s.release(func() {
		for i := range 6000 {
			s.put(fmt.Sprintf("foo/foo-1.%d.tar.gz", i), nil)
		}
	})
	s.start().complete()
	whole, err := s.read("simple/foo/index.v1_json")
	if err != nil || len(whole) < inMemory {
		t.Fatalf("%d bytes, %v", len(whole), err)
	}
	for _, off := range []int64{1, 16 << 10, int64(len(whole)) - 1, int64(len(whole)), int64(len(whole)) + 1} {
		b, err := s.x.Open(context.Background(), "simple/foo/index.v1_json", off)
		if err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(b)
		if want := whole[min(off, int64(len(whole))):]; err != nil || string(rest) != want {
			t.Errorf("from %d on, %d bytes, want %d; %v", off, len(rest), len(want), err)
		}
		b.Close()
	}
	b, err := s.x.Open(context.Background(), "simple/foo/index.v1_json", 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Read(make([]byte, 10)); err != nil {
		t.Error(err)
	}
	b.Close() // ends what makes it
	if _, err := b.Read(make([]byte, 10)); err == nil || err == io.EOF {
		t.Errorf("after Close, error is %v", err)
	}
}

// TestOther has a file change between its listing and its reading.
func TestOther(t *testing.T) {
	s := newSite(t, true)
	s.release(func() { s.putWheel("foo", "foo", "1.0") })
	s.start()
	other := wheelOf(t, "foo", "1.0", ">=3.12, <4")
	var once sync.Once
	s.from.setFail(func(call, name string) error {
		if call == "open" {
			once.Do(func() { s.put("foo/foo-1.0-py3-none-any.whl", other) })
		}
		return nil
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		text, err := s.read("simple/foo/index.v1_json")
		if err == nil && strings.Contains(text, hexSum(other)) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%v: %s, %+v", err, text, s.x.Status().Index)
		}
	}
	if opens, _ := s.from.reads(); opens["foo/foo-1.0-py3-none-any.whl"] > 5 {
		t.Errorf("read %v", opens)
	}
}

// TestWorkers counts how many files are read at a time, and has one that somebody waits
// for read though all workers are busy.
func TestWorkers(t *testing.T) {
	s := newSite(t, true)
	s.release(func() {
		for i := range 20 {
			s.putWheel("p", fmt.Sprintf("p%02d", i), "1.0")
		}
	})
	s.start()
	var now, most atomic.Int32
	release := make(chan struct{})
	s.from.setFail(func(call, name string) error {
		if call != "open" || strings.Contains(name, "p19") {
			return nil
		}
		most.Store(max(most.Load(), now.Add(1)))
		<-release
		now.Add(-1)
		return nil
	})
	s.x.Release(context.Background())
	for end := time.Now().Add(10 * time.Second); now.Load() < 2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is read")
		}
	}
	if p := s.page("simple/p19/index.v1_json"); len(p.Files) != 1 || p.Files[0].Hashes["sha256"] == "" {
		t.Errorf("page: %+v", p)
	}
	if n := most.Load(); n != 2 {
		t.Errorf("%d files are read at a time", n)
	}
	close(release)
	s.complete()
}

// TestPolite measures how fast a file is read while a client reads, too, and while none
// does.
func TestPolite(t *testing.T) {
	s := newSite(t, true)
	s.release(func() { s.put("foo/foo-1.0.tar.gz", make([]byte, 4*piece)) })
	s.start()
	s.complete()
	read := func() time.Duration {
		info, err := s.x.from.Stat(context.Background(), "foo/foo-1.0.tar.gz")
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.x.opener(context.Background(), "foo/foo-1.0.tar.gz", info, func() bool { return false })(0)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		start := time.Now()
		if n, err := io.Copy(io.Discard, r); err != nil || n != 4*piece {
			t.Fatalf("%d bytes, %v", n, err)
		}
		return time.Since(start)
	}
	b, err := s.x.Open(context.Background(), "foo/foo-1.0.tar.gz", 0)
	if err != nil {
		t.Fatal(err)
	}
	if took := read(); took < 150*time.Millisecond {
		t.Errorf("with a client it took %v", took)
	}
	if err := errors.Join(b.Close(), b.Close()); err != nil && s.x.active.Load() != 0 {
		t.Error(err)
	}
	if n := s.x.active.Load(); n != 0 {
		t.Errorf("%d clients, and none is there", n)
	}
}
