package diskcache

import (
	"bytes"
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

	"golang.org/x/sys/unix"
)

// readFill follows a fill to its end.
func readFill(ctx context.Context, f *Fill) ([]byte, error) {
	if _, err := f.Meta(ctx); err != nil {
		return nil, err
	}
	var got []byte
	p := make([]byte, 30_000)
	for {
		n, err := f.ReadAt(ctx, p, int64(len(got)))
		got = append(got, p[:n]...)
		if err != nil {
			return got, err
		}
	}
}

// TestOneFillPerKey has many ask for a key at once, again and again.
func TestOneFillPerKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	for round := range 24 {
		const readers = 40
		size := []int{0, 100, 300_000, 2<<20 + 5}[round%4]
		want := body(key(round), round, size)
		var begun atomic.Int32
		var wg, joined sync.WaitGroup
		joined.Add(readers)
		for range readers {
			wg.Go(func() {
				f, mine := c.Fill(key(round))
				joined.Done()
				defer f.Leave()
				if mine {
					begun.Add(1)
					go func() {
						joined.Wait()
						if err := runFill(f, key(round), round, size, round%3 > 0); err != nil {
							t.Error(err)
						}
					}()
				}
				if got, err := readFill(t.Context(), f); err != io.EOF || !bytes.Equal(got, want) {
					t.Errorf("a reader got %d bytes of %d, %v", len(got), size, err)
				}
			})
		}
		wg.Wait()
		if n := begun.Load(); n != 1 {
			t.Errorf("%d fills for %d readers", n, readers)
		}
		within(t, "stored", func() bool { return running(c) == 0 })
		if e, ok := c.Get(key(round)); !ok || checkEntry(e, 100_000) != nil {
			t.Error("it is not what was filled")
		} else {
			e.Close()
		}
	}
	checkIdle(t, c)
	checkSize(t, c, dir)
}

// running is how many stores of fills are still open.
func running(c *Cache) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.space.reserved + int64(len(c.underWay()))
}

// TestWaiting has readers give up where they can wait.
func TestWaiting(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir(), small)
	f, _ := c.Fill(key(1))
	defer f.Leave()
	gone := errors.New("client is gone")
	quit := func(wait func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithCancelCause(t.Context())
		result := make(chan error)
		go func() { result <- wait(ctx) }()
		select {
		case err := <-result:
			t.Fatalf("did not wait: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
		cancel(gone)
		if err := <-result; !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
	}
	r := c.Filling(key(1))
	defer r.Leave()
	quit(func(ctx context.Context) error { _, err := r.Meta(ctx); return err })
	if err := f.Start(Meta{Size: 2 << 20}, Freshness{}); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 10)
	quit(func(ctx context.Context) error { _, err := r.ReadAt(ctx, p, 0); return err })
	f.Write(make([]byte, 1<<20))
	if n, err := r.ReadAt(t.Context(), p, 1<<20-5); n != 5 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	quit(func(ctx context.Context) error { _, err := r.ReadAt(ctx, p, 1<<20); return err })
	// The bytes that end a body wait for the word of its source.
	f.Write(make([]byte, 1<<20-1))
	if n := r.Published(); n != 2<<20-1 {
		t.Errorf("published %d", n)
	}
	f.Write(make([]byte, 1))
	if n := r.Published(); n != 2<<20-1 {
		t.Errorf("published %d before Commit", n)
	}
	quit(func(ctx context.Context) error { _, err := r.ReadAt(ctx, p, 2<<20-1); return err })
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	if n, err := r.ReadAt(t.Context(), p, 2<<20-1); n != 1 || err != nil {
		t.Errorf("read %d, %v", n, err)
	}
	if n, err := r.ReadAt(t.Context(), p, 2<<20); n != 0 || err != io.EOF {
		t.Errorf("read %d, %v", n, err)
	}
}

