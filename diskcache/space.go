package diskcache

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// space counts the bytes that a cache has on disk, besides those of the
// records in its index.
type space struct {
	reserved int64 // by fills, written or not
	unbacked int64 // of those, perhaps not allocated on disk yet
	pinned   int64 // out of the index, but on disk until closed or unlinked
	overhead int64 // directories and the lock: the sum of what follows
	fixed    int64
	shards   [shards]int64
}

// onDisk is every byte that the cache has, or may have any moment, on disk.
// Needs mu.
func (c *Cache) onDisk() int64 {
	return c.index.bytes + c.space.reserved + c.space.pinned + c.space.overhead
}

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

func (d *dir) chargeOf(fi os.FileInfo) int64 {
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
	c.mu.Lock()
	defer c.mu.Unlock()
	// More than a few rounds mean that the file system does not give back
	// what is unlinked.
	for range 8 {
		short, err := c.shortage(n)
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
			return nil
		}
		if !c.evict(short) && !c.tidy() {
			break
		}
	}
	return fmt.Errorf("%w: %w for %d bytes", ErrBypass, errFull, n)
}

// shortage is how much is to be evicted before n more bytes may be written.
// It waits for an eviction under way, so that none is evicted twice for one
// need. Needs mu, and gives it up meanwhile.
func (c *Cache) shortage(n int64) (int64, error) {
	for c.evicting {
		c.idle.Wait()
	}
	short := c.onDisk() + n - c.limits.target()
	total, avail, err := c.dir.space()
	if err != nil {
		return 0, fmt.Errorf("looking at free space: %w", err)
	}
	if total == 0 { // it has no size, or does not tell
		return short, nil
	}
	return max(short, c.limits.MinFree.of(total)+c.space.unbacked+n-avail), nil
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

// evict removes the least recently used entries until n bytes are free. It
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
	for s := c.index.tail; s != none && n > 0 && len(batch) < evictBatch; {
		r := c.index.at(s)
		prev := r.prev
		e := c.open[r.id]
		_, peeked := c.peeks[r.id]
		if !peeked && !c.isBusy(r.id) && (e == nil || e.refs == 0) {
			n -= r.charge
			batch = append(batch, c.takeOut(s))
		}
		s = prev
	}
	return batch
}

// shrink evicts what is over the limits, if it is.
func (c *Cache) shrink() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.scanned || c.state == Bypass {
		return
	}
	c.tidy()
	short, err := c.shortage(0)
	if err != nil || short <= 0 {
		return
	}
	before := c.index.len()
	c.evict(min(short, c.index.bytes))
	if n := before - c.index.len(); n > evictBatch {
		c.log.Info("cache shrunk", zap.Int("entries", n), zap.Int64("size", c.onDisk()), zap.Int64("max_size", c.limits.MaxSize))
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
		if unix.Rmdir(d.shard(n)) == nil {
			empty = append(empty, n)
		}
	}
	c.mu.Lock()
	for _, n := range empty {
		c.measure(n)
	}
	return len(empty) > 0
}

// measure counts anew what directories have on disk: the shard, if n is not
// negative, and those that all files go through. Needs mu.
func (c *Cache) measure(n int) {
	s := &c.space
	fixed := c.dir.overhead()
	s.overhead += fixed - s.fixed
	s.fixed = fixed
	if n < 0 {
		return
	}
	size := onDisk(c.dir.shard(n))
	s.overhead += size - s.shards[n]
	s.shards[n] = size
}

// remeasure counts anew what the entries have on disk that were new at the
// time before: until a file system has written a file back, which takes it
// half a minute, it may come to use a block more or less for it.
func (c *Cache) remeasure() {
	c.mu.Lock()
	ids := c.settling
	c.settling, c.recent = c.recent, nil
	c.mu.Unlock()
	for _, i := range ids {
		c.mu.Lock()
		if slot, ok := c.index.find(i); ok && !c.isBusy(i) {
			if fi, err := os.Lstat(c.dir.object(i, c.index.at(slot).group)); err == nil {
				c.setCharge(slot, c.dir.chargeOf(fi))
			}
		}
		c.mu.Unlock()
	}
	for n := range shards {
		c.mu.Lock()
		c.measure(n)
		c.mu.Unlock()
	}
}

// setCharge corrects what an entry has on disk. Needs mu.
func (c *Cache) setCharge(slot int32, charge int64) {
	c.index.setCharge(slot, charge)
	if e := c.open[c.index.at(slot).id]; e != nil {
		e.charge = charge
	}
}
