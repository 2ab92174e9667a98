package afs

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

func TestFS(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 2)
	v, sub := c.vols["root.cell"], c.volume("sub")
	page(v, "one")
	v.write("ünï cöde/\U0001f600", "smile")
	v.write("large", pattern(1, 2*chunk+1))
	v.write("empty", "")
	v.write("secret", "denied")
	v.edit("secret", func(f *fakeFile) { f.denied = true })
	v.link("link", "a/index")
	v.link("dir", "a")
	v.mount("sub", "#sub.")
	page(sub, "sub")
	v.release(firstDate + 100)
	sub.release(firstDate + 100)
	client, tree := c.start()
	fsys := tree.FS(5 * time.Second)

	open, err := fs.Sub(fsys, "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := fstest.TestFS(open, "index", "b/index"); err != nil {
		t.Error(err)
	}
	for dir, names := range map[string][]string{"ünï cöde": {"\U0001f600"}, "sub": {"index", "a/b/index"}, "dir": {"b/index"}} {
		part, err := fs.Sub(fsys, dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := fstest.TestFS(part, names...); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
	for name, want := range map[string]string{
		"large": pattern(1, 2*chunk+1), "empty": "", "link": "one", "dir/b/index": "one", "sub/a/index": "sub", "ünï cöde/\U0001f600": "smile",
	} {
		if got, err := fs.ReadFile(fsys, name); err != nil || string(got) != want {
			t.Errorf("%s has %d bytes, %v, want %d", name, len(got), err, len(want))
		}
	}
	for name, want := range map[string]error{"none": fs.ErrNotExist, "secret": fs.ErrPermission, "/a": fs.ErrInvalid, "a/../a": fs.ErrInvalid} {
		if _, err := fsys.Open(name); !errors.Is(err, want) {
			t.Errorf("open %s: %v, want %v", name, err, want)
		}
		if _, err := fs.Stat(fsys, name); !errors.Is(err, want) {
			t.Errorf("stat %s: %v, want %v", name, err, want)
		}
	}
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
		if e.Name() == "sub" && !e.IsDir() || e.Name() == "link" && !e.Type().IsRegular() {
			t.Errorf("%s is a %v", e.Name(), e.Type())
		}
	}
	if got := strings.Join(names, " "); got != "a dir empty index large link secret sub ünï cöde" {
		t.Errorf("names are %s", got)
	}
	whole(t, client)
}

// TestFSSeek: as http.ServeContent does it, and to all sides.
func TestFSSeek(t *testing.T) {
	t.Parallel()
	c := newFakeCell(t, 1)
	v := c.vols["root.cell"]
	want := pattern(3, 2*chunk+100)
	v.write("large", want)
	v.release(firstDate + 100)
	client, tree := c.start()
	file, err := tree.FS(5 * time.Second).Open("large")
	if err != nil {
		t.Fatal(err)
	}
	f := file.(io.ReadSeeker)
	at := func(off int64, whence int, want int64) {
		t.Helper()
		if got, err := f.Seek(off, whence); err != nil || got != want {
			t.Errorf("seek %d, %d: %d, %v, want %d", off, whence, got, err, want)
		}
	}
	read := func(from, n int) {
		t.Helper()
		b := make([]byte, n)
		if _, err := io.ReadFull(f, b); err != nil || string(b) != want[from:from+n] {
			t.Errorf("%d bytes at %d: %v", n, from, err)
		}
	}
	at(0, io.SeekEnd, int64(len(want)))
	if n, err := f.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	at(0, io.SeekStart, 0)
	read(0, 10)
	at(0, io.SeekCurrent, 10)
	read(10, chunk)
	at(-5, io.SeekEnd, int64(len(want)-5))
	read(len(want)-5, 5)
	at(chunk-1, io.SeekStart, chunk-1)
	read(chunk-1, 2)
	if _, err := f.Seek(-1, io.SeekStart); err == nil {
		t.Error("seeks before the start")
	}
	at(0, io.SeekCurrent, chunk+1)
	b := make([]byte, 7)
	if n, err := file.(io.ReaderAt).ReadAt(b, int64(len(want)-3)); n != 3 || err != io.EOF {
		t.Errorf("ReadAt: %d, %v", n, err)
	}
	file.Close()
	if n, err := f.Read(b); err == nil {
		t.Errorf("read %d bytes after Close", n)
	}
	whole(t, client)
}
