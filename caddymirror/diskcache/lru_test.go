package diskcache

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

// order is the cache's keys 0 to n-1 that are there, the protected ones first, and
// of those, and the others, the last used first.
func order(c *Cache, n int) (got []int) {
	names := map[id]int{}
	for k := range n {
		names[key(k).id()] = k
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, from := range []segment{protected, probation} {
		for s := c.index.segments[from].head; s != none; s = c.index.at(s).next {
			got = append(got, names[c.index.at(s).id])
		}
	}
	return got
}

// TestOrder compares the cache with a model of an LRU.
func TestOrder(t *testing.T) {
	t.Parallel()
	const keys, most = 120, 1 << 20
	dir := t.TempDir()
	limits := Limits{MaxSize: most, Memory: 100_000}
	c := open(t, dir, limits)
	r := rand.New(rand.NewPCG(1, 1))
	var model []int // the last used first
	use := func(k int) {
		model = slices.DeleteFunc(model, func(n int) bool { return n == k })
		model = slices.Insert(model, 0, k)
	}
	evicted := 0
	for step := range 1500 {
		k := r.IntN(keys)
		switch op := r.IntN(100); {
		case op < 55:
			if e, ok := c.Get(key(k)); ok {
				if op < 10 {
					e.Refresh(Freshness{At: time.Unix(int64(step), 0), Release: uint64(step)})
				}
				e.Close()
				if !slices.Contains(model, k) {
					t.Fatalf("step %d: got %d, which should be gone", step, k)
				}
				use(k)
			} else if slices.Contains(model, k) {
				t.Fatalf("step %d: %d is gone", step, k)
			}
		case op < 95:
			if err := fill(c, key(k), step, 1+r.IntN(30_000), op%2 == 0 || r.IntN(20) > 0); err != nil {
				continue
			}
			use(k)
			// Whatever went, it was the last.
			got := order(c, keys)
			evicted += len(model) - len(got)
			model = model[:len(got)]
		case op < 97:
			c.PurgeKey(key(k))
			model = slices.DeleteFunc(model, func(n int) bool { return n == k })
		case op < 98:
			c.save()
		default:
			c.Close()
			c = open(t, dir, limits)
		}
		if got := order(c, keys); !slices.Equal(got, model) {
			t.Fatalf("step %d: the order is %v,\nnot %v", step, got, model)
		}
	}
	if evicted < 150 {
		t.Errorf("only %d evictions", evicted)
	}
	checkIdle(t, c)
	checkSize(t, c, dir)
}

// TestRecencyAfterKill leaves a cache without Close: what save has written is
// what the next one knows.
func TestRecencyAfterKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	for n := range 10 {
		fill(c, key(n), 1, 100, true)
	}
	for _, n := range []int{3, 1, 4} {
		get(t, c, key(n))
	}
	e, _ := c.Get(key(7))
	fresh := Freshness{At: time.UnixMilli(1_234_567_890_123), Release: 42}
	e.Refresh(fresh)
	e.Close()
	c.save()
	want := order(c, 10)
	get(t, c, key(0)) // nobody will know
	abandon(c)

	c = open(t, dir, small)
	if got := order(c, 10); !slices.Equal(got, want) {
		t.Errorf("the order is %v, not %v", got, want)
	}
	e, _ = c.Get(key(7))
	defer e.Close()
	if got := e.Fresh(); !got.At.Equal(fresh.At) || got.Release != fresh.Release {
		t.Errorf("fresh is %v, not %v", got, fresh)
	}
}

// TestSaveWhileUsed saves while entries are used and validated: what is saved is
// never behind what the cache takes for saved.
func TestSaveWhileUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	const entries = 60
	for n := range entries {
		fill(c, key(n), 1, 100, true)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 8))
			for {
				select {
				case <-stop:
					return
				default:
				}
				if e, ok := c.Get(key(r.IntN(entries))); ok {
					if r.IntN(3) == 0 {
						e.Refresh(Freshness{At: time.UnixMilli(r.Int64N(1 << 40)), Release: r.Uint64()})
					}
					e.Close()
				}
				time.Sleep(time.Duration(r.IntN(100)) * time.Microsecond)
			}
		})
	}
	for range 200 {
		c.save()
	}
	close(stop)
	wg.Wait()
	c.save()
	c.mu.Lock()
	if len(c.unsaved) > 0 || c.index.saved < c.index.clock {
		t.Errorf("%d validations are not saved, nor uses of the last %d ns", len(c.unsaved), c.index.clock-c.index.saved)
	}
	c.mu.Unlock()
	want := order(c, entries)
	fresh := map[int]Freshness{}
	for n := range entries {
		c.mu.Lock()
		fresh[n] = c.hot[key(n)].Fresh()
		c.mu.Unlock()
	}
	abandon(c)
	c = open(t, dir, small)
	if got := order(c, entries); !slices.Equal(got, want) {
		t.Errorf("the order is %v,\nnot %v", got, want)
	}
	for n := range entries {
		e, ok := c.Get(key(n))
		if !ok {
			t.Fatalf("%d is not there", n)
		}
		if got := e.Fresh(); got.Release != fresh[n].Release {
			t.Errorf("%d was validated in release %d, not %d", n, got.Release, fresh[n].Release)
		}
		e.Close()
	}
}

