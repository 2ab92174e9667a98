package diskcache

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// space counts the bytes that a cache has on disk, besides those of the
// records in its index.
type space struct {
	reserved int64 // by fills, written or not
	unbacked int64 // of those, perhaps not allocated on disk yet
	claimed  int64 // ever reserved
	pinned   int64 // out of the index, but on disk until closed or unlinked
	overhead int64 // directories and the lock: the sum of what follows
	fixed    directory
	shards   [shards]directory
	free     free
}

// directory is what a directory has on disk, and when that was measured.
type directory struct {
	bytes  int64
	ticket uint64
}

// free is what statfs(2) has told of the file system.
type free struct {
	at     time.Time // when it was asked
	total  int64     // 0 if it has no size, or does not tell
	avail  int64
	before int64 // of space.claimed, what is not among avail
}

// room is how much of the file system is free, at least: all that was reserved
// since it was asked may be taken by now. Needs mu.
func (s *space) room() int64 { return s.free.avail - (s.claimed - s.free.before) }

// onDisk is every byte that the cache has, or may have any moment, on disk.
// Needs mu.
func (c *Cache) onDisk() int64 {
	return c.total() + c.space.pinned + c.space.overhead
}

// total is the bytes of entries, and of those that fills are about to make.
// Needs mu.
func (c *Cache) total() int64 { return c.index.bytes + c.space.reserved }

// target is what onDisk is kept at. The rest of MaxSize is mostly for extent
// blocks that a file system needs until it has written a file back.
func (l Limits) target() int64 {
	return l.MaxSize - max(16*block, min(l.MaxSize/512, 4<<20))
}

const block = 4096

func roundUp(n int64) int64 { return (n + block - 1) &^ (block - 1) }

// nameCost is what a new name can add to directories: its shard, and a block
// of names in it.
const nameCost = 2 * block

// fileCost is what a file of n bytes may have on disk at most: its blocks, and
// the blocks that say where they are.
func fileCost(n int64) int64 {
	cost := roundUp(n) + nameCost
	if n > blockSize {
		cost += block + roundUp(n/(16<<10)) // an extent of 64 MiB, or worse
	}
	return cost
}

// charge is what a file has on disk: allocated blocks, and not less than its
// length asks for where the file system allocates late.
func (d *dir) charge(size, blocks int64) int64 {
	return max((size+d.block-1)/d.block*d.block, blocks*512)
}

func (d *dir) chargeOf(fi fs.FileInfo) int64 {
	var blocks int64
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		blocks = st.Blocks
	}
	return d.charge(fi.Size(), blocks)
}

// errFull says that there is no room and nothing to evict for it.
var errFull = errors.New("no room")

// reserve makes room for n bytes, for a fill that will write them.
func (c *Cache) reserve(n int64) error {
	since := time.Now().Add(-freeAge)
	c.mu.Lock()
	defer c.mu.Unlock()
	// More than a few rounds mean that the file system does not give back
	// what is unlinked.
	for range 8 {
		short, err := c.shortage(n, since)
		switch {
		case c.state == Bypass:
			return fmt.Errorf("%w: %w", ErrBypass, c.why)
		case c.state != Ready:
			return fmt.Errorf("%w: cache is %s", ErrBypass, c.state)
		case err != nil:
			return fmt.Errorf("%w: %w", ErrBypass, err)
		case c.onDisk() > c.limits.MaxSize:
			c.wake()
			return fmt.Errorf("%w: cache is shrinking", ErrBypass)
		case short <= 0:
			c.space.reserved += n
			c.space.unbacked += n
			c.space.claimed += n
			return nil
		}
		if !c.evict(short) && !c.tidy() {
			break
		}
		since = time.Now() // there is more room than was seen
	}
	return fmt.Errorf("%w: %w for %d bytes", ErrBypass, errFull, n)
}

