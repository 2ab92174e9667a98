package diskcache

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// file is the file of an entry in the making.
type file struct {
	c       *Cache
	key     Key
	meta    Meta
	fresh   Freshness
	head    []byte // encoded metadata
	entry   *Entry // once it is one
	dir     *dir
	f       *sysFile // for writing, until it is an entry's
	r       *sysFile // for reading, if that is asked for
	path    string
	cost    int64 // reserved for it
	pending int64 // of that, not known to be allocated
}

// create makes the temporary file, with room reserved for a body of size
// bytes.
func (t *file) create(size int64) error {
	t.c.mu.Lock()
	t.dir = t.c.dir
	t.c.mu.Unlock()
	if err := t.reserve(fileCost(fileLen(int64(len(t.head)), size))); err != nil {
		return err
	}
	t.path = t.dir.temp(t.c.temps.Add(1))
	err := t.c.whenFull(block, func() (err error) {
		t.f, err = sysOpen(t.path, os.O_RDWR|os.O_CREATE|os.O_EXCL, modeFile)
		return err
	})
	if err != nil {
		t.path = "" // nothing to remove
		return t.c.failed("creating a cache file", err)
	}
	return nil
}

// reserve adds to what is reserved for the file.
func (t *file) reserve(n int64) error {
	if err := t.c.reserve(n); err != nil {
		t.c.grumble("cannot cache", err)
		return err
	}
	t.cost += n
	t.pending += n
	return nil
}

// allocate has the file system set n bytes aside, so that the disk cannot
// fill up under the fill, and the file lies in few pieces.
func (t *file) allocate(n int64) error {
	err := t.c.whenFull(t.pending, func() error { return t.f.allocate(n) })
	switch {
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		return nil // the writes will show
	case err != nil:
		return t.c.failed("allocating a cache file", err)
	}
	t.c.backed(t.pending)
	t.pending = 0
	return nil
}

func (t *file) writeAt(p []byte, off int64) error {
	err := t.c.whenFull(int64(len(p)), func() error {
		_, err := t.f.WriteAt(p, off)
		return err
	})
	if err != nil {
		return t.c.failed("writing a cache file", err)
	}
	return nil
}

// finish writes what makes the file an entry's, and gives it its name.
func (t *file) finish(f *Fill, size int64, sums []uint32, body []byte) error {
	if err := t.writeAt(encodeSums(sums), headerLen+int64(len(t.head))+size); err != nil {
		return err
	}
	if err := t.writeAt(encodeHeader(t.head, size, t.fresh), 0); err != nil {
		return err
	}
	if err := t.f.Truncate(fileLen(int64(len(t.head)), size)); err != nil {
		return t.c.failed("writing a cache file", err)
	}
	fi, err := t.f.Stat()
	if err != nil {
		return t.c.failed("writing a cache file", err)
	}
	charge := t.dir.chargeOf(fi)
	if over := charge + nameCost - t.cost; over > 0 {
		// More pieces than fileCost expects.
		if err := t.reserve(over); err != nil {
			return err
		}
	}
	return t.install(f, size, charge, body)
}

// install makes the finished file the entry of its key, in place of the one
// that was.
func (t *file) install(f *Fill, size, charge int64, body []byte) error {
	c, i, group := t.c, t.key.id(), groupID(t.key.Group)

	c.mu.Lock()
	for c.isBusy(i) {
		c.idle.Wait()
	}
	if err := t.refusal(f); err != nil {
		c.mu.Unlock()
		return err
	}
	c.begin(i)
	c.peek(i) // t.f may be closed after the entry is gone again
	c.mu.Unlock()
	defer c.unpeek(i)

	e := &Entry{c: c, key: t.key, id: i, size: size, bodyOff: headerLen + int64(len(t.head)), refs: 1}
	t.meta.Size = size
	e.current.Store(&Current{Meta: &t.meta, Fresh: t.fresh})
	err := c.whenFull(block, func() error { return t.dir.rename(t.path, i, group) })
	if err == nil {
		t.become(e, body, t.dir.object(i, group))
	}
	m := c.weigh(t.dir, shardOf(i))
	c.mu.Lock()
	delete(c.busy, i)
	c.idle.Broadcast()
	if err != nil {
		c.mu.Unlock()
		return c.failed("naming a cache file", err)
	}
	t.path = ""
	slot, old := c.replace(record{id: i, group: group, charge: charge})
	c.makeHot(e, slot)
	t.entry = e
	// Not before the entry is there: a purge looks for it, or for the fill.
	purged := f.discarded
	if c.fills[t.key] == f {
		delete(c.fills, t.key)
	}
	c.apply(m)
	c.unreserve(t.cost, t.pending)
	t.cost, t.pending = 0, 0
	idle := c.trimFiles()
	c.mu.Unlock()

	c.shut(idle)
	if e.file != t.f {
		t.f.Close()
	}
	if old != nil {
		c.unuse(old)
	}
	if purged {
		e.Remove()
		return errPurged
	}
	return nil
}