// abandon ends a cache as a kill would, as far as files can tell.
func abandon(c *Cache) {
	c.mu.Lock()
	c.state = Closed
	c.mu.Unlock()
	close(c.stop)
	c.done.Wait()
	c.dir.close()
}

// TestClockStep has files from the future: what is used later is still later.
func TestClockStep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	for n := range 5 {
		fill(c, key(n), 1, 100, true)
	}
	c.Close()
	later := time.Now().Add(1000 * time.Hour)
	for n := range 5 {
		if err := os.Chtimes(fileOf(dir, key(n)), later, later.Add(time.Duration(n))); err != nil {
			t.Fatal(err)
		}
	}
	for _, used := range []int{0, 2} {
		c = open(t, dir, small)
		get(t, c, key(used))
		c.Close()
	}
	c = open(t, dir, small)
	if got := order(c, 5); !slices.Equal(got, []int{2, 0, 4, 3, 1}) {
		t.Errorf("the order is %v", got)
	}
}

// TestRefreshOfReplaced saves validations of entries that are replaced meanwhile: a
// validation must never end up at another version.
func TestRefreshOfReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Microsecond):
				c.save()
			}
		}
	})
	for version := 1; version <= 400; version++ {
		if err := fill(c, key(1), version, 100, true); err != nil {
			t.Fatal(err)
		}
		e, ok := c.Get(key(1))
		if !ok {
			t.Fatal("it is gone")
		}
		e.Refresh(Freshness{At: time.Now(), Release: uint64(version)})
		e.Close()
		if version%3 == 0 {
			fill(c, key(1), version+1000, 100, true)
			// As if it was never open.
			c.mu.Lock()
			e = c.open[key(1).id()]
			c.mu.Unlock()
			coolIdle(c, e)
			e, ok := c.Get(key(1))
			if !ok {
				t.Fatal("it is gone")
			}
			if got := e.Fresh().Release; got != uint64(version)+1000 {
				t.Fatalf("version %d was validated in release %d", version+1000, got)
			}
			e.Close()
		}
	}
	close(stop)
	wg.Wait()
	checkIdle(t, c)
}

func TestReadersKeepTheirVersion(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	limits := Limits{MaxSize: 24 << 20, Memory: 1 << 20}
	c := open(t, dir, limits)
	const size = 5<<20 + 77
	away := map[string]func() error{
		"replaced": func() error { return fill(c, key(1), 2, size, true) },
		"purged":   func() error { _, err := c.PurgeKey(key(1)); return err },
		"removed":  func() error { e, _ := c.Get(key(1)); e.Remove(); e.Close(); return nil },
		"closed": func() error {
			return c.Close()
		},
	}
	for _, how := range []string{"replaced", "purged", "removed", "closed"} {
		if err := fill(c, key(1), 1, size, true); err != nil {
			t.Fatal(err)
		}
		e, ok := c.Get(key(1))
		if !ok {
			t.Fatal("it is not there")
		}
		half := make([]byte, size/2)
		e.ReadAt(half, 0)
		before := c.Stats().Size
		if err := away[how](); err != nil {
			t.Fatal(err)
		}
		if n := c.Stats().Size; how != "closed" && n < size || how == "replaced" && n < before+size {
			t.Errorf("%s: what is being read no longer counts: %d, was %d", how, n, before)
		}
		if how != "closed" {
			// To fill the rest of the cache does not touch it either.
			for n := 10; n < 40; n++ {
				fill(c, key(n), 1, 1<<20, true)
			}
		}
		if err := checkEntry(e, 100_000); err != nil {
			t.Errorf("%s: %v", how, err)
		}
		if s := c.Stats(); s.Size > s.MaxSize {
			t.Errorf("%s: %d bytes of %d", how, s.Size, s.MaxSize)
		}
		e.Close()
		if how != "closed" {
			checkSize(t, c, dir)
			checkIdle(t, c)
		}
	}
}