// freeAge is how old a look at the free space may be. Others than the cache
// may have taken some of it meanwhile, as they may a moment later.
const freeAge = 100 * time.Millisecond

// shortage is how much is to be evicted before n more bytes may be written, by
// a look at the free space since then. It waits for an eviction under way, so
// that none is evicted twice for one need. Needs mu, and gives it up meanwhile.
func (c *Cache) shortage(n int64, since time.Time) (int64, error) {
	start := time.Now()
	for {
		switch {
		case c.evicting:
			c.idle.Wait()
			since = time.Now()
			continue
		case c.space.free.at.Before(since):
			if err := c.lookAtFree(); err != nil {
				return 0, err
			}
			continue
		}
		short := c.onDisk() + n - c.limits.target()
		if c.space.free.total == 0 {
			return short, nil
		}
		tight := c.limits.MinFree.of(c.space.free.total) + n - c.space.room()
		if tight > max(short, 0) && c.space.free.at.Before(start) {
			since = start // what was reserved since may be free again
			continue
		}
		return max(short, tight), nil
	}
}

// lookAtFree asks the file system what is free. Needs mu, and gives it up
// meanwhile.
func (c *Cache) lookAtFree() error {
	d, start := c.dir, time.Now()
	before := c.space.claimed - c.space.unbacked
	c.mu.Unlock()
	total, avail, err := d.space()
	c.mu.Lock()
	switch {
	case d != c.dir:
	case err != nil:
		return fmt.Errorf("looking at free space: %w", err)
	case c.space.free.at.Before(start):
		c.space.free = free{at: start, total: total, avail: avail, before: before}
	}
	return nil
}

// backed notes that n reserved bytes are allocated on disk.
func (c *Cache) backed(n int64) {
	c.mu.Lock()
	c.space.unbacked -= n
	c.mu.Unlock()
}

// unreserve gives a reservation back, of which unbacked bytes are not known to
// be allocated. Needs mu.
func (c *Cache) unreserve(n, unbacked int64) {
	c.space.reserved -= n
	c.space.unbacked -= unbacked
}

// evictBatch bounds how much is taken out of the index before it is unlinked.
const evictBatch = 64

// evict removes entries, see segment, until n bytes are free. It
// reports whether it has removed anything; it removes nothing if all of it
// would not do. Needs mu, and gives it up meanwhile.
func (c *Cache) evict(n int64) bool {
	for c.evicting {
		c.idle.Wait()
	}
	if n > c.index.bytes {
		return false
	}
	c.evicting = true
	defer func() {
		c.evicting = false
		c.idle.Broadcast()
	}()
	evicted := false
	for n > 0 {
		batch := c.victims(n)
		c.mu.Unlock()
		progress := false
		for _, rm := range batch {
			if c.remove(rm) != nil {
				continue
			}
			progress = true
			n -= rm.charge
			c.counters.evictions.Add(1)
			c.counters.evictedBytes.Add(uint64(rm.charge))
		}
		c.mu.Lock()
		if !progress {
			break
		}
		evicted = true
	}
	return evicted
}

// victims takes entries for n bytes out of the index. Those in use are left:
// to unlink them frees nothing now. Needs mu.
func (c *Cache) victims(n int64) (batch []removal) {
	if c.state == Closed {
		return nil
	}
	for oldest := c.index.oldest(); n > 0 && len(batch) < evictBatch; {
		s, ok := oldest.take(c.total())
		if !ok {
			break
		}
		r := c.index.at(s)
		e := c.open[r.id]
		_, peeked := c.peeks[r.id]
		if !peeked && !c.isBusy(r.id) && (e == nil || e.refs == 0) {
			n -= r.charge
			batch = append(batch, c.takeOut(s))
		}
	}
	return batch
}

