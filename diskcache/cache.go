package diskcache

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// State of a cache.
type State string

const (
	// Scanning: the directory is being read. Entries are served, nothing is
	// filled yet.
	Scanning State = "scanning"
	// Ready is the ordinary state.
	Ready State = "ready"
	// Bypass: the disk is in trouble. What can be read is served, nothing is
	// filled until the disk is well again.
	Bypass State = "bypass"
	// Closed after Close.
	Closed State = "closed"
)

// ErrBypass says that an object cannot be cached, now or at all, for reasons
// that are no concern of whoever wants its bytes: they can be had from the
// origin.
var ErrBypass = errors.New("not cached")

// Cache is a cache directory in use. Its methods are safe for concurrent use.
type Cache struct {
	log *zap.Logger

	stop  chan struct{} // closed by Close
	kick  chan struct{} // wakes the maintainer
	first chan struct{} // closed after the first scan
	done  sync.WaitGroup

	born     uint64        // where temps began
	temps    atomic.Uint64 // names of temporary files
	counters counters
	quiet    quiet

	// mu guards what follows. It is a leaf: nothing is locked, and nothing
	// slower than statfs(2) or the close of a linked file is waited for,
	// while it is held.
	//
	// Invariants:
	//   - onDisk() <= limits.MaxSize, but after a resize or a scan until
	//     enough is evicted; nothing is reserved meanwhile.
	//   - hot and open hold the same entries; each has a record, and slot is
	//     the record's.
	//   - Whoever renames to or unlinks the file of an id has it in busy.
	mu       sync.Mutex
	idle     sync.Cond // signalled when busy shrinks
	dir      *dir
	limits   Limits
	state    State
	why      error // of Bypass
	scanned  bool  // index knows all files
	index    *index
	open     map[id]*Entry
	hot      map[Key]*Entry
	inMemory entryList // open entries whose body is in memory, by use
	onFile   entryList // open entries with a file, by use
	memory   int64     // bytes of bodies in memory
	unsaved  map[id]unsaved
	fills    map[Key]*Fill
	busy     map[id]struct{}
	space    space
}

// counters are what Stats counts.
type counters struct {
	hits, memoryHits, misses            atomic.Uint64
	fills, stored, discarded, bypassed  atomic.Uint64
	evictions, evictedBytes             atomic.Uint64
	corrupt, troubles, scrubbed, purged atomic.Uint64
}

// unsaved is a validation that the entry's file does not tell of yet.
type unsaved struct {
	group uint32
	Freshness
}

// Open takes the directory at path, makes it if it is not there, and begins
// to read it. It fails with an *InUseError if another process has it.
func Open(path string, limits Limits, log *zap.Logger) (*Cache, error) {
	if err := limits.validate(); err != nil {
		return nil, err
	}
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("cache directory %s is not an absolute path", path)
	}
	d, err := openDir(path)
	if err != nil {
		return nil, err
	}
	c := &Cache{
		log:    log,
		stop:   make(chan struct{}),
		kick:   make(chan struct{}, 1),
		first:  make(chan struct{}),
		quiet:  quiet{last: map[string]time.Time{}},
		dir:    d,
		limits: limits,
		state:  Scanning,
		fills:  map[Key]*Fill{},
		busy:   map[id]struct{}{},
	}
	c.idle.L = &c.mu
	c.born = uint64(time.Now().UnixNano())
	c.temps.Store(c.born)
	c.forget()
	c.done.Go(c.maintain)

	// A small cache is ready when Open returns; a large one is read meanwhile.
	select {
	case <-c.first:
	case <-time.After(scanPatience):
	}
	return c, nil
}

const scanPatience = 250 * time.Millisecond

// forget empties the index, as if the directory were empty. Readers keep what
// they have open. Needs mu.
func (c *Cache) forget() {
	for _, e := range c.open {
		c.detach(e)
	}
	c.index = newIndex()
	c.open = map[id]*Entry{}
	c.hot = map[Key]*Entry{}
	c.unsaved = map[id]unsaved{}
	c.scanned = false
	c.space.overhead = 0
	c.space.shards = [shards]int64{}
}

// Close ends the cache's work and gives up the directory. Entries in use stay
// readable. Fills under way fail with ErrBypass.
func (c *Cache) Close() error {
	c.mu.Lock()
	if c.state == Closed {
		c.mu.Unlock()
		return nil
	}
	c.state = Closed
	fills := make([]*Fill, 0, len(c.fills))
	for _, f := range c.fills {
		fills = append(fills, f)
	}
	c.mu.Unlock()
	for _, f := range fills {
		f.fail(fmt.Errorf("%w: cache is closed", ErrBypass))
	}
	close(c.stop)
	c.done.Wait()
	c.save()

	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.busy) > 0 {
		c.idle.Wait()
	}
	for _, e := range c.open {
		c.detach(e)
	}
	return c.dir.close()
}