// TestMemoryReaderPinsNothing: what is served from memory is off the disk as
// soon as its file is unlinked.
func TestMemoryReaderPinsNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, Limits{MaxSize: 24 << 20, Memory: 64 << 20})
	fill(c, key(1), 1, 900_000, true)
	e, _ := c.Get(key(1))
	defer e.Close()
	if e.Bytes() == nil {
		t.Fatal("it is not in memory")
	}
	c.PurgeKey(key(1))
	if err := checkEntry(e, 100_000); err != nil {
		t.Error(err)
	}
	checkSize(t, c, dir)
}

// TestScrubCounts: a file that the scrub has open beside its entry stays counted
// when it is unlinked meanwhile. Nor is it evicted: that would free nothing.
func TestScrubCounts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	const size = 3 << 20
	if err := fill(c, key(1), 1, size, true); err != nil {
		t.Fatal(err)
	}
	c.Close()
	c = open(t, dir, small)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.scrubAll(4 << 20) // takes most of a second
	}()
	within(t, "open", func() bool { return len(openUnder(dir)) > 1 })
	c.mu.Lock()
	c.evict(1)
	c.mu.Unlock()
	if c.Stats().Entries != 1 {
		t.Error("evicted what the scrub has open")
	}
	if n, err := c.PurgeKey(key(1)); n != 1 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	counted, unlinked := c.Stats().Size, unlinkedUsage(os.Getpid(), dir)
	if unlinked < size {
		t.Skip("the scrub was quicker")
	}
	if counted < unlinked {
		t.Errorf("counted %d bytes, %d are unlinked but open", counted, unlinked)
	}
	<-done
	checkSize(t, c, dir)
	checkIdle(t, c)
}

// TestEvictsNoMoreThanNeeded fills from many sides at once.
func TestEvictsNoMoreThanNeeded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const most = 8 << 20
	c := open(t, dir, Limits{MaxSize: most})
	var wg sync.WaitGroup
	least := int64(most)
	var mu sync.Mutex
	for w := range 8 {
		wg.Go(func() {
			for n := range 100 {
				if err := fill(c, key(w*1000+n), 1, 40_000, true); err != nil {
					t.Error(err)
				}
				if s := c.Stats(); s.Evictions > 0 {
					mu.Lock()
					least = min(least, s.Size)
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if least < most*8/10 {
		t.Errorf("at times there were only %d bytes of %d", least, int64(most))
	}
	// What cannot fit evicts nothing at all.
	before := c.Stats()
	for _, size := range []int64{most, most * 10, 1<<63 - 1, 1<<63 - 1 - headerLen} {
		f, _ := c.Fill(key(1))
		if err := f.Start(Meta{Size: size}, Freshness{}); err == nil {
			t.Errorf("began to fill %d bytes", size)
		}
		f.Fail(errShort)
		f.Leave()
	}
	if s := c.Stats(); s.Entries != before.Entries {
		t.Errorf("%+v, before %+v", s, before)
	}
	checkIdle(t, c)
	checkSize(t, c, dir)
}

// TestSmallest: in a small cache the directories must not take the room of the
// entries.
func TestSmallest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, Limits{MaxSize: minMaxSize})
	for n := range 1500 {
		if err := fill(c, key(n), 1, 1000, true); err != nil {
			t.Fatalf("%d: %v", n, err)
		}
		if n%500 == 0 {
			checkSize(t, c, dir)
		}
	}
	if s := c.Stats(); s.Size > s.MaxSize {
		t.Errorf("%+v", s)
	}
	c.Resize(Limits{MaxSize: 64 << 20})
	for n := range 1500 {
		if err := fill(c, key(n), 1, 1000, true); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Purge(key(1).Group, nil); err != nil {
		t.Error(err)
	}
	c.Resize(Limits{MaxSize: minMaxSize})
	if err := fill(c, key(1), 1, 1000, true); err != nil && !errors.Is(err, ErrBypass) {
		t.Error(err)
	}
	within(t, "shrunk", func() bool { return c.Stats().Size < minMaxSize/2 })
	if err := fill(c, key(1), 1, 1000, true); err != nil {
		t.Error(err)
	}
	checkSize(t, c, dir)
	checkIdle(t, c)
}

func TestResize(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, Limits{MaxSize: 32 << 20, Memory: 8 << 20})
	for n := range 24 {
		if err := fill(c, key(n), 1, 1<<20-n, true); err != nil {
			t.Fatal(err)
		}
	}
	var reading []*Entry
	for n := 20; n < 24; n++ {
		e, ok := c.Get(key(n))
		if !ok {
			t.Fatalf("%d is not there", n)
		}
		reading = append(reading, e)
	}
	want := order(c, 24)
	if err := c.Resize(Limits{MaxSize: 8 << 20}); err != nil {
		t.Fatal(err)
	}
	within(t, "shrunk", func() bool { return c.Stats().Size <= 8<<20 })
	got := order(c, 24)
	if len(got) < 6 || !slices.Equal(got, want[:len(got)]) {
		t.Errorf("left is %v of %v", got, want)
	}
	for _, e := range reading {
		if err := checkEntry(e, 300_000); err != nil {
			t.Error(err)
		}
		e.Close()
	}
	if s := c.Stats(); s.Memory != 0 {
		t.Errorf("%d bytes in memory, which has none", s.Memory)
	}
	checkSize(t, c, dir)
	c.Close()

	// Over-full at the start.
	c = open(t, dir, Limits{MaxSize: 2 << 20, Memory: 8 << 20})
	if s := c.Stats(); s.Size > 2<<20 || s.Entries == 0 {
		t.Errorf("%+v", s)
	}
	checkSize(t, c, dir)
	for _, bad := range []Limits{{}, {MaxSize: 1}, {MaxSize: 1 << 30, Memory: -1}, {MaxSize: 1 << 30, MinFree: Free{Percent: 100}}} {
		if err := c.Resize(bad); err == nil {
			t.Errorf("resized to %+v", bad)
		}
	}
}

// within waits for something to come true.
func within(t testing.TB, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s in time", what)
		}
	}
}

