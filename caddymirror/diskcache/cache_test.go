package diskcache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
)

// offLockHook holds log lines to what holds for the file system.
var offLockHook = zap.Hooks(func(zapcore.Entry) error {
	offLock()
	return nil
})

func open(t testing.TB, path string, l Limits) *Cache {
	t.Helper()
	c, err := Open(path, l, zaptest.NewLogger(t, zaptest.WrapOptions(offLockHook)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	await(t, c, Ready)
	return c
}

func random(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// put fills key with body, in pieces.
func put(t testing.TB, c *Cache, key Key, body []byte) error {
	t.Helper()
	f, begun := c.Fill(key)
	defer f.Leave()
	if !begun {
		t.Fatalf("%v is being filled", key)
	}
	return run(f, body)
}

func run(f *Fill, body []byte) error {
	err := f.Start(Meta{Size: int64(len(body)), Validator: "v1", Header: map[string][]string{"Etag": {`"x"`}}}, Freshness{Release: 7})
	for p := body; err == nil && len(p) > 0; {
		n := min(len(p), 100_000)
		_, err = f.Write(p[:n])
		p = p[n:]
	}
	if err != nil {
		f.Fail(err)
		return err
	}
	return f.Commit()
}

func get(t testing.TB, c *Cache, key Key) []byte {
	t.Helper()
	e, ok := c.Get(key)
	if !ok {
		return nil
	}
	defer e.Close()
	b := make([]byte, e.Meta().Size)
	if n, err := e.ReadAt(b, 0); n != len(b) || err != nil && err != io.EOF {
		t.Errorf("%v: read %d of %d: %v", key, n, len(b), err)
		return nil
	}
	return b
}

func key(n int) Key { return Key{"/pypi", "file" + strconv.Itoa(n)} }

var small = Limits{MaxSize: 64 << 20, Memory: 4 << 20}

func TestPutGetReopen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	c := open(t, dir, small)
	sizes := []int{0, 1, 100, 4096, 70_000, 1 << 20, 1<<20 + 1, 5<<20 + 3}
	for n, size := range sizes {
		if err := put(t, c, key(n), random(size, uint64(n))); err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
	}
	check := func() {
		t.Helper()
		for range 2 {
			for n, size := range sizes {
				if got := get(t, c, key(n)); !bytes.Equal(got, random(size, uint64(n))) {
					t.Errorf("size %d: got %d bytes, or others", size, len(got))
				}
			}
		}
		if got, want := c.Stats().Size, diskUsage(t, dir); got != want {
			t.Errorf("counted %d bytes on disk, there are %d", got, want)
		}
	}
	check()
	c.Close()
	c = open(t, dir, small)
	if s := c.Stats(); s.Entries != len(sizes) || s.State != Ready {
		t.Fatalf("after reopening: %+v", s)
	}
	check()
	e, _ := c.Get(key(3))
	if e.Meta().Validator != "v1" || e.Meta().Get("Etag") != `"x"` || e.Fresh().Release != 7 {
		t.Errorf("got %+v, %+v", e.Meta(), e.Fresh())
	}
	e.Close()
}

func TestFollow(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir(), small)
	for n, size := range []int{10, 300_000, 3 << 20} {
		body := random(size, 9)
		f, begun := c.Fill(key(n))
		if !begun {
			t.Fatal("fill has begun already")
		}
		results := make(chan []byte, 20)
		for range 20 {
			r, begun := c.Fill(key(n))
			if begun {
				t.Fatal("second fill of one key")
			}
			go func() {
				defer r.Leave()
				var got []byte
				if _, err := r.Meta(context.Background()); err != nil {
					t.Error(err)
				}
				p := make([]byte, 64<<10)
				for {
					n, err := r.ReadAt(context.Background(), p, int64(len(got)))
					got = append(got, p[:n]...)
					if err == io.EOF {
						break
					}
					if err != nil {
						t.Error(err)
						break
					}
				}
				results <- got
			}()
		}
		f.Leave()
		if err := run(f, body); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			if !bytes.Equal(<-results, body) {
				t.Errorf("size %d: a reader got other bytes", size)
			}
		}
	}
}

func TestEvictionIsLRU(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, Limits{MaxSize: 10 << 20})
	for n := range 5 {
		if err := put(t, c, key(n), random(1<<20, uint64(n))); err != nil {
			t.Fatal(err)
		}
	}
	get(t, c, key(0))
	c.Close()
	c = open(t, dir, Limits{MaxSize: 10 << 20})
	for n := 5; n < 12; n++ {
		if err := put(t, c, key(n), random(1<<20, uint64(n))); err != nil {
			t.Fatal(err)
		}
	}
	if get(t, c, key(0)) == nil {
		t.Error("what was used last before the restart is gone")
	}
	if get(t, c, key(1)) != nil {
		t.Error("the oldest is still there")
	}
	if s := c.Stats(); s.Size > s.MaxSize || s.Size != diskUsage(t, dir) {
		t.Errorf("size %d, on disk %d, maximum %d", s.Size, diskUsage(t, dir), s.MaxSize)
	}
}

func TestFailedFill(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir(), small)
	f, _ := c.Fill(key(1))
	r, _ := c.Fill(key(1))
	if err := f.Start(Meta{Size: 3 << 20}, Freshness{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); !errors.Is(err, errShort) {
		t.Errorf("commit of a short body: %v", err)
	}
	f.Leave()
	p := make([]byte, 2<<20)
	if n, err := r.ReadAt(t.Context(), p, 0); n != 1<<20 || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
	if n, err := r.ReadAt(t.Context(), p, 1<<20); n != 0 || !errors.Is(err, errShort) {
		t.Errorf("got %d bytes, %v", n, err)
	}
	r.Leave()
	if get(t, c, key(1)) != nil {
		t.Error("a short body became an entry")
	}
	if s := c.Stats(); s.Entries != 0 || s.Filling != 0 || c.space.reserved != 0 {
		t.Errorf("%+v", s)
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir(), small)
	for n := range 20 {
		put(t, c, key(n), random(100, 1))
	}
	put(t, c, Key{"/other", "x"}, random(100, 1))
	if n, err := c.Purge("/pypi", func(name string) bool { return name == "file3" || name == "file4" }); n != 2 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	if n, err := c.PurgeKey(key(7)); n != 1 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	if n, err := c.Purge("/pypi", nil); n != 17 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	if get(t, c, Key{"/other", "x"}) == nil || c.Stats().Entries != 1 {
		t.Errorf("%+v", c.Stats())
	}
}