// shrink evicts what is over the limits, if it is.
func (c *Cache) shrink() {
	c.mu.Lock()
	if !c.scanned || c.state == Bypass {
		c.mu.Unlock()
		return
	}
	c.tidy()
	before, n := c.index.len(), 0
	if short, err := c.shortage(0, time.Now()); err == nil && short > 0 {
		c.evict(min(short, c.index.bytes))
		n = before - c.index.len()
	}
	size, most := c.onDisk(), c.limits.MaxSize
	c.mu.Unlock()
	if n > evictBatch {
		c.log.Info("cache shrunk", zap.Int("entries", n), zap.Int64("size", size), zap.Int64("max_size", most))
	}
}

// tidy removes directories of shards without entries, if all directories are
// much of what the cache may have: those of an empty one take 4 MiB. It reports
// whether there were any. Needs mu, and gives it up meanwhile.
func (c *Cache) tidy() bool {
	d := c.dir
	if c.state == Closed || c.space.overhead < c.limits.target()/8 {
		return false
	}
	c.mu.Unlock()
	var empty []int
	for n := range shards {
		if sysRmdir(d.shard(n)) == nil {
			empty = append(empty, n)
		}
	}
	m := c.weigh(d, empty...)
	c.mu.Lock()
	c.apply(m)
	return len(empty) > 0
}

// measurement is what directories had on disk when they were looked at.
type measurement struct {
	dir    *dir
	ticket uint64
	fixed  int64
	shards []int
	sizes  []int64 // of shards
}

// weigh measures the directories that all files go through, and those of shards.
func (c *Cache) weigh(d *dir, shards ...int) measurement {
	m := measurement{dir: d, ticket: c.tickets.Add(1), fixed: d.overhead(), shards: shards}
	for _, n := range shards {
		m.sizes = append(m.sizes, sysAllocated(d.shard(n)))
	}
	return m
}

// apply counts what was measured, unless a measurement that began later is
// counted already. Needs mu.
func (c *Cache) apply(m measurement) {
	if m.dir != c.dir {
		return
	}
	count := func(d *directory, bytes int64) {
		if m.ticket > d.ticket {
			c.space.overhead += bytes - d.bytes
			*d = directory{bytes, m.ticket}
		}
	}
	count(&c.space.fixed, m.fixed)
	for i, n := range m.shards {
		count(&c.space.shards[n], m.sizes[i])
	}
}

// measure counts anew what directories have on disk, see weigh.
func (c *Cache) measure(d *dir, shards ...int) {
	m := c.weigh(d, shards...)
	c.mu.Lock()
	c.apply(m)
	c.mu.Unlock()
}

// allShards numbers them.
func allShards() []int {
	all := make([]int, shards)
	for n := range all {
		all[n] = n
	}
	return all
}

// remeasure counts anew what the entries have on disk that were new at the
// time before: until a file system has written a file back, which takes it
// half a minute, it may come to use a block more or less for it.
func (c *Cache) remeasure() {
	c.mu.Lock()
	d, ids := c.dir, c.settling
	c.settling, c.recent = c.recent, nil
	c.mu.Unlock()
	for _, i := range ids {
		c.remeasureEntry(i)
	}
	c.measure(d, allShards()...)
}

func (c *Cache) remeasureEntry(i id) {
	c.mu.Lock()
	slot, ok := c.index.find(i)
	if !ok {
		c.mu.Unlock()
		return
	}
	d, r := c.dir, *c.index.at(slot)
	c.mu.Unlock()
	fi, err := sysLstat(d.object(i, r.group))
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// Not if it was replaced, or is about to be.
	if slot, ok := c.index.find(i); ok && c.index.at(slot).gen == r.gen && !c.isBusy(i) {
		c.setCharge(slot, d.chargeOf(fi))
	}
}

// setCharge corrects what an entry has on disk. Needs mu.
func (c *Cache) setCharge(slot int32, charge int64) {
	c.index.setCharge(slot, charge)
	if e := c.open[c.index.at(slot).id]; e != nil {
		e.charge = charge
	}
}