// Get finds the entry of key. The caller must Close it.
func (c *Cache) Get(key Key) (*Entry, bool) {
	c.mu.Lock()
	e := c.hot[key]
	if e == nil {
		c.mu.Unlock()
		return c.getCold(key)
	}
	c.use(e)
	c.mu.Unlock()
	c.counters.hits.Add(1)
	if e.body != nil {
		c.counters.memoryHits.Add(1)
	}
	return e, true
}

// use takes a reference for a reader. Needs mu.
func (c *Cache) use(e *Entry) {
	e.refs++
	c.index.touch(e.slot, time.Now().UnixNano())
	e.list.toFront(e)
}

// getCold finds an entry that is not open.
func (c *Cache) getCold(key Key) (*Entry, bool) {
	e, err := c.openEntry(key)
	if err == nil {
		c.counters.hits.Add(1)
		return e, true
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errCorrupt) {
		c.trouble("reading an entry", err)
	}
	c.counters.misses.Add(1)
	return nil, false
}

func (c *Cache) openEntry(key Key) (*Entry, error) {
	i, group := key.id(), groupID(key.Group)
	c.mu.Lock()
	slot, known := c.index.find(i)
	var gen uint32
	var verified bool
	if known {
		r := c.index.at(slot)
		gen, verified = r.gen, r.verified
	}
	_, busy := c.busy[i]
	if !known && (c.scanned || busy) || c.state == Closed {
		c.mu.Unlock()
		return nil, fs.ErrNotExist
	}
	d := c.dir
	c.mu.Unlock()

	f, contents, fi, err := openFile(d.object(i, group), &key, i)
	if err == nil {
		var e *Entry
		if e, err = newEntry(c, f, contents, verified); err == nil {
			return c.admit(e, gen, known, charge(fi))
		}
		f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errCorrupt) {
		c.drop(i, group, gen, err)
	}
	return nil, err
}

// admit makes an entry that was just opened known, unless someone else was
// first or its file has been replaced or removed meanwhile.
func (c *Cache) admit(e *Entry, gen uint32, known bool, charge int64) (*Entry, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.hot[e.key]; other != nil {
		c.reject(e)
		c.use(other)
		return other, nil
	}
	slot, ok := c.index.find(e.id)
	_, busy := c.busy[e.id]
	switch {
	case busy, c.state == Closed,
		ok && known && c.index.at(slot).gen != gen,
		!ok && (known || c.scanned):
		c.reject(e)
		return nil, fs.ErrNotExist
	case !ok: // found before the scan did
		slot = c.index.insert(record{id: e.id, group: groupID(e.key.Group), used: time.Now().UnixNano(), charge: charge}, true)
	}
	c.makeHot(e, slot)
	c.use(e)
	c.trimFiles()
	return e, nil
}

// reject gives up an entry that was opened in vain. Needs mu.
func (c *Cache) reject(e *Entry) {
	c.memory -= e.memoryCost()
	e.discard()
}

// makeHot puts an entry among the open ones. Needs mu.
func (c *Cache) makeHot(e *Entry, slot int32) {
	e.slot = slot
	e.charge = c.index.at(slot).charge
	if u, ok := c.unsaved[e.id]; ok {
		e.fresh.Store(&u.Freshness)
	}
	c.open[e.id] = e
	c.hot[e.key] = e
	if e.body != nil {
		e.list = &c.inMemory
	} else {
		e.list = &c.onFile
	}
	e.list.pushFront(e)
}

// maxOpenFiles is how many files are kept open that nobody reads just now.
const maxOpenFiles = 512

// takeMemory makes room in memory for n bytes of a body, and reports whether
// there is some. Needs mu.
func (c *Cache) takeMemory(n int64) bool {
	if n > min(c.limits.Memory/64, bufferedMax)+entryCost {
		return false
	}
	c.trimMemory(n)
	if c.memory+n > c.limits.Memory {
		return false
	}
	c.memory += n
	return true
}

// trimMemory closes idle entries until memory has room for n bytes. Needs mu.
func (c *Cache) trimMemory(n int64) {
	for e := c.inMemory.back; e != nil && c.memory+n > c.limits.Memory; {
		prev := e.prev
		if e.refs == 0 {
			c.cool(e)
		}
		e = prev
	}
}