var errPurged = fmt.Errorf("%w: purged meanwhile", ErrBypass)

// open opens the file for reading. With a file open for writing a file system
// cannot be remounted read-only: an entry does not need that, nor does who
// still follows a fill that has ended.
func (t *file) open() (err error) {
	t.r, err = sysOpen(t.path, os.O_RDONLY, 0)
	if err != nil {
		return t.c.failed("opening a cache file", err)
	}
	return nil
}

// become gives the entry its body, or the file at path that has it.
func (t *file) become(e *Entry, body []byte, path string) {
	if body != nil {
		t.c.mu.Lock()
		fits := t.c.takeMemory(e.size, e.loadedCost())
		t.c.mu.Unlock()
		if fits {
			e.body = body
			return
		}
	}
	if t.r == nil {
		t.r, _ = sysOpen(path, os.O_RDONLY, 0)
	}
	e.file = cmp.Or(t.r, t.f)
}

// replace puts a record in place of the one of its id, whose file has just
// been replaced. It returns the entry that was open, with a reference. Needs
// mu.
func (c *Cache) replace(r record) (slot int32, old *Entry) {
	if slot, ok := c.index.find(r.id); ok {
		// Another version of an object is used as it was.
		r.segment, r.since = c.index.at(slot).segment, c.index.at(slot).since
		if old = c.open[r.id]; old != nil {
			old.refs++
			c.detach(old)
		} else {
			n := c.index.at(slot).charge
			c.space.pinned += n
			c.unpin(r.id, n)
		}
		c.index.remove(slot)
		c.settled(r.id)
	}
	c.recent = append(c.recent, r.id)
	return c.index.insert(r), old
}

// refusal says why a fill must not become an entry. Needs Cache.mu.
func (t *file) refusal(f *Fill) error {
	switch {
	case f.discarded:
		return errPurged
	case t.c.state != Ready:
		return fmt.Errorf("%w: cache is %s", ErrBypass, t.c.state)
	case t.dir != t.c.dir:
		return fmt.Errorf("%w: cache directory was gone meanwhile", ErrBypass)
	}
	return nil
}

func (c *Cache) isBusy(i id) bool {
	_, busy := c.busy[i]
	return busy
}

// close gives the file up, or its share in the entry.
func (t *file) close() {
	if t.entry != nil {
		t.entry.Close()
		return
	}
	if t.dir == nil { // nothing was made
		return
	}
	removed := t.remove()
	t.f.Close()
	t.r.Close()
	m := t.c.weigh(t.dir)
	t.c.mu.Lock()
	if removed {
		t.c.apply(m)
		t.c.unreserve(t.cost, t.pending)
	} else {
		t.c.litter = append(t.c.litter, t)
	}
	t.c.mu.Unlock()
}

// remove unlinks the temporary file, if there is one.
func (t *file) remove() bool {
	if t.path == "" {
		return true
	}
	err := sysRemove(t.path)
	if err == nil || isGone(err) {
		return true
	}
	t.c.trouble("removing a cache file", err)
	return false
}

// sweep removes the temporary files that could not be removed in their time.
func (c *Cache) sweep() {
	c.mu.Lock()
	litter := c.litter
	c.litter = nil
	c.mu.Unlock()
	for _, t := range litter {
		t.close()
	}
}

// bufferedMax is the largest body that a fill holds in memory, to write it in
// one go, or to serve it though it cannot be written.
const bufferedMax = 1 << 20

// maxBuffers is how much all of those may take. Others are written as they come:
// thousands of objects may be asked for at once.
const maxBuffers = 64 << 20

