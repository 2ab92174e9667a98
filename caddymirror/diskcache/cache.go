package diskcache

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
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
	tickets  atomic.Uint64 // of measurements
	counters counters
	buffers  atomic.Int64 // bytes that fills of small objects hold in memory
	quiet    quiet
	turns    *turns
	saving   sync.Mutex // held by save, which takes mu

	// mu guards what follows. While it is held nothing else is locked but
	// Fill.mu and quiet.mu, the file system is not called (see sys.go), and
	// nothing is logged: a hit in memory waits for nothing slower than memory.
	//
	// Invariants:
	//   - onDisk() <= limits.MaxSize, but after a resize or a scan until
	//     enough is evicted; nothing is reserved meanwhile.
	//   - hot and open hold the same entries; each has a record, and slot is
	//     the record's.
	//   - Whoever renames to or unlinks the file of an id has it in busy; dir
	//     does not change meanwhile.
	//   - Nobody reads the metadata in the file of rewriting: who is about to
	//     waits, before its peek, and it is not set while others peek.
	mu        mutex
	idle      sync.Cond // signalled when busy shrinks, or evicting, rewriting or Scanning ends
	dir       *dir
	limits    Limits
	state     State
	why       error // of Bypass
	told      bool  // the log has it
	scanned   bool  // index knows all files
	index     *index
	open      map[id]*Entry
	hot       map[Key]*Entry
	inMemory  entryList // open entries whose body is in memory, by use
	onFile    entryList // open entries with a file, by use
	memory    int64     // bytes of bodies in memory
	unsaved   map[id]unsaved
	changed   []id // all that are in unsaved, and perhaps others
	rewriting id   // whose file is being written to; or zero
	fills     map[Key]*Fill
	outdated  map[*Fill]struct{} // under way, and not in fills any more: see Discard
	busy      map[id]struct{}
	peeks     map[id]peek
	gone      map[id]struct{} // removed while the scan goes on
	recent    []id            // new since the last remeasure
	settling  []id            // new since the one before
	litter    []*file         // temporary files that are to be removed
	evicting  bool
	space     space

	unsavedMeta int64 // bytes of metadata in unsaved
	mostUnsaved int64 // of them; see maxUnsaved
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
		log:      log,
		stop:     make(chan struct{}),
		kick:     make(chan struct{}, 1),
		first:    make(chan struct{}),
		turns:    newTurns(limits.Fills),
		quiet:    quiet{last: map[string]time.Time{}},
		dir:      d,
		limits:   limits,
		state:    Scanning,
		fills:    map[Key]*Fill{},
		outdated: map[*Fill]struct{}{},
		busy:     map[id]struct{}{},
		peeks:    map[id]peek{},

		mostUnsaved: maxUnsaved,
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

// forget empties the index. Readers keep what they have open; what nobody reads
// is returned, with a reference. Needs mu.
func (c *Cache) forget() (idle []*Entry) {
	for _, e := range c.open {
		if e.refs == 0 {
			e.refs++
			idle = append(idle, e)
		}
		c.detach(e)
	}
	gens := c.index.gens
	c.index = newIndex()
	c.index.gens = gens
	c.open = map[id]*Entry{}
	c.hot = map[Key]*Entry{}
	c.unsaved, c.changed, c.unsavedMeta = map[id]unsaved{}, nil, 0
	c.gone = map[id]struct{}{}
	c.recent, c.settling = nil, nil
	c.scanned = false
	c.space.overhead, c.space.fixed, c.space.shards = 0, directory{}, [shards]directory{}
	c.space.free = free{}
	return idle
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
	fills := c.underWay()
	c.mu.Unlock()
	for _, f := range fills {
		f.fail(fmt.Errorf("%w: cache is closed", ErrBypass))
	}
	c.turns.close()
	close(c.stop)
	c.done.Wait()
	c.save()

	c.mu.Lock()
	c.quiesce()
	idle, d := c.forget(), c.dir
	c.mu.Unlock()
	for _, e := range idle {
		c.unuse(e)
	}
	d.close()
	return nil
}

// underWay is all fills. Needs mu.
func (c *Cache) underWay() []*Fill {
	return slices.AppendSeq(slices.Collect(maps.Values(c.fills)), maps.Keys(c.outdated))
}

// quiesce waits until no file is being renamed or unlinked. Needs mu.
func (c *Cache) quiesce() {
	for len(c.busy) > 0 {
		c.idle.Wait()
	}
}

// Get finds the entry of key. The caller must Close it. That it was of use is
// counted by [Entry.Hit], since not each look is a request's.
func (c *Cache) Get(key Key) (*Entry, bool) {
	c.mu.Lock()
	e := c.hot[key]
	if e == nil {
		c.mu.Unlock()
		return c.getCold(key)
	}
	c.use(e)
	c.mu.Unlock()
	return e, true
}

// use takes a reference for a reader. Needs mu.
func (c *Cache) use(e *Entry) {
	e.refs++
	c.index.touch(e.slot, c.total())
	e.list.toFront(e)
}

// getCold finds an entry that is not open.
func (c *Cache) getCold(key Key) (*Entry, bool) {
	e, err := c.openEntry(key)
	if err == nil {
		return e, true
	}
	if !isGone(err) && !errors.Is(err, errCorrupt) {
		_ = c.failed("reading an entry", err)
	}
	return nil, false
}

func (c *Cache) openEntry(key Key) (*Entry, error) {
	i, group := key.id(), groupID(key.Group)
	c.mu.Lock()
	for c.rewriting == i {
		c.idle.Wait()
	}
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
			return c.admit(e, d, r.gen, fi)
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
func (c *Cache) admit(e *Entry, d *dir, gen uint32, fi fs.FileInfo) (*Entry, error) {
	defer c.unpeek(e.id)
	charge, mark := d.chargeOf(fi), markOf(fi.Mode())
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
		slot = c.index.insert(record{id: e.id, group: groupID(e.key.Group), charge: charge, segment: mark, marked: mark})
	default:
		c.index.setCharge(slot, charge)
	}
	c.makeHot(e, slot)
	c.use(e)
	idle := c.trimFiles()
	c.mu.Unlock()
	c.shut(idle)
	return e, nil
}

// reject gives up an entry that was opened in vain. Needs mu, and gives it up.
func (c *Cache) reject(e *Entry) {
	c.memory -= e.memoryCost()
	c.mu.Unlock()
	e.discard()
}
