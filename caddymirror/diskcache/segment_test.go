package diskcache

import (
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// zipf draws numbers below n, the first ones most often.
type zipf struct {
	r   *rand.Rand
	sum []float64
}

func newZipf(r *rand.Rand, n int, alpha float64) *zipf {
	z := &zipf{r: r, sum: make([]float64, n)}
	total := 0.0
	for i := range z.sum {
		total += math.Pow(float64(i+1), -alpha)
		z.sum[i] = total
	}
	return z
}

func (z *zipf) next() int {
	return sort.SearchFloat64s(z.sum, z.r.Float64()*z.sum[len(z.sum)-1])
}

// crowd is clients and a crawler of one cache, in a time of their own.
type crowd struct {
	t       *testing.T
	c       *Cache
	clients *zipf
	body    []byte
}

func crawlKey(n int) Key { return Key{"/tree", "file" + strconv.Itoa(n)} }

// ask gets an object, from the cache or else into it.
func (w *crowd) ask(n int) (hit bool) {
	w.t.Helper()
	k := crawlKey(n)
	if e, ok := w.c.Get(k); ok {
		e.Close()
		return true
	}
	f, _ := w.c.Fill(k)
	defer f.Leave()
	// 1 to 64 KiB, most of them small.
	r := rand.New(rand.NewPCG(uint64(n), 1))
	size := 1024 << r.IntN(6)
	size += r.IntN(size)
	err := f.Start(Meta{Size: int64(size)}, Freshness{})
	if err == nil {
		_, err = f.Write(w.body[:size])
	}
	if err != nil {
		f.Fail(err)
		w.t.Error(err)
	} else if err := f.Commit(); err != nil {
		w.t.Error(err)
	}
	return false
}

// requests has clients ask for n objects, four a second, each of them preceded by
// what also asks. It returns the ratio of hits, in percent.
func (w *crowd) requests(n int, also func()) float64 {
	hits := 0
	for range n {
		also()
		if w.ask(w.clients.next()) {
			hits++
		}
		time.Sleep(250 * time.Millisecond)
	}
	return 100 * float64(hits) / float64(n)
}

// TestCrawl: a crawler that fetches everything once, four times as often as all
// clients together ask for anything, does not evict what they use. A plain LRU
// beside it shows what it would.
func TestCrawl(t *testing.T) {
	t.Parallel()
	const (
		objects = 1500 // that clients ask for
		tree    = 4000 // that the crawler gets, those among them
		rate    = 4
		most    = 12 << 20 // directories take a third of it
		warm    = 3000
	)
	type ratios struct{ before, during, after float64 }
	measure := func(name string, oneUse time.Duration) (got ratios) {
		synctest.Test(t, func(t *testing.T) {
			dir := inMemory(t)
			c := open(t, dir, Limits{MaxSize: most})
			c.mu.Lock()
			c.index.oneUse = oneUse
			c.mu.Unlock()
			w := &crowd{t, c, newZipf(rand.New(rand.NewPCG(3, 4)), objects, 0.9), make([]byte, 64<<10)}
			none := func() {}
			w.requests(warm, none)
			got.before = w.requests(1500, none)
			todo := rand.New(rand.NewPCG(5, 6)).Perm(tree)
			evicted := c.Stats().EvictedBytes
			got.during = w.requests(tree/rate, func() {
				for _, n := range todo[:rate] {
					w.ask(n)
				}
				todo = todo[rate:]
			})
			evicted = c.Stats().EvictedBytes - evicted
			got.after = w.requests(500, none)
			t.Logf("%-14s hits before %.1f%%, during %.1f%%, after %.1f%% of a crawl that evicts %.1f times the cache's size",
				name+":", got.before, got.during, got.after, float64(evicted)/most)
			if evicted < 3*most {
				t.Error("the crawl is too small to show anything")
			}
			checkIdle(t, c)
			checkSize(t, c, dir)
			c.Close()
		})
		return got
	}
	lru := measure("plain LRU", math.MaxInt64/2)
	got := measure("segmented LRU", oneUse)
	if got.before < lru.before-1 {
		t.Errorf("without a crawl it has %.1f%% hits, a plain LRU %.1f%%", got.before, lru.before)
	}
	if got.during < got.before-8 || got.after < got.before-4 {
		t.Errorf("hits fall from %.1f%% to %.1f%%, and to %.1f%% after the crawl", got.before, got.during, got.after)
	}
	if lru.during > got.during-10 {
		t.Errorf("a plain LRU does as well: %.1f%% and %.1f%%", lru.during, got.during)
	}
}

// segmentOf is where an entry is.
func segmentOf(t *testing.T, c *Cache, k Key) segment {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	slot, ok := c.index.find(k.id())
	if !ok {
		t.Fatalf("%v is not there", k)
	}
	return c.index.at(slot).segment
}

// TestSecondUse: what one client does with an object is one use of it.
func TestSecondUse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := open(t, t.TempDir(), small)
		want := func(doing string, k Key, s segment) {
			t.Helper()
			if got := segmentOf(t, c, k); got != s {
				t.Errorf("after %s: segment %d, want %d", doing, got, s)
			}
		}
		fill(c, key(1), 1, 1000, true)
		for range 25 {
			get(t, c, key(1))
			time.Sleep(2 * time.Second)
		}
		e, _ := c.Get(key(1))
		e.Refresh(Freshness{At: time.Now()})
		e.Close()
		want("many ranges and a validation", key(1), probation)
		time.Sleep(oneUse)
		want("a while", key(1), probation)
		get(t, c, key(1))
		want("a second use", key(1), protected)
		fill(c, key(1), 2, 3000, true)
		want("a new version", key(1), protected)

		const size = 32 << 20
		if err := fill(c, key(2), 1, size, true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(oneUse + 10*time.Second)
		get(t, c, key(2))
		want("a minute of 32 MiB", key(2), probation)
		time.Sleep(30 * time.Second)
		get(t, c, key(2))
		want("more time than they take", key(2), protected)
		c.Close()
	})
}

