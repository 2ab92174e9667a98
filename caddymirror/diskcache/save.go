package diskcache

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"
)

// unsaved is a validation that the entry's file does not tell of yet.
type unsaved struct {
	group, gen uint32
	Freshness
	*change // nil if the file has the metadata that was validated
}

// change is new metadata.
type change struct {
	meta *Meta
	line []byte // encoded
}

// size is how much the change counts against maxUnsaved.
func (ch *change) size() int64 {
	if ch == nil {
		return 0
	}
	return int64(len(ch.line))
}

// maxUnsaved bounds the metadata that waits to be written. It is what a thousand
// changes a second bring.
const maxUnsaved = 64 << 20

// keep has u written to the file of an entry by the next save. Needs mu.
func (c *Cache) keep(i id, u unsaved) {
	old, ok := c.unsaved[i]
	if !ok {
		c.changed = append(c.changed, i)
	}
	c.unsavedMeta += u.size() - old.size()
	c.unsaved[i] = u
}

// settled drops what is unsaved of an entry: its file has it, or has gone. Needs mu.
func (c *Cache) settled(i id) {
	c.unsavedMeta -= c.unsaved[i].size()
	delete(c.unsaved, i)
}

// save writes recency, segments, validations and metadata since the last time to
// the files.
func (c *Cache) save() {
	c.saving.Lock()
	defer c.saving.Unlock()
	c.mu.Lock()
	d, x, now := c.dir, c.index, c.index.clock
	changed := c.changed
	c.changed = nil
	c.mu.Unlock()

	for n, i := range changed {
		err := c.saveChange(d, i)
		if err == nil {
			continue
		}
		rest, goOn := changed[n:], c.onlyOne("saving a validation", err)
		if goOn {
			rest = rest[:1]
		}
		c.mu.Lock()
		c.changed = append(c.changed, rest...)
		c.mu.Unlock()
		if !goOn {
			return
		}
	}
	// From the oldest, so that a kill in between keeps the order. And after
	// the others, which were writes to the files.
	for _, r := range c.uses(x) {
		if err := saveUse(d, r); err != nil && !isGone(err) {
			if !c.onlyOne("saving recency", err) {
				return
			}
		}
		c.mu.Lock()
		// What was used since the beginning may have been used again.
		x.saved = max(x.saved, min(r.used, now))
		if slot, ok := x.find(r.id); ok && x.at(slot).gen == r.gen {
			x.at(slot).marked = r.segment
		}
		c.mu.Unlock()
	}
}

// onlyOne judges an error of saving something to a file, and reports whether it is a
// matter of this file alone: the others can be saved.
func (c *Cache) onlyOne(doing string, err error) bool {
	if isPassing(err) {
		c.grumble(doing, err)
		return false
	}
	return c.trouble(doing, err)
}

// uses is the records of x whose last use is not in their files, the least
// recently used one first.
func (c *Cache) uses(x *index) (all []record) {
	part := make([]record, 0, step)
	for from, more := int32(0), true; more; from += step {
		c.mu.Lock()
		part, more = x.unsaved(part[:0], from)
		c.mu.Unlock()
		all = append(all, part...) // which may take a while
	}
	slices.SortFunc(all, func(a, b record) int { return cmp.Compare(a.used, b.used) })
	return all
}

func saveUse(d *dir, r record) error {
	path := d.object(r.id, r.group)
	if r.segment != r.marked {
		// A file system may have no modes: then the segment is forgotten.
		if err := sysSetMode(path, modeOf(r.segment)); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return sysSetTime(path, time.Unix(0, r.used))
}

// saveChange writes what is unsaved of an entry to its file. It leaves that to the
// next save while others read the file.
func (c *Cache) saveChange(d *dir, i id) error {
	c.mu.Lock()
	u, ok := c.unsaved[i]
	if !ok {
		c.mu.Unlock()
		return nil
	}
	c.peek(i)
	c.mu.Unlock()
	defer c.unpeek(i)

	written := true
	f, fi, err := openObject(d.object(i, u.group), os.O_RDWR)
	if err == nil {
		if written = c.beginRewrite(i, u); written {
			err = rewrite(f, fi.Size(), u)
			c.endRewrite()
		}
		f.Close()
	}
	switch {
	case errors.Is(err, errCorrupt):
		c.drop(i, u.group, u.gen, err)
		return nil
	case err != nil && !isGone(err):
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch later, ok := c.unsaved[i]; {
	case ok && later == u && written:
		c.settled(i)
	case ok:
		c.changed = append(c.changed, i)
	}
	return nil
}

// beginRewrite reports whether u is to be written to the file that was opened:
// others do not read what is half written, and it may be another file by now. Who
// wants to read it from now on waits for endRewrite.
func (c *Cache) beginRewrite(i id, u unsaved) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.state == Closed && c.peeks[i].n > 1 { // the last chance
		c.idle.Wait()
	}
	if c.unsaved[i] != u || c.isBusy(i) || c.peeks[i].n > 1 {
		return false
	}
	c.rewriting = i
	return true
}

func (c *Cache) endRewrite() {
	c.mu.Lock()
	c.rewriting = id{}
	c.idle.Broadcast()
	c.mu.Unlock()
}

// rewrite writes u to the file of its entry, which has size bytes.
func rewrite(f *sysFile, size int64, u unsaved) error {
	header := make([]byte, headerLen)
	if _, err := f.ReadAt(header, 0); err != nil && err != io.EOF {
		return err
	}
	metaLen, body, err := readHeader(header, size)
	if err != nil {
		return err
	}
	if u.change == nil {
		_, err := f.WriteAt(encodeFreshness(header, u.Freshness), freshOff)
		return err
	}
	if int64(len(u.line)) >= metaLen {
		return fmt.Errorf("%w: its metadata has %d bytes", errCorrupt, metaLen) // Update knew of more
	}
	meta := endLine(u.line, int(metaLen))
	// In one write, so that a kill does not tear what fits in a page of memory.
	_, err = f.WriteAt(slices.Concat(encodeHeader(meta, body, u.Freshness), meta), 0)
	return err
}