// TestFillEnds ends fills in all ways but the good one. Nothing must be left.
func TestFillEnds(t *testing.T) {
	t.Parallel()
	broken := errors.New("origin is broken")
	const large = 2<<20 + 3
	ends := []struct {
		name string
		size int64 // as told
		run  func(c *Cache, f *Fill) error
		want error
		have int // bytes that a reader gets
	}{
		{"before start", 0, func(_ *Cache, f *Fill) error { f.Fail(broken); return nil }, broken, 0},
		{"after start", large, func(_ *Cache, f *Fill) error { f.Fail(broken); return nil }, broken, 0},
		{"in the middle", large, func(_ *Cache, f *Fill) error { f.Write(make([]byte, 1000)); f.Fail(broken); return nil }, broken, 1000},
		{"of a small one", 5000, func(_ *Cache, f *Fill) error { f.Write(make([]byte, 1000)); f.Fail(broken); return nil }, broken, 1000},
		{"of unknown size", -1, func(_ *Cache, f *Fill) error { f.Write(make([]byte, 5<<20)); f.Fail(broken); return nil }, broken, 5 << 20},
		{"at the end", large, func(_ *Cache, f *Fill) error { f.Write(make([]byte, large)); f.Fail(broken); return nil }, broken, 0},
		{"short", large, func(_ *Cache, f *Fill) error { f.Write(make([]byte, large-1)); return f.Commit() }, errShort, large - 1},
		{"short small", 100, func(_ *Cache, f *Fill) error { f.Write(make([]byte, 99)); return f.Commit() }, errShort, 99},
		{"empty", 100, func(_ *Cache, f *Fill) error { return f.Commit() }, errShort, 0},
		{"long", large, func(_ *Cache, f *Fill) error {
			f.Write(make([]byte, large))
			_, err := f.Write(make([]byte, 1))
			f.Fail(err)
			return err
		}, errLong, 0},
		{"long small", 10, func(_ *Cache, f *Fill) error { _, err := f.Write(make([]byte, 11)); f.Fail(err); return err }, errLong, 0},
		{"over max_object", 7 << 20, func(*Cache, *Fill) error { return nil }, ErrBypass, 0},
		{"over max_object, untold", -1, func(_ *Cache, f *Fill) error {
			for range 6 {
				if _, err := f.Write(make([]byte, 1<<20)); err != nil {
					return err
				}
			}
			_, err := f.Write(make([]byte, 1))
			f.Fail(err)
			return err
		}, ErrBypass, 6 << 20},
		{"purged", large, func(c *Cache, f *Fill) error {
			f.Write(make([]byte, large))
			c.PurgeKey(f.key)
			return f.Commit()
		}, ErrBypass, large},
		{"purged by prefix", 500, func(c *Cache, f *Fill) error {
			f.Write(make([]byte, 500))
			c.Purge(f.key.Group, func(string) bool { return true })
			return f.Commit()
		}, ErrBypass, 500},
		{"closed", large, func(c *Cache, f *Fill) error {
			f.Write(make([]byte, 1000))
			c.Close()
			if _, err := f.Write(make([]byte, 1000)); err == nil {
				t.Error("wrote to a closed cache")
			}
			return f.Commit()
		}, ErrBypass, 1000},
		{"closed before commit", 500, func(c *Cache, f *Fill) error {
			f.Write(make([]byte, 500))
			c.Close()
			return f.Commit()
		}, ErrBypass, 0},
		{"closed, unknown size", -1, func(c *Cache, f *Fill) error {
			f.Write(make([]byte, 1000))
			c.Close()
			return f.Commit()
		}, ErrBypass, 1000},
	}
	for _, tt := range ends {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			c := open(t, dir, Limits{MaxSize: 32 << 20, MaxObject: 6 << 20, Memory: 1 << 20})
			f, _ := c.Fill(key(1))
			r := c.Filling(key(1))
			type result struct {
				got []byte
				err error
			}
			results := make(chan result)
			go func() {
				got, err := readFill(t.Context(), r)
				results <- result{got, err}
			}()
			var err error
			if tt.name != "before start" {
				err = f.Start(Meta{Size: tt.size}, Freshness{})
			}
			if err == nil {
				err = tt.run(c, f)
			} else {
				f.Fail(err)
			}
			if err != nil && !errors.Is(err, tt.want) {
				t.Errorf("runner got %v", err)
			}
			f.Leave()
			got := <-results
			// Readers are served where only the cache was against it.
			served := got.err == io.EOF && errors.Is(tt.want, ErrBypass) && tt.name[0] == 'p'
			if len(got.got) != tt.have || !served && !errors.Is(got.err, tt.want) {
				t.Errorf("reader got %d bytes, %v", len(got.got), got.err)
			}
			r.Leave()
			if e, ok := c.Get(key(1)); ok {
				e.Close()
				t.Error("it became an entry")
			}
			if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) > 0 {
				t.Errorf("%d temporary files are left, %v", len(left), err)
			}
			if n := unlinkedUsage(os.Getpid(), dir); n > 0 {
				t.Errorf("%d bytes are still open", n)
			}
			checkIdle(t, c)
			if c.Stats().State == Ready {
				checkSize(t, c, dir)
			}
		})
	}
}

