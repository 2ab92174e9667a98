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

	temps    atomic.Uint64 // names of temporary files
	counters counters
	quiet    quiet

	// mu guards what follows. While it is held nothing else is locked but
	// Fill.mu and quiet.mu, and nothing slower is waited for than statfs(2)
	// or the close of a linked file.
	//
	// Invariants:
	//   - onDisk() <= limits.MaxSize, but after a resize or a scan until
	//     enough is evicted; nothing is reserved meanwhile.
	//   - hot and open hold the same entries; each has a record, and slot is
	//     the record's.
	//   - Whoever renames to or unlinks the file of an id has it in busy; dir
	//     does not change meanwhile.
	mu       sync.Mutex
	idle     sync.Cond // signalled when busy shrinks, evicting ends, or Scanning does
	dir      *dir
	limits   Limits
	state    State
	why      error // of Bypass
	told     bool  // the log has it
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
	peeks    map[id]peek
	gone     map[id]struct{} // removed while the scan goes on
	recent   []id            // new since the last remeasure
	settling []id            // new since the one before
	litter   []*file         // temporary files that are to be removed
	evicting bool
	space    space
}

// peek is of those who have the file of an id open beside its entry.
type peek struct {
	n     int
	bytes int64 // pinned until they are through
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
	group, gen uint32
	Freshness
}

// Open takes the directory at path, makes it if it is not there, and begins
// to read it. It fails with an *InUseError if another process has it.
func Open(path string, limits Limits, log *zap.Logger) (*Cache, error) {
	if err := limits.Validate(); err != nil {
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
		peeks:  map[id]peek{},
	}
	c.idle.L = &c.mu
	// Not the names of a cache that was here before: its fills may still end.
	c.temps.Store(uint64(time.Now().UnixNano()))
	c.index = newIndex()
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

// forget empties the index. Readers keep what they have open. Needs mu.
func (c *Cache) forget() {
	for _, e := range c.open {
		c.detach(e)
	}
	gens := c.index.gens
	c.index = newIndex()
	c.index.gens = gens
	c.open = map[id]*Entry{}
	c.hot = map[Key]*Entry{}
	c.unsaved = map[id]unsaved{}
	c.gone = map[id]struct{}{}
	c.recent, c.settling = nil, nil
	c.scanned = false
	c.space.overhead, c.space.fixed, c.space.shards = 0, 0, [shards]int64{}
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
	c.idle.Broadcast()
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
	c.quiesce()
	c.forget()
	return c.dir.close()
}

// quiesce waits until no file is being renamed or unlinked. Needs mu.
func (c *Cache) quiesce() {
	for len(c.busy) > 0 {
		c.idle.Wait()
	}
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
	c.index.touch(e.slot)
	e.list.toFront(e)
}

// getCold finds an entry that is not open.
func (c *Cache) getCold(key Key) (*Entry, bool) {
	e, err := c.openEntry(key)
	if err == nil {
		c.counters.hits.Add(1)
		return e, true
	}
	if !isGone(err) && !errors.Is(err, errCorrupt) {
		_ = c.failed("reading an entry", err)
	}
	c.counters.misses.Add(1)
	return nil, false
}

func (c *Cache) openEntry(key Key) (*Entry, error) {
	i, group := key.id(), groupID(key.Group)
	c.mu.Lock()
	slot, known := c.index.find(i)
	if c.state == Closed || c.isBusy(i) || !known && c.scanned {
		c.mu.Unlock()
		return nil, fs.ErrNotExist
	}
	var r record
	if known {
		r = *c.index.at(slot)
	}
	d := c.dir
	c.peek(i)
	c.mu.Unlock()

	f, contents, fi, err := openFile(d.object(i, group), &key, i)
	if err == nil {
		var e *Entry
		if e, err = newEntry(c, f, contents); err == nil {
			return c.admit(e, d, r.gen, d.chargeOf(fi))
		}
		f.Close()
	}
	c.unpeek(i)
	if isGone(err) || errors.Is(err, errCorrupt) {
		c.drop(i, group, r.gen, err)
	}
	return nil, err
}

// admit makes an entry that was just opened known, unless someone else was
// first or its file has been replaced or removed meanwhile. gen is its
// record's, 0 if it had none yet.
func (c *Cache) admit(e *Entry, d *dir, gen uint32, charge int64) (*Entry, error) {
	defer c.unpeek(e.id)
	c.mu.Lock()
	if other := c.hot[e.key]; other != nil {
		c.use(other)
		c.reject(e)
		return other, nil
	}
	slot, ok := c.index.find(e.id)
	_, gone := c.gone[e.id]
	switch {
	case c.state == Closed, d != c.dir, c.isBusy(e.id), gone,
		ok && gen != 0 && c.index.at(slot).gen != gen,
		!ok && (gen != 0 || c.scanned):
		c.reject(e)
		return nil, fs.ErrNotExist
	case !ok: // found before the scan did
		slot = c.index.insert(record{id: e.id, group: groupID(e.key.Group), charge: charge})
	default:
		c.index.setCharge(slot, charge)
	}
	c.makeHot(e, slot)
	c.use(e)
	c.trimFiles()
	c.mu.Unlock()
	return e, nil
}

// reject gives up an entry that was opened in vain. Needs mu, and gives it up.
func (c *Cache) reject(e *Entry) {
	c.memory -= e.memoryCost()
	c.mu.Unlock()
	e.discard()
}

// peek tells that the file of an id is about to be opened. If it is unlinked
// meanwhile, its bytes stay counted until unpeek. Needs mu.
func (c *Cache) peek(i id) {
	p := c.peeks[i]
	p.n++
	c.peeks[i] = p
}

// unpeek tells that the file is closed again, or that an entry has it.
func (c *Cache) unpeek(i id) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peeks[i]
	p.n--
	if p.n > 0 {
		c.peeks[i] = p
		return
	}
	delete(c.peeks, i)
	c.space.pinned -= p.bytes
}