// TestMemoryOfMetadata fills objects whose metadata is much more than their bodies.
func TestMemoryOfMetadata(t *testing.T) {
	t.Parallel()
	const memory, pad = 4 << 20, 40_000
	dir := t.TempDir()
	l := Limits{MaxSize: 64 << 20, Memory: memory}
	c := open(t, dir, l)
	check := func() {
		t.Helper()
		c.mu.Lock()
		n := c.inMemory.len
		c.mu.Unlock()
		if n < memory/pad/2 || n > memory/pad {
			t.Errorf("%d of them are in memory", n)
		}
		checkIdle(t, c)
	}
	for n := range 300 {
		f, _ := c.Fill(key(n))
		m := Meta{Size: 1, Header: map[string][]string{"X-Pad": {strings.Repeat("p", pad)}}}
		err := f.Start(m, Freshness{})
		if err == nil {
			f.Write([]byte("x"))
			err = f.Commit()
		}
		f.Leave()
		if err != nil {
			t.Fatal(err)
		}
	}
	check()
	c.Close()
	c = open(t, dir, l)
	for n := range 300 {
		get(t, c, key(n))
	}
	check()
}

func TestMemoryBound(t *testing.T) {
	t.Parallel()
	const memory = 3 << 20
	c := open(t, t.TempDir(), Limits{MaxSize: 64 << 20, Memory: memory})
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range 6 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 2))
			var held []*Entry
			for {
				select {
				case <-stop:
					for _, e := range held {
						e.Close()
					}
					return
				default:
				}
				k := key(r.IntN(300))
				if r.IntN(3) == 0 {
					fill(c, k, w, r.IntN(60_000), r.IntN(4) > 0)
				} else if e, ok := c.Get(k); ok {
					if err := checkEntry(e, 1<<20); err != nil {
						t.Error(err)
					}
					held = append(held, e)
				}
				if len(held) > 5 {
					held[0].Close()
					held = held[1:]
				}
			}
		})
	}
	most := int64(0)
	for range 400 {
		time.Sleep(time.Millisecond)
		most = max(most, c.Stats().Memory)
	}
	if most > memory || most < memory/2 {
		t.Errorf("at most %d bytes in memory, the limit is %d", most, memory)
	}
	c.Resize(Limits{MaxSize: 64 << 20})
	close(stop)
	wg.Wait()
	if s := c.Stats(); s.Memory != 0 {
		t.Errorf("%d bytes in memory, which has none", s.Memory)
	}
	checkIdle(t, c)
}