// TestFillOutlivesReaders has all leave, the one that began it first.
func TestFillOutlivesReaders(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir(), small)
	f, _ := c.Fill(key(1))
	f.Leave()
	r := c.Filling(key(1))
	r.Leave()
	if err := runFill(f, key(1), 1, 3<<20, true); err != nil {
		t.Fatal(err)
	}
	e, ok := c.Get(key(1))
	if !ok {
		t.Fatal("it is not there")
	}
	defer e.Close()
	if err := checkEntry(e, 100_000); err != nil {
		t.Error(err)
	}
}

// TestCommitAfterFailedWrite: a body with a hole must not become an entry,
// whatever its runner does.
func TestCommitAfterFailedWrite(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir(), Limits{MaxSize: 32 << 20, MaxObject: 5 << 20})
	f, _ := c.Fill(key(1))
	f.Start(Meta{Size: -1}, Freshness{})
	f.Write(make([]byte, 3<<20))
	if _, err := f.Write(make([]byte, 3<<20)); !errors.Is(err, ErrBypass) {
		t.Errorf("got %v", err)
	}
	f.Write(make([]byte, 100))
	if err := f.Commit(); !errors.Is(err, ErrBypass) {
		t.Errorf("got %v", err)
	}
	f.Leave()
	if _, ok := c.Get(key(1)); ok {
		t.Error("it became an entry")
	}
}

// TestCloseDuringFills closes a cache in full swing, and opens it again at
// once.
func TestCloseDuringFills(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round := range 8 {
		c := open(t, dir, small)
		var wg sync.WaitGroup
		closed := make(chan struct{})
		for w := range 6 {
			wg.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-closed:
						return
					default:
					}
					k := key(n % 50)
					if err := fill(c, k, round*10+w, n*1000%3_000_000, n%2 == 0); err != nil && !errors.Is(err, ErrBypass) {
						t.Error(err)
					}
					if e, ok := c.Get(k); ok {
						if err := checkEntry(e, 200_000); err != nil {
							t.Error(err)
						}
						e.Close()
					}
					c.PurgeKey(key(n % 7))
				}
			})
		}
		time.Sleep(60 * time.Millisecond)
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("Close hangs")
		}
		close(closed)
		wg.Wait()
		if n := len(openUnder(dir)); n > 0 {
			t.Errorf("%d files are still open: %v", n, openUnder(dir))
		}
		c = open(t, dir, small)
		checkSize(t, c, dir)
		if s := c.Stats(); s.Corrupt > 0 {
			t.Errorf("%+v", s)
		}
		c.Close()
	}
}

// openUnder is the files under dir that this process has open.
func openUnder(dir string) (names []string) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		name, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && strings.HasPrefix(name, dir+"/") {
			names = append(names, name)
		}
	}
	return names
}

// TestDescriptors: many entries cost no more than maxOpenFiles descriptors,
// and they are given back.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small) // no memory for them
	c.Resize(Limits{MaxSize: small.MaxSize})
	for n := range maxOpenFiles + 200 {
		if err := fill(c, key(n), 1, 10, true); err != nil {
			t.Fatal(err)
		}
	}
	for n := range maxOpenFiles + 200 {
		e, ok := c.Get(key(n))
		if !ok {
			t.Fatalf("%d is not there", n)
		}
		e.Close()
	}
	if n := len(openUnder(dir)); n > maxOpenFiles+1 {
		t.Errorf("%d files are open", n)
	}
	c.Purge(key(0).Group, nil)
	if n := len(openUnder(dir)); n != 1 {
		t.Errorf("%d files are open, the lock among them", n)
	}
	checkIdle(t, c)
	checkSize(t, c, dir)
}

// TestNoDescriptors: a process without a descriptor to spare has a disk that is
// well.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	if !isolated(t) {
		return
	}
	dir := t.TempDir()
	c := open(t, dir, Limits{MaxSize: 64 << 20})
	for n := range 10 {
		fill(c, key(n), 1, 100, true)
	}
	c.Close()
	c = open(t, dir, Limits{MaxSize: 64 << 20})
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	none := was
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, hit := c.Get(key(1))
	err := fill(c, key(20), 1, 100, true)
	n, purgeErr := c.Purge(key(0).Group, func(name string) bool { return name == "file3" })
	c.scrubAll(1 << 50)
	s := c.Stats()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if hit || !errors.Is(err, ErrBypass) || n > 0 || purgeErr == nil {
		t.Errorf("hit %t, fill %v, purged %d, %v", hit, err, n, purgeErr)
	}
	if s.State != Ready || s.Entries != 10 || s.DiskErrors > 0 {
		t.Errorf("%+v", s)
	}
	for n := range 10 {
		if e, ok := c.Get(key(n)); !ok {
			t.Errorf("%d is gone", n)
		} else {
			e.Close()
		}
	}
}