// unpin no longer counts n bytes of a file that is unlinked, unless someone
// peeks. Needs mu.
func (c *Cache) unpin(i id, n int64) {
	p, ok := c.peeks[i]
	if !ok {
		c.space.pinned -= n
		return
	}
	p.bytes += n
	c.peeks[i] = p
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
	if e.file == nil {
		e.charge = 0
	}
	c.space.pinned += e.charge
	if e.refs == 0 {
		e.discard()
		c.freed(e)
	}
}

// freed no longer counts a detached entry. Needs mu.
func (c *Cache) freed(e *Entry) {
	c.unpin(e.id, e.charge)
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
	record
	entry  *Entry // if it was open; holds a reference
	pinned int64  // what is counted until the file is unlinked
}

// takeOut begins the removal of an entry. Its bytes stay counted until
// c.remove has unlinked the file and its last reader is gone. Needs mu.
func (c *Cache) takeOut(slot int32) removal {
	r := *c.index.at(slot)
	rm := removal{record: r, entry: c.open[r.id], pinned: r.charge}
	if e := rm.entry; e != nil {
		e.refs++
		c.detach(e)
		rm.pinned -= e.charge
	}
	c.space.pinned += rm.pinned
	c.index.remove(slot)
	delete(c.unsaved, r.id)
	c.begin(r.id)
	return rm
}

// begin makes an id busy, for a removal. Needs mu.
func (c *Cache) begin(i id) {
	c.busy[i] = struct{}{}
	if !c.scanned {
		c.gone[i] = struct{}{}
	}
}

// remove ends a removal.
func (c *Cache) remove(rm removal) error {
	err := c.dir.remove(rm.id, rm.group) // busy holds dir
	if err != nil && c.trouble("removing an entry", err) {
		rm.used = 0 // let others be evicted first
	}

	c.mu.Lock()
	delete(c.busy, rm.id)
	c.idle.Broadcast()
	if err != nil && rm.live {
		// It is still there, and counts.
		c.space.pinned -= rm.pinned
		if e := rm.entry; e != nil {
			c.space.pinned -= e.charge
			e.charge = 0
		}
		c.index.insert(rm.record)
	} else {
		c.unpin(rm.id, rm.pinned)
	}
	c.mu.Unlock()
	if rm.entry != nil {
		c.unuse(rm.entry)
	}
	return err
}

// drop removes an entry that is missing or corrupt, unless it has been
// replaced since. gen is its record's, 0 if it had none yet.
func (c *Cache) drop(i id, group, gen uint32, why error) {
	corrupt := errors.Is(why, errCorrupt)
	c.mu.Lock()
	slot, ok := c.index.find(i)
	rm := removal{record: record{id: i, group: group}}
	switch {
	case c.state == Closed, c.isBusy(i),
		ok && c.index.at(slot).gen != gen,
		!ok && (gen != 0 || c.scanned || !corrupt):
		c.mu.Unlock()
		return
	case ok:
		rm = c.takeOut(slot)
	default:
		c.begin(i)
	}
	path := c.dir.object(i, group)
	c.mu.Unlock()

	if corrupt {
		c.counters.corrupt.Add(1)
		c.grumble("removing a corrupt entry", why, zap.String("file", path))
	}
	_ = c.remove(rm) // which tells
}