// TestScanning looks at what can be had while a directory is being read.
func TestScanning(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, small)
	for n := range 20 {
		fill(c, key(n), 1, 20_000, true)
	}
	c.Close()
	flip(t, fileOf(dir, key(5)), -1)

	// A cache whose scan has listed the directory, but not told yet.
	c, err := Open(dir, small, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	await(t, c, Ready)
	var all []found
	for n := range shards {
		part, _, err := c.dir.readShard(n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, part...)
	}
	slices.SortFunc(all, func(a, b found) int { return int(b.used - a.used) })
	c.mu.Lock()
	c.forget()
	c.state = Scanning
	c.mu.Unlock()

	if e, ok := c.Get(key(1)); !ok || checkEntry(e, 1000) != nil {
		t.Error("a hit has to wait for the scan")
	} else {
		e.Close()
	}
	if _, ok := c.Get(key(5)); ok {
		t.Error("a corrupt entry is served")
	}
	e, ok := c.Get(key(6))
	if !ok {
		t.Fatal("not there")
	}
	e.Remove()
	e.Close()
	if err := fill(c, key(100), 1, 100, true); err == nil {
		t.Error("filled while scanning")
	}
	purged := make(chan int)
	go func() {
		n, err := c.Purge(key(0).Group, func(name string) bool { return name == "file7" || name == "file8" })
		if err != nil {
			t.Error(err)
		}
		m, err := c.PurgeKey(key(9))
		if err != nil {
			t.Error(err)
		}
		purged <- n + m
	}()
	time.Sleep(50 * time.Millisecond)
	c.adopt(all, time.Now())
	for n := range shards {
		c.measure(c.dir, n)
	}
	c.becomeReady()
	if n := <-purged; n != 3 {
		t.Errorf("purged %d entries of 3", n)
	}
	if s := c.Stats(); s.Entries != 20-5 || s.State != Ready {
		t.Errorf("%+v", s)
	}
	for n := range 20 {
		e, ok := c.Get(key(n))
		if ok != (n < 5 || n > 9) {
			t.Errorf("%d is there: %t", n, ok)
		}
		if ok {
			e.Close()
		}
	}
	checkIdle(t, c)
	checkSize(t, c, dir)
}

// TestShrinkUnderFill makes a cache smaller than what is being filled: the fill
// gives way, and its readers know to go elsewhere.
func TestShrinkUnderFill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := open(t, dir, Limits{MaxSize: 64 << 20})
	f, _ := c.Fill(key(1))
	if err := f.Start(Meta{Size: 32 << 20}, Freshness{}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := c.Resize(Limits{MaxSize: 8 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadAt(t.Context(), make([]byte, 1), 2<<20); !errors.Is(err, ErrBypass) {
		t.Errorf("a reader gets %v", err)
	}
	_, err := f.Write(make([]byte, 1<<20))
	if !errors.Is(err, ErrBypass) {
		t.Errorf("the runner gets %v", err)
	}
	f.Fail(err)
	f.Leave()
	within(t, "small", func() bool { return c.Stats().Size < 8<<20 && diskUsage(t, dir) < 8<<20 })
	if err := fill(c, key(2), 1, 1<<20, true); err != nil {
		t.Error(err)
	}
}

// TestForeignDirectory: a directory that somebody else uses is left as it is.
func TestForeignDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "thesis"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, small, zap.NewNop()); err == nil || !strings.Contains(err.Error(), "thesis") {
		t.Errorf("got %v", err)
	}
	fi, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if names, _ := filepath.Glob(dir + "/*"); len(names) != 1 || fi.Mode().Perm() != 0o755 {
		t.Errorf("it is %v and holds %q", fi.Mode(), names)
	}
	if err := os.Rename(filepath.Join(dir, "thesis"), filepath.Join(dir, "lost+found")); err != nil {
		t.Fatal(err)
	}
	c, err := Open(dir, small, zap.NewNop()) // a file system of its own
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestLargestInMemory: a 64th of the memory is for one body, whatever its metadata.
func TestLargestInMemory(t *testing.T) {
	t.Parallel()
	const memory = 4 << 20
	c := open(t, t.TempDir(), Limits{MaxSize: 64 << 20, Memory: memory})
	for size, want := range map[int]bool{memory / 64: true, memory/64 + 1: false} {
		f, _ := c.Fill(key(size))
		err := f.Start(Meta{Size: int64(size), Header: map[string][]string{"X-Pad": {strings.Repeat("p", 2000)}}}, Freshness{})
		if err == nil {
			f.Write(make([]byte, size))
			err = f.Commit()
		}
		f.Leave()
		if err != nil {
			t.Fatal(err)
		}
		e, ok := c.Get(key(size))
		if !ok {
			t.Fatal("it is not there")
		}
		if got := e.Bytes() != nil; got != want {
			t.Errorf("a body of %d bytes: in memory is %v", size, got)
		}
		e.Close()
	}
}