// buffered is the store of a small object.
type buffered struct {
	file
	body []byte // as long as it will be
	n    int    // written
}

func newBuffered(c *Cache, key Key, meta Meta, fresh Freshness, head []byte) *buffered {
	return &buffered{
		file: file{c: c, key: key, meta: meta, fresh: fresh, head: head},
		body: make([]byte, meta.Size),
	}
}

func (b *buffered) close() {
	b.c.buffers.Add(-int64(len(b.body)))
	b.file.close()
}

func (b *buffered) write(p []byte) error {
	b.n += copy(b.body[b.n:], p)
	return nil
}

// ReadAt is called for published bytes only, which the runner no longer
// touches.
func (b *buffered) ReadAt(p []byte, off int64) (int, error) {
	return copy(p, b.body[off:]), nil
}

func (b *buffered) commit(f *Fill, size int64) error {
	if err := b.create(size); err != nil {
		return err
	}
	if err := b.writeAll(); err != nil {
		return err
	}
	var sums []uint32
	for n := range int(blocks(size)) {
		sums = append(sums, crc32.Checksum(blockOf(b.body, n), castagnoli))
	}
	return b.finish(f, size, sums, b.body)
}

// writeAll writes metadata and body, in one go if a copy costs less than that saves.
func (b *buffered) writeAll() error {
	const small = 64 << 10
	if len(b.body) <= small {
		return b.writeAt(slices.Concat(b.head, b.body), headerLen)
	}
	if err := b.writeAt(b.head, headerLen); err != nil {
		return err
	}
	return b.writeAt(b.body, headerLen+int64(len(b.head)))
}

// streamed is the store of a large object, or of one of unknown size.
type streamed struct {
	file
	bodyOff int64
	size    int64 // so far
	room    int64 // of the body, reserved
	most    int64 // that it may have
	sums    []uint32
	sum     uint32 // of the block that is being written
}

// roomStep is how much is reserved at a time for a body of unknown size.
const roomStep = 4 << 20

func newStreamed(c *Cache, key Key, meta Meta, fresh Freshness, head []byte, most int64) (*streamed, error) {
	s := &streamed{
		file:    file{c: c, key: key, meta: meta, fresh: fresh, head: head},
		bodyOff: headerLen + int64(len(head)),
		room:    meta.Size,
		most:    most,
	}
	if s.room < 0 {
		s.room = min(roomStep, most)
	}
	err := s.create(s.room)
	if err == nil {
		err = s.open()
	}
	if err == nil {
		err = s.allocate(fileLen(int64(len(head)), s.room))
	}
	if err == nil {
		err = s.writeAt(head, headerLen)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *streamed) write(p []byte) error {
	if s.size+int64(len(p)) > s.room {
		if err := s.grow(int64(len(p))); err != nil {
			return err
		}
	}
	if err := s.writeAt(p, s.bodyOff+s.size); err != nil {
		return err
	}
	for len(p) > 0 {
		n := min(int64(len(p)), blockSize-s.size%blockSize)
		s.sum = crc32.Update(s.sum, castagnoli, p[:n])
		s.size += n
		p = p[n:]
		if s.size%blockSize == 0 {
			s.sums = append(s.sums, s.sum)
			s.sum = 0
		}
	}
	return nil
}

// grow reserves room for n more bytes of a body of unknown size.
func (s *streamed) grow(n int64) error {
	if s.size+n > s.most {
		return fmt.Errorf("%w: object is over the limit of %d bytes", ErrBypass, s.most)
	}
	more := min(max(n, roomStep), s.most-s.room)
	cost := fileCost(fileLen(int64(len(s.head)), s.room+more)) - s.cost
	if cost > 0 {
		if err := s.reserve(cost); err != nil {
			return err
		}
	}
	s.room += more
	return s.allocate(fileLen(int64(len(s.head)), s.room))
}

func (s *streamed) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, s.bodyOff+off)
	if err == io.EOF && n < len(p) {
		err = fmt.Errorf("%w: cache file is short", ErrBypass)
	}
	return n, err
}

func (s *streamed) commit(f *Fill, size int64) error {
	if s.size%blockSize != 0 {
		s.sums = append(s.sums, s.sum)
	}
	return s.finish(f, size, s.sums, nil)
}