// TestProtected: protected entries leave room for new ones, also in a cache that
// has become smaller, and after a restart.
func TestProtected(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := open(t, dir, Limits{MaxSize: 16 << 20})
		const size, n = 100_000, 150
		share := func(doing string) {
			t.Helper()
			c.mu.Lock()
			defer c.mu.Unlock()
			have, total := c.index.segments[protected].bytes, c.total()
			if have > protectable(total)+2*size || have < total/2 {
				t.Errorf("after %s: %d bytes of %d are protected", doing, have, total)
			}
		}
		for k := range n {
			fill(c, key(k), 1, size, true)
		}
		time.Sleep(2 * time.Minute)
		for k := range n {
			get(t, c, key(k))
		}
		share("all were used")
		// The last ones are protected; the first ones were, and would be again.
		first, last := segmentOf(t, c, key(0)), segmentOf(t, c, key(n-1))
		if first != probation || last != protected {
			t.Errorf("the first is in segment %d, the last in %d", first, last)
		}
		get(t, c, key(0))
		if segmentOf(t, c, key(0)) != protected {
			t.Error("one that was protected before has to be used twice again")
		}
		// A new one is evicted by others that are new.
		for k := range 100 {
			fill(c, key(1000+k), 1, size, true)
		}
		share("new ones came")
		if _, ok := c.index.find(key(1000).id()); ok {
			t.Error("100 others have not evicted a new entry")
		}
		before := order(c, 2000)
		c.Close()
		c = open(t, dir, Limits{MaxSize: 16 << 20})
		if got := order(c, 2000); !slices.Equal(got, before) {
			t.Errorf("the order after a restart is %v,\nnot %v", got, before)
		}
		share("a restart")

		// A kill: what was saved is known.
		time.Sleep(time.Hour)
		got := order(c, 2000)
		back := got[len(got)-1]
		get(t, c, key(back))
		c.save()
		before = order(c, 2000)
		fill(c, key(3000), 1, 10, true)
		abandon(c)
		c = open(t, dir, Limits{MaxSize: 16 << 20})
		if got := order(c, 2000); !slices.Equal(slices.DeleteFunc(got, func(k int) bool { return k == 0 }), slices.DeleteFunc(before, func(k int) bool { return k == 0 })) {
			t.Errorf("the order after a kill is %v,\nnot %v", got, before)
		}
		if segmentOf(t, c, key(back)) != protected || segmentOf(t, c, key(3000)) != probation {
			t.Error("a kill loses segments")
		}

		if err := c.Resize(Limits{MaxSize: 8 << 20}); err != nil {
			t.Fatal(err)
		}
		within(t, "small", func() bool { return c.Stats().Size <= 8<<20 })
		share("a resize")
		for k := range 10 {
			fill(c, key(4000+k), 1, size, true)
		}
		for k := range 10 {
			if get(t, c, key(4000+k)) == nil {
				t.Errorf("new entry %d is gone at once", k)
			}
		}
		checkIdle(t, c)
		checkSize(t, c, dir)
		c.Close()
	})
}

// TestMarks: the segment is in the file's mode, and is not taken from elsewhere.
func TestMarks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := open(t, dir, small)
		mode := func(k Key, want os.FileMode) {
			t.Helper()
			fi, err := os.Stat(fileOf(dir, k))
			if err != nil {
				t.Fatal(err)
			}
			if fi.Mode() != want {
				t.Errorf("%s: mode is %v, want %v", filepath.Base(fileOf(dir, k)), fi.Mode(), want)
			}
		}
		for n := range 4 {
			fill(c, key(n), 1, 1<<20, true)
		}
		mode(key(1), modeFile)
		time.Sleep(time.Hour)
		get(t, c, key(1))
		c.save()
		mode(key(1), modeProtected)
		fill(c, key(1), 2, 1<<20, true) // has a new file
		mode(key(1), modeFile)
		c.save()
		mode(key(1), modeProtected)
		for _, n := range []int{2, 3, 0} {
			get(t, c, key(n))
		}
		c.save()
		mode(key(0), modeProtected)
		mode(key(1), modeFile) // had to give way
		checkIdle(t, c)
		c.Close()
	})
}