func TestFillOfClosed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	if err := fill(c, key(1), 1, 100, true); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := fill(c, key(2), 1, 100, true); !errors.Is(err, ErrBypass) {
		t.Errorf("got %v", err)
	}
	if _, ok := c.Get(key(1)); ok {
		t.Error("a closed cache serves")
	}
	// Its directory may be another's by now.
	_, err := c.PurgeKey(key(1))
	_, err2 := c.Purge(key(1).Group, nil)
	if _, stat := os.Stat(fileOf(dir, key(1))); err == nil || err2 == nil || stat != nil {
		t.Errorf("a closed cache purges: %v, %v, %v", err, err2, stat)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if s := fmt.Sprint(c.Stats().State); s != "closed" {
		t.Error(s)
	}
}

// TestBuffers: however many fills of small objects are under way, what they hold in
// memory is bounded; those beyond that are stored all the same.
func TestBuffers(t *testing.T) {
	c := open(t, t.TempDir(), Limits{MaxSize: 1 << 30})
	body := make([]byte, bufferedMax)
	var fills []*Fill
	for i := range 2 * maxBuffers / bufferedMax {
		f, begun := c.Fill(key(i))
		if !begun {
			t.Fatal("not begun")
		}
		if err := f.Start(Meta{Size: int64(len(body)), Validator: "1"}, Freshness{}); err != nil {
			t.Fatal(err)
		}
		fills = append(fills, f)
		if n := c.buffers.Load(); n > maxBuffers {
			t.Fatalf("%d bytes held, the bound is %d", n, maxBuffers)
		}
	}
	for i, f := range fills {
		if _, err := f.Write(body); err != nil {
			t.Fatal(err)
		}
		if err := f.Commit(); err != nil {
			t.Fatal(err)
		}
		f.Leave()
		e, ok := c.Get(key(i))
		if !ok {
			t.Fatalf("object %d is not stored", i)
		}
		e.Close()
	}
	if n := c.buffers.Load(); n != 0 {
		t.Errorf("%d bytes held after all fills", n)
	}
}

// TestDiscard: a fill that is outdated serves those who follow it, makes room for
// another at once, and is no entry, whichever of them ends first.
func TestDiscard(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, 3 << 20} {
		for _, last := range []string{"old", "new"} {
			t.Run(fmt.Sprint(size, " ", last), func(t *testing.T) {
				t.Parallel()
				c := open(t, t.TempDir(), small)
				begin := func(seed int) (*Fill, []byte) {
					t.Helper()
					body := random(size, uint64(seed))
					f, begun := c.Fill(key(1))
					if !begun {
						t.Fatal("it joins the fill that is outdated")
					}
					if err := f.Start(Meta{Size: int64(size)}, Freshness{Release: uint64(seed)}); err != nil {
						t.Fatal(err)
					}
					if got := f.Fresh().Release; got != uint64(seed) {
						t.Errorf("it is of release %d, want %d", got, seed)
					}
					if _, err := f.Write(body); err != nil {
						t.Fatal(err)
					}
					return f, body
				}
				old, oldBody := begin(1)
				old.Discard()
				f, body := begin(2)
				old.Discard() // by another
				end := []func(){
					func() {
						if err := old.Commit(); !errors.Is(err, ErrBypass) {
							t.Errorf("it is stored: %v", err)
						}
					},
					func() {
						if err := f.Commit(); err != nil {
							t.Error(err)
						}
					},
				}
				if last == "old" {
					slices.Reverse(end)
				}
				for _, fn := range end {
					fn()
				}
				for f, want := range map[*Fill][]byte{old: oldBody, f: body} {
					if got, err := readFill(t.Context(), f); err != io.EOF || !bytes.Equal(got, want) {
						t.Errorf("a reader got %d bytes of %d, %v", len(got), size, err)
					}
					f.Leave()
				}
				if got := get(t, c, key(1)); !bytes.Equal(got, body) {
					t.Errorf("the entry has %d bytes, want those of the second fill", len(got))
				}
				checkIdle(t, c)
			})
		}
	}
}

// TestDiscardedEndsWithCache: closing the cache ends also a fill that is outdated.
func TestDiscardedEndsWithCache(t *testing.T) {
	t.Parallel()
	c := open(t, t.TempDir(), small)
	f, _ := c.Fill(key(1))
	defer f.Leave()
	if err := f.Start(Meta{Size: 2000}, Freshness{}); err != nil {
		t.Fatal(err)
	}
	f.Discard()
	if n := c.Stats().Filling; n != 1 {
		t.Errorf("%d fills are under way, want 1", n)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 1000)); !errors.Is(err, ErrBypass) {
		t.Errorf("it goes on: %v", err)
	}
	f.Fail(ErrBypass)
}
