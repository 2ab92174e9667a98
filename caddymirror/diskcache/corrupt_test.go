package diskcache

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// fileOf is the path of an entry's file.
func fileOf(dir string, key Key) string {
	return filepath.Join(dir, "objects", fileName(key.id(), groupID(key.Group)))
}

func flip(t testing.TB, path string, off int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if off < 0 {
		fi, _ := f.Stat()
		off += fi.Size()
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

func truncate(t testing.TB, path string, size int64) {
	t.Helper()
	if size < 0 {
		fi, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		size += fi.Size()
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// damages is what can become of a file of an entry of 3 MiB and some.
func damages(t testing.TB) map[string]func(path string) {
	size := int64(3<<20 + 12345)
	line, err := encodeMeta(key(1), metaOf(1, int(size)))
	if err != nil {
		t.Fatal(err)
	}
	head := withRoom(line)
	body := headerLen + int64(len(head))
	elsewhere := filepath.Join(t.TempDir(), "x")
	m := map[string]func(string){
		"empty":    func(p string) { truncate(t, p, 0) },
		"extended": func(p string) { truncate(t, p, fileLen(int64(len(head)), size)+1) },
		"zeros": func(p string) {
			truncate(t, p, 0)
			truncate(t, p, fileLen(int64(len(head)), size))
		},
		"garbage": func(p string) {
			if err := os.WriteFile(p, random(10_000, 3), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"directory": func(p string) {
			if err := errors.Join(os.Remove(p), os.Mkdir(p, 0o700)); err != nil {
				t.Fatal(err)
			}
		},
		"full directory": func(p string) {
			if err := errors.Join(os.Remove(p), os.MkdirAll(p+"/x", 0o700)); err != nil {
				t.Fatal(err)
			}
		},
		"symlink": func(p string) {
			if err := errors.Join(os.Rename(p, elsewhere), os.Symlink(elsewhere, p)); err != nil {
				t.Fatal(err)
			}
		},
		"fifo": func(p string) {
			if err := errors.Join(os.Remove(p), unix.Mkfifo(p, 0o600)); err != nil {
				t.Fatal(err)
			}
		},
		"gone": func(p string) {
			if err := os.Remove(p); err != nil {
				t.Fatal(err)
			}
		},
		"shard is a file": func(p string) {
			d := filepath.Dir(p)
			if err := errors.Join(os.RemoveAll(d), os.WriteFile(d, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, off := range map[string]int64{
		"magic": 3, "length of meta": 11, "sum of meta": 13, "length of body": 22, "reserved": 25, "sum of header": 30,
		"meta": headerLen + 20, "room of meta": headerLen + int64(len(line)) + 9, "end of meta": body - 1,
		"first byte": body, "second block": body + blockSize + 7, "last block": body + size - 4000, "last byte": body + size - 1,
		"sums": body + size + 5, "sum of sums": -2,
	} {
		m["flip in "+name] = func(p string) { flip(t, p, off) }
	}
	for name, size := range map[string]int64{
		"header": 30, "after header": headerLen, "meta": headerLen + 20, "body": body + 1000, "after a block": body + blockSize,
		"after body": body + size, "sums": -6, "last byte": -1,
	} {
		m["cut in "+name] = func(p string) { truncate(t, p, size) }
	}
	return m
}

// TestDamage damages the file of an entry in all its parts: before the cache
// is opened, while it is open, and while the entry is.
func TestDamage(t *testing.T) {
	t.Parallel()
	const size = 3<<20 + 12345
	for name := range damages(t) {
		for _, when := range []string{"closed", "open", "hot"} {
			t.Run(name+", "+when, func(t *testing.T) {
				t.Parallel()
				damage := damages(t)[name]
				dir := t.TempDir()
				c := open(t, dir, small)
				if err := errors.Join(fill(c, key(1), 1, size, true), fill(c, key(2), 1, 5000, true)); err != nil {
					t.Fatal(err)
				}
				// Only a new process doubts what this one has written.
				c.Close()
				if when == "closed" {
					damage(fileOf(dir, key(1)))
				}
				c = open(t, dir, small)
				var hot *Entry
				switch when {
				case "open":
					damage(fileOf(dir, key(1)))
				case "hot":
					var ok bool
					if hot, ok = c.Get(key(1)); !ok {
						t.Fatal("it is not there")
					}
					damage(fileOf(dir, key(1)))
				}
				whole := readAll(t, c)
				// What was open when its name or its metadata went can be
				// whole all the same.
				if hot != nil {
					hot.Close()
					whole = whole && readAll(t, c)
				}
				if err := scrubbed(c); err != nil {
					t.Error(err)
				}
				if s := c.Stats(); s.Entries != 1 || s.State != Ready {
					t.Errorf("after the scrub: %+v", s)
				}
				if when != "hot" && whole {
					t.Error("it was served")
				}
				if e, ok := c.Get(key(2)); !ok || checkEntry(e, 1000) != nil {
					t.Error("the entry beside it is not what it was")
				} else {
					e.Close()
				}
				checkIdle(t, c)
				if _, err := os.Lstat(fileOf(dir, key(1))); err != nil {
					checkSize(t, c, dir) // but for what is not the cache's
				}
				if err := fill(c, key(1), 2, size, true); err == nil {
					if e, ok := c.Get(key(1)); !ok || checkEntry(e, 100_000) != nil {
						t.Error("it is not filled anew")
					} else {
						e.Close()
					}
				} else if !errors.Is(err, ErrBypass) || c.Stats().State != Ready {
					t.Errorf("filling it anew: %v, %+v", err, c.Stats())
				}
			})
		}
	}
}

// readAll reads the entry of key 1, if it is there, and reports whether it was
// whole. It must not have a wrong byte.
func readAll(t *testing.T, c *Cache) bool {
	t.Helper()
	e, ok := c.Get(key(1))
	if !ok {
		return false
	}
	defer e.Close()
	err := checkEntry(e, 70_000)
	if errors.Is(err, errWrong) {
		t.Error(err)
	}
	if err == nil {
		return true
	}
	if again, ok := c.Get(key(1)); ok {
		again.Close()
		t.Errorf("still there after %v", err)
	}
	return false
}

func scrubbed(c *Cache) error {
	if !c.scrubAll(1 << 50) {
		return errors.New("the scrub did not come to its end")
	}
	return nil
}

func TestSwappedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	for n := range 4 {
		if err := fill(c, key(n), 1, 3000, true); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	swap := func(a, b string) {
		if err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE); err != nil {
			t.Skip(err)
		}
	}
	swap(fileOf(dir, key(0)), fileOf(dir, key(1)))
	c = open(t, dir, small)
	swap(fileOf(dir, key(2)), fileOf(dir, key(3)))
	for n := range 4 {
		if e, ok := c.Get(key(n)); ok {
			t.Errorf("%v is served, as %v", key(n), e.Key())
			e.Close()
		}
	}
	if s := c.Stats(); s.Entries != 0 || s.Corrupt != 4 {
		t.Errorf("%+v", s)
	}
	checkIdle(t, c)
	checkSize(t, c, dir)
}

// TestStrangers has things in the directory that the cache did not put there.
func TestStrangers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	if err := fill(c, key(1), 1, 3000, true); err != nil {
		t.Fatal(err)
	}
	path := fileOf(dir, key(1))
	c.Close()

	shard := filepath.Dir(path)
	name := filepath.Base(path)
	strangers := []string{
		dir + "/notes.txt", dir + "/objects/lost+found", dir + "/tmp/notes.txt", dir + "/tmp/x/y",
		shard + "/README", shard + "/" + name + ".bak", shard + "/" + name[:idLen], shard + "/x/y",
		// Not how the cache writes it, though it would decode.
		shard + "/" + name[:idLen-1] + string(name[idLen-1]+1) + name[idLen:],
		shard + "/" + name[:2] + "AB" + name[4:],
		// In the wrong directory.
		dir + "/objects/" + shardName((shardOf(key(1).id())+1)%shards) + "/" + name,
	}
	for _, p := range strangers {
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte("mine"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	c = open(t, dir, small)
	if s := c.Stats(); s.Entries != 1 || s.State != Ready {
		t.Errorf("%+v", s)
	}
	if e, ok := c.Get(key(1)); !ok || checkEntry(e, 5000) != nil {
		t.Error("the entry is not what it was")
	} else {
		e.Close()
	}
	if err := scrubbed(c); err != nil {
		t.Error(err)
	}
	if n, err := c.Purge(key(1).Group, nil); n != 1 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	for _, p := range strangers {
		if b, err := os.ReadFile(p); string(b) != "mine" {
			t.Errorf("%s: %q, %v", p, b, err)
		}
	}
}

// TestScrub has the scrub find what nobody asks for.
func TestScrub(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	for n := range 30 {
		if err := fill(c, key(n), 1, n*100_000, true); err != nil {
			t.Fatal(err)
		}
	}
	flip(t, fileOf(dir, key(7)), 500_000)  // though this process has written it
	flip(t, fileOf(dir, key(25)), -1)      // its sum
	truncate(t, fileOf(dir, key(12)), 100) //
	if err := os.Remove(fileOf(dir, key(20))); err != nil {
		t.Fatal(err)
	}
	if err := scrubbed(c); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Entries != 26 || s.Corrupt != 3 || s.Scrubbed < 26 {
		t.Errorf("%+v", s)
	}
	for n := range 30 {
		e, ok := c.Get(key(n))
		if want := n != 7 && n != 12 && n != 20 && n != 25; ok != want {
			t.Errorf("entry %d is there: %t", n, ok)
		}
		if ok {
			if err := checkEntry(e, 1<<20); err != nil {
				t.Error(err)
			}
			e.Close()
		}
	}
	checkIdle(t, c)
	checkSize(t, c, dir)
}

// TestNames stores what JSON cannot hold as it is.
func TestNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, Limits{MaxSize: 64 << 20})
	keys := []Key{
		{"/g", "caf\xe9.tar"},
		{"/g", "\xff\xfe"},
		{"/g", "a\x00b"},
		{"/g", "\uFFFD"},
		{"/g", "\uFFFD\"x\""},
		{"/g", `"q"`},
		{"/g", "<&>\u2028"},
		{"/g", ""},
		{"/\xe9", "x"},
		{"", ""},
		{"/g", "日本"},
	}
	for n, k := range keys {
		f, _ := c.Fill(k)
		err := f.Start(Meta{Size: 3, Validator: "v\xe9", Header: map[string][]string{"X-Name": {k.Name, "", k.Name}, k.Name: nil}}, Freshness{})
		if err == nil {
			f.Write(fmt.Appendf(nil, "%03d", n))
			err = f.Commit()
		}
		f.Leave()
		if err != nil {
			t.Fatalf("%q: %v", k, err)
		}
	}
	c.Close()
	c = open(t, dir, Limits{MaxSize: 64 << 20})
	for n, k := range keys {
		e, ok := c.Get(k)
		if !ok {
			t.Errorf("%q is not there", k)
			continue
		}
		b := make([]byte, 3)
		if _, err := e.ReadAt(b, 0); err != io.EOF || string(b) != fmt.Sprintf("%03d", n) {
			t.Errorf("%q: %q, %v", k, b, err)
		}
		if m := e.Meta(); m.Validator != "v\xe9" || !slices.Equal(m.Header["X-Name"], []string{k.Name, "", k.Name}) || len(m.Header) != 2 || m.Header[k.Name] != nil || e.Key() != k {
			t.Errorf("%q: %+v", k, m)
		}
		e.Close()
	}
}
