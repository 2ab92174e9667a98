package faults

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	mrand "math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// objects are the files of a cache's entries.
func objects(t testing.TB, cache string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(cache, "objects"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// damages are what may become of an entry's file.
var damages = []struct {
	name string
	do   func(f *os.File, size int64) error
}{
	{"a bit in the head", func(f *os.File, size int64) error { return flip(f, mrand.Int64N(min(size, 64))) }},
	{"a bit in the metadata", func(f *os.File, size int64) error { return flip(f, mrand.Int64N(min(size, 400))) }},
	{"a bit anywhere", func(f *os.File, size int64) error { return flip(f, mrand.Int64N(size)) }},
	{"a bit near the end", func(f *os.File, size int64) error { return flip(f, size-1-mrand.Int64N(min(size, 64))) }},
	{"the last bit", func(f *os.File, size int64) error { return flip(f, size-1) }},
	{"a page of zeros", func(f *os.File, size int64) error {
		_, err := f.WriteAt(make([]byte, min(4096, size)), mrand.Int64N(size)/4096*4096)
		return err
	}},
	{"a page of noise", func(f *os.File, size int64) error {
		noise := make([]byte, min(4096, size))
		rand.Read(noise)
		_, err := f.WriteAt(noise, mrand.Int64N(size)/4096*4096)
		return err
	}},
	{"all noise", func(f *os.File, size int64) error {
		noise := make([]byte, size)
		rand.Read(noise)
		_, err := f.WriteAt(noise, 0)
		return err
	}},
	{"nothing left", func(f *os.File, _ int64) error { return f.Truncate(0) }},
	{"a byte short", func(f *os.File, size int64) error { return f.Truncate(size - 1) }},
	{"cut anywhere", func(f *os.File, size int64) error { return f.Truncate(mrand.Int64N(size)) }},
	{"cut, and zeros for it", func(f *os.File, size int64) error {
		return errors.Join(f.Truncate(mrand.Int64N(size)), f.Truncate(size))
	}},
	{"a byte more", func(f *os.File, size int64) error { return f.Truncate(size + 1) }},
	{"a block more", func(f *os.File, size int64) error { return f.Truncate(size + 1<<20) }},
}

func flip(f *os.File, at int64) error {
	var p [1]byte
	if _, err := f.ReadAt(p[:], at); err != nil {
		return err
	}
	p[0] ^= 1 << mrand.IntN(8)
	_, err := f.WriteAt(p[:], at)
	return err
}

// damage changes a file as the nth of the damages does.
func damage(t testing.TB, path string, n int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() > 0 {
		err = damages[n%len(damages)].do(f, info.Size())
	}
	if err != nil {
		t.Fatalf("%s: %s: %v", path, damages[n%len(damages)].name, err)
	}
}

// Files that are not what was written are found out before a byte of them is
// served: after a stop as after a kill, and in a running mirror that has not
// opened them since.
func TestCorrupt(t *testing.T) {
	tr := newTree(t)
	const files = 84
	for n := range files {
		size := int64(1 + n*97)
		switch n % 3 {
		case 1:
			size = 100_000 + int64(n)*3_001
		case 2:
			size = 1<<20 + int64(n)*30_000
		}
		tr.add(t, fmt.Sprintf("file%d", n), size)
	}
	cache := t.TempDir()
	config := site("path "+cache+";memory 1MiB;max_size 1GiB", mount("/a", tr.dir, "ttl 1h;timeout 2s"))
	srv := testcaddy.Start(t, config)
	srv.WaitReady(t)

	// all asks for everything and returns what was a hit.
	all := func(t *testing.T, mayFail bool) (hits int) {
		t.Helper()
		for _, name := range tr.names() {
			var header []string
			if mrand.IntN(3) == 0 {
				size := tr.newest(name).size
				header = []string{byteRange(mrand.Int64N(size), 1+mrand.Int64N(size))}
			}
			a, err := get(srv, "/a", tr, name, header...)
			switch {
			case errors.Is(err, errWrong), err != nil && !mayFail:
				t.Errorf("GET %s: %v", name, err)
			case err != nil || a.status == http.StatusServiceUnavailable && mayFail:
			case a.status != http.StatusOK && a.status != http.StatusPartialContent:
				t.Errorf("GET %s: status %d", name, a.status)
			case a.hit():
				hits++
			}
		}
		return hits
	}
	whole := func(t *testing.T) {
		t.Helper()
		// Damage that nobody has met yet must not be met later.
		if _, err := srv.Purge("/a", "", "/"); err != nil {
			t.Fatal(err)
		}
		all(t, false)
		waitQuiet(t, srv)
		for _, name := range tr.names() {
			waitHit(t, srv, "/a", tr, name, 5*time.Second)
		}
		if n := len(objects(t, cache)); n != files {
			t.Fatalf("there are %d files of %d entries", n, files)
		}
	}

	for _, tt := range []struct {
		name string
		do   func(spoil func())
		away bool
	}{
		{name: "stopped", do: func(spoil func()) { srv.Stop(); spoil(); srv.Restart(config) }},
		{name: "killed", do: func(spoil func()) { srv.Kill(); spoil(); srv.Restart(config) }},
		{name: "running", do: func(spoil func()) {
			srv.Stop()
			srv.Restart(config)
			srv.WaitReady(t)
			spoil()
		}},
		{name: "stopped, and the origin is away", do: func(spoil func()) { srv.Stop(); spoil(); srv.Restart(config) }, away: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			whole(t)
			spoilt := 0
			tt.do(func() {
				shift := mrand.IntN(len(damages))
				for n, path := range objects(t, cache) {
					if n%4 > 0 { // the others must not suffer
						damage(t, path, n+shift)
						spoilt++
					}
				}
			})
			srv.Client.CloseIdleConnections()
			back := func() {}
			if tt.away {
				back = tr.leave(t)
			}
			hits := all(t, tt.away)
			back()
			t.Logf("%d of %d entries were damaged; %d hits", spoilt, files, hits)
			if hits < files-spoilt {
				t.Errorf("of %d files that were not touched, only %d hits are left", files-spoilt, hits)
			}
			if !tt.away {
				if n := theCache(t, srv).Corrupt; n < uint64(spoilt)/3 {
					t.Errorf("of %d damaged files, %d count as corrupt", spoilt, n)
				}
				return
			}
			wait(t, 10*time.Second, "the origin is up again", func() bool { return srv.Origins(t, "/a")[0].State == "up" })
		})
	}

	t.Run("swapped", func(t *testing.T) {
		whole(t)
		srv.Stop()
		names := objects(t, cache)
		for n := 0; n+1 < len(names); n += 2 {
			temp := filepath.Join(cache, "swap")
			if err := errors.Join(os.Rename(names[n], temp), os.Rename(names[n+1], names[n]), os.Rename(temp, names[n+1])); err != nil {
				t.Fatal(err)
			}
		}
		srv.Restart(config)
		srv.Client.CloseIdleConnections()
		all(t, false)
		whole(t)
	})

	t.Run("nonsense beside", func(t *testing.T) {
		whole(t)
		srv.Stop()
		for _, name := range []string{"objects/zz", "objects/00/not-an-entry", "tmp/17", "stray", "objects/.hidden"} {
			path := filepath.Join(cache, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("nonsense"), 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		srv.Restart(config)
		srv.Client.CloseIdleConnections()
		if hits := all(t, false); hits != files {
			t.Errorf("%d hits of %d", hits, files)
		}
		if s := theCache(t, srv); s.Entries != files {
			t.Errorf("%d entries of %d", s.Entries, files)
		}
	})
}

// shorten cuts a file, and never makes it longer: that would change bytes that
// were there. Whole pages go, since the kernel does not keep readers from
// seeing how it clears a part of one.
func shorten(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Size() > 4096 && os.Truncate(path, mrand.Int64N(info.Size()/4096)*4096) == nil
}

// Files are cut while they are read: clients get the right bytes, or are cut
// off, and the server lives.
func TestCutWhileRead(t *testing.T) {
	tr := newTree(t)
	const files, size = 12, 3<<20 + 17
	name := func(n int) string { return fmt.Sprintf("file%d", n) }
	for n := range files {
		tr.add(t, name(n), size)
	}
	cache := t.TempDir()
	srv := testcaddy.Start(t, site("path "+cache+";memory 1MiB;max_size 1GiB", mount("/a", tr.dir, "ttl 1h")))
	srv.WaitReady(t)
	for n := range files {
		waitHit(t, srv, "/a", tr, name(n), 10*time.Second)
	}

	stop := make(chan struct{})
	spoiler := make(chan int)
	go func() {
		cut := 0
		defer func() { spoiler <- cut }()
		for {
			select {
			case <-stop:
				return
			case <-time.After(30 * time.Millisecond):
			}
			all, _ := filepath.Glob(filepath.Join(cache, "objects", "*", "*"))
			if len(all) > 0 && shorten(all[mrand.IntN(len(all))]) {
				cut++
			}
		}
	}()
	var whole, aborted atomic.Int64
	during(t, srv, 6*time.Second, 5, func() error {
		var header []string
		if mrand.IntN(2) == 0 {
			header = []string{byteRange(mrand.Int64N(size/2), 1+mrand.Int64N(size/2))}
		}
		a, err := get(srv, "/a", tr, name(mrand.IntN(files)), header...)
		switch {
		case errors.Is(err, errWrong):
			return err
		case err != nil:
			aborted.Add(1)
		case a.status != http.StatusOK && a.status != http.StatusPartialContent:
			return fmt.Errorf("status %d", a.status)
		default:
			whole.Add(1)
		}
		return nil
	})
	close(stop)
	cut := <-spoiler
	corrupt := theCache(t, srv).Corrupt
	t.Logf("%d files cut, %d answers, %d cut off, %d entries found corrupt", cut, whole.Load(), aborted.Load(), corrupt)
	if cut < 20 || whole.Load() < 50 || corrupt == 0 {
		t.Error("that is too little to show anything")
	}
	for n := range files {
		waitHit(t, srv, "/a", tr, name(n), 10*time.Second)
	}
}
