package diskcache

import (
	"fmt"
	"hash/crc32"
	"io"
	"sync"
	"sync/atomic"
)

// Entry is an object in the cache, being used. It stays readable until it is
// closed, whatever becomes of it in the cache. Its methods are safe for
// concurrent use.
type Entry struct {
	c       *Cache
	key     Key
	id      id
	size    int64 // of the body
	current atomic.Pointer[Current]
	body    []byte   // the whole body, if it is in memory
	file    *sysFile // else
	bodyOff int64

	// Of a body in a file: what its blocks must be, and have been found to be.
	sums       []uint32
	verified   []atomic.Bool // by block
	unverified atomic.Int64

	// Guarded by Cache.mu.
	slot       int32 // of its record, none when detached
	unsavable  bool  // the file has older metadata, and keeps it: see Update
	refs       int
	charge     int64
	list       *entryList
	prev, next *Entry
}

// newEntry is the entry of an opened file. A small body is taken into memory,
// if that has room.
func newEntry(c *Cache, f *sysFile, contents *contents) (*Entry, error) {
	e := &Entry{
		c:       c,
		key:     contents.meta.Key,
		id:      contents.meta.Key.id(),
		size:    contents.meta.Size,
		file:    f,
		bodyOff: contents.bodyOff,
		slot:    none,
	}
	e.current.Store(&Current{Meta: &contents.meta.Meta, Fresh: contents.fresh})
	e.sums = contents.sums
	e.verified = make([]atomic.Bool, len(e.sums))
	e.unverified.Store(int64(len(e.sums)))
	c.mu.Lock()
	fits := c.takeMemory(e.size, e.loadedCost())
	c.mu.Unlock()
	if !fits {
		return e, nil
	}
	if err := e.load(contents.sums); err != nil {
		c.mu.Lock()
		c.memory -= e.loadedCost()
		c.mu.Unlock()
		return nil, err
	}
	return e, nil
}

// load takes the body into memory, and is done with the file.
func (e *Entry) load(sums []uint32) error {
	body := make([]byte, e.size)
	if _, err := e.file.ReadAt(body, e.bodyOff); err != nil && len(body) > 0 {
		return readError(err)
	}
	for n, want := range sums {
		if crc32.Checksum(blockOf(body, n), castagnoli) != want {
			return fmt.Errorf("%w: block %d", errCorrupt, n)
		}
	}
	e.unverified.Store(0)
	e.file.Close()
	e.body, e.file = body, nil
	return nil
}

func blockOf(body []byte, n int) []byte {
	return body[n*blockSize : min((n+1)*blockSize, len(body))]
}

// Key of the entry.
func (e *Entry) Key() Key { return e.key }

// Bytes is the whole body if it is in memory, else nil. It must not be
// changed, nor used after Close.
func (e *Entry) Bytes() []byte { return e.body }

// ReadAt reads from the body, after it has verified the blocks that it reads
// from. An error that is not io.EOF means that the rest must be had from
// elsewhere.
func (e *Entry) ReadAt(p []byte, off int64) (int, error) {
	if off >= e.size {
		return 0, io.EOF
	}
	var eof error
	if rest := e.size - off; int64(len(p)) >= rest {
		p, eof = p[:rest], io.EOF
	}
	if e.body != nil {
		return copy(p, e.body[off:]), eof
	}
	if err := e.verify(off, int64(len(p))); err != nil {
		return 0, err
	}
	n, err := e.file.ReadAt(p, e.bodyOff+off)
	if err != nil {
		err = readError(err)
		e.bad(err)
		return n, err
	}
	return n, eof
}

var blockBuffers = sync.Pool{New: func() any { return new([blockSize / 4]byte) }}

// verify makes sure that the blocks that hold n bytes at off are what was
// written.
func (e *Entry) verify(off, n int64) error {
	if n == 0 || e.unverified.Load() == 0 {
		return nil
	}
	for b := off / blockSize; b <= (off+n-1)/blockSize; b++ {
		if e.verified[b].Load() {
			continue
		}
		if err := e.verifyBlock(b); err != nil {
			e.bad(err)
			return err
		}
		if e.verified[b].CompareAndSwap(false, true) {
			e.unverified.Add(-1)
		}
	}
	return nil
}

func (e *Entry) verifyBlock(b int64) error {
	sum, err := sumBlock(e.file, e.bodyOff, e.size, b)
	if err != nil {
		return readError(err)
	}
	if sum != e.sums[b] {
		return fmt.Errorf("%w: block %d", errCorrupt, b)
	}
	return nil
}

// sumBlock is the checksum of a block of a body as it is in the file.
func sumBlock(f io.ReaderAt, bodyOff, size, b int64) (sum uint32, err error) {
	buf := blockBuffers.Get().(*[blockSize / 4]byte)
	defer blockBuffers.Put(buf)
	off, end := b*blockSize, min((b+1)*blockSize, size)
	for off < end {
		p := buf[:min(int64(len(buf)), end-off)]
		if _, err := f.ReadAt(p, bodyOff+off); err != nil {
			return 0, err
		}
		sum = crc32.Update(sum, castagnoli, p)
		off += int64(len(p))
	}
	return sum, nil
}

// bad removes the entry from the cache: its file could not be read, or is not
// what was written.
func (e *Entry) bad(why error) {
	e.c.mu.Lock()
	slot := e.slot
	var group, gen uint32
	if slot != none {
		r := e.c.index.at(slot)
		group, gen = r.group, r.gen
	}
	e.c.mu.Unlock()
	if slot == none {
		return
	}
	e.c.drop(e.id, group, gen, fmt.Errorf("%w: %w", errCorrupt, why))
}

// Remove takes the entry out of the cache; it stays readable until Close.
func (e *Entry) Remove() {
	c := e.c
	c.mu.Lock()
	if _, busy := c.busy[e.id]; busy || e.slot == none || c.state == Closed {
		c.mu.Unlock()
		return
	}
	rm := c.takeOut(e.slot)
	c.mu.Unlock()
	_ = c.remove(rm) // which tells
}

// Hit counts a request that was answered with the entry, for [Stats].
func (e *Entry) Hit() {
	n := &e.c.counters
	n.hits.Add(1)
	if e.body != nil {
		n.memoryHits.Add(1)
	}
}

// Close ends the use of the entry.
func (e *Entry) Close() { e.c.unuse(e) }

// memoryCost is what the entry counts against Limits.Memory.
func (e *Entry) memoryCost() int64 {
	if e.body == nil {
		return 0
	}
	return e.loadedCost()
}

// loadedCost is the memoryCost of the entry with its body in memory. Metadata is
// mostly as long as in the file.
func (e *Entry) loadedCost() int64 { return e.bodyOff + e.size + entryCost }

// entryCost is about what an open entry has in memory besides body and metadata.
const entryCost = 1024

// discard closes the file.
func (e *Entry) discard() {
	if e.file != nil {
		e.file.Close()
	}
}

// entryList is a list of open entries in order of use.
type entryList struct {
	front, back *Entry
	len         int
}

func (l *entryList) pushFront(e *Entry) {
	e.prev, e.next = nil, l.front
	if l.front != nil {
		l.front.prev = e
	} else {
		l.back = e
	}
	l.front = e
	l.len++
}

func (l *entryList) remove(e *Entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		l.front = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		l.back = e.prev
	}
	e.prev, e.next = nil, nil
	l.len--
}

func (l *entryList) toFront(e *Entry) {
	if l.front != e {
		l.remove(e)
		l.pushFront(e)
	}
}