// trimFiles closes idle entries beyond maxOpenFiles. Needs mu.
func (c *Cache) trimFiles() {
	for e := c.onFile.back; e != nil && c.onFile.len > maxOpenFiles; {
		prev := e.prev
		if e.refs == 0 {
			c.cool(e)
		}
		e = prev
	}
}

// cool closes an entry that nobody uses; its record stays. Needs mu.
func (c *Cache) cool(e *Entry) {
	if e.unverified.Load() == 0 {
		c.index.at(e.slot).verified = true
	}
	c.unlist(e)
	c.memory -= e.memoryCost()
	e.discard()
}

// unlist takes an entry out of the open ones. Needs mu.
func (c *Cache) unlist(e *Entry) {
	delete(c.open, e.id)
	delete(c.hot, e.key)
	e.list.remove(e)
	e.slot = none
}

// detach parts an entry from its record: its file is replaced, removed or no
// longer ours. What it has on disk and in memory stays counted until its last
// reader is gone. Needs mu.
func (c *Cache) detach(e *Entry) {
	c.unlist(e)
	c.space.pinned += e.charge
	if e.refs == 0 {
		c.freed(e)
		e.discard()
	}
}

// freed no longer counts a detached entry. Needs mu.
func (c *Cache) freed(e *Entry) {
	c.space.pinned -= e.charge
	c.memory -= e.memoryCost()
}

// unuse gives a reference back.
func (c *Cache) unuse(e *Entry) {
	c.mu.Lock()
	e.refs--
	last := e.refs == 0 && e.slot == none
	if e.refs == 0 && !last {
		c.trimMemory(0) // after a resize
	}
	c.mu.Unlock()
	if !last {
		return
	}
	// To close the last descriptor of a large unlinked file takes a while.
	e.discard()
	c.mu.Lock()
	c.freed(e)
	c.mu.Unlock()
}

// removal is an entry that has left the index and whose file is to follow.
type removal struct {
	id     id
	group  uint32
	gen    uint32
	charge int64
	entry  *Entry // if it was open; holds a reference
}

// takeOut begins the removal of an entry. Its bytes stay counted until
// c.remove has unlinked the file and its last reader is gone. Needs mu.
func (c *Cache) takeOut(slot int32) removal {
	r := c.index.at(slot)
	rm := removal{id: r.id, group: r.group, gen: r.gen, charge: r.charge, entry: c.open[r.id]}
	if rm.entry != nil {
		rm.entry.refs++
		c.detach(rm.entry)
	} else {
		c.space.pinned += rm.charge
	}
	c.index.remove(slot)
	delete(c.unsaved, rm.id)
	c.busy[rm.id] = struct{}{}
	return rm
}

// remove ends a removal.
func (c *Cache) remove(rm removal) error {
	c.mu.Lock()
	d := c.dir
	c.mu.Unlock()
	err := d.remove(rm.id, rm.group)

	c.mu.Lock()
	delete(c.busy, rm.id)
	c.idle.Broadcast()
	if rm.entry == nil {
		c.space.pinned -= rm.charge
	}
	if err != nil && d == c.dir && rm.charge > 0 {
		// It is still there, and counts.
		if rm.entry != nil {
			c.space.pinned -= rm.charge
			rm.entry.charge = 0
		}
		c.index.insert(record{id: rm.id, group: rm.group, gen: rm.gen + 1, charge: rm.charge}, false)
	}
	c.mu.Unlock()
	if rm.entry != nil {
		c.unuse(rm.entry)
	}
	return err
}

// drop removes an entry that is missing or corrupt, unless it has been
// replaced since (gen).
func (c *Cache) drop(i id, group, gen uint32, why error) {
	corrupt := errors.Is(why, errCorrupt)
	c.mu.Lock()
	if _, busy := c.busy[i]; busy || c.state == Closed {
		c.mu.Unlock()
		return
	}
	rm := removal{id: i, group: group, gen: gen}
	slot, ok := c.index.find(i)
	switch {
	case ok && c.index.at(slot).gen != gen:
		c.mu.Unlock()
		return
	case ok:
		rm = c.takeOut(slot)
	case !corrupt:
		c.mu.Unlock()
		return
	default:
		c.busy[i] = struct{}{}
	}
	path := c.dir.object(i, group)
	c.mu.Unlock()

	if corrupt {
		c.counters.corrupt.Add(1)
		c.log.Warn("removing a corrupt entry", zap.String("file", path), zap.Error(why))
	}
	if err := c.remove(rm); err != nil {
		c.trouble("removing an entry", err)
	}
}
