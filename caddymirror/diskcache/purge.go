package diskcache

import (
	"errors"
	"fmt"
	"slices"
)

// Purge removes the entries of a group whose name match accepts, or all of
// them if match is nil, and returns how many those were. Fills of them that
// are under way do not become entries; nobody who reads them is disturbed.
// While the directory is still being read Purge waits for that.
//
// To know an entry's name its file is read, so that a purge with match costs
// a read for each entry of the group.
func (c *Cache) Purge(group string, match func(name string) bool) (int, error) {
	if err := c.discardFills(group, match); err != nil {
		return 0, err
	}
	purged := 0
	var err error
	for from := int32(0); ; from += step {
		batch, more := c.ofGroup(groupID(group), from)
		for _, r := range batch {
			done, failed := c.purge(r, group, match)
			if failed != nil {
				err = failed
			}
			if done {
				purged++
			}
		}
		if !more {
			break
		}
	}
	c.counters.purged.Add(uint64(purged))
	return purged, err
}

// discardFills keeps fills under way from becoming entries, and waits until
// all entries are known.
func (c *Cache) discardFills(group string, match func(name string) bool) error {
	var fills []*Fill
	c.mu.Lock()
	for key, f := range c.fills {
		if key.Group == group {
			fills = append(fills, f)
		}
	}
	c.mu.Unlock()
	fills = slices.DeleteFunc(fills, func(f *Fill) bool { return match != nil && !match(f.key.Name) })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range fills {
		f.discarded = true
	}
	return c.awaitScan()
}

// ofGroup is the records of a group among step slots, and whether there
// are more to look at.
func (c *Cache) ofGroup(g uint32, from int32) (batch []record, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := c.index
	end := min(from+step, x.size)
	for s := from; s < end; s++ {
		if r := x.at(s); r.live && r.group == g {
			batch = append(batch, *r)
		}
	}
	return batch, end < x.size && c.state != Closed
}

// purge removes an entry, unless it has been replaced since or is not meant.
func (c *Cache) purge(r record, group string, match func(name string) bool) (bool, error) {
	if match != nil {
		key, err := c.keyOf(r)
		switch {
		case isGone(err), err == nil && (key.Group != group || !match(key.Name)):
			return false, nil
		case err != nil && !errors.Is(err, errCorrupt):
			return false, err
		}
	}
	c.mu.Lock()
	slot, ok := c.index.find(r.id)
	if !ok || c.index.at(slot).gen != r.gen || c.isBusy(r.id) || c.state == Closed {
		c.mu.Unlock()
		return false, nil
	}
	rm := c.takeOut(slot)
	c.mu.Unlock()
	err := c.remove(rm)
	return err == nil, err
}

// keyOf is the key of an entry, as its file says.
func (c *Cache) keyOf(r record) (Key, error) {
	c.mu.Lock()
	for c.rewriting == r.id {
		c.idle.Wait()
	}
	if e := c.open[r.id]; e != nil {
		defer c.mu.Unlock()
		return e.key, nil
	}
	d := c.dir
	c.peek(r.id)
	c.mu.Unlock()
	defer c.unpeek(r.id)
	f, contents, _, err := openFile(d.object(r.id, r.group), nil, r.id)
	if err != nil {
		return Key{}, err
	}
	f.Close()
	return contents.meta.Key, nil
}

// PurgeKey removes one entry.
func (c *Cache) PurgeKey(key Key) (int, error) {
	i := key.id()
	c.mu.Lock()
	if f := c.fills[key]; f != nil {
		f.discarded = true
	}
	err := c.awaitScan()
	for c.isBusy(i) {
		c.idle.Wait()
	}
	slot, ok := c.index.find(i)
	if err != nil || !ok || c.state == Closed {
		c.mu.Unlock()
		return 0, err
	}
	rm := c.takeOut(slot)
	c.mu.Unlock()
	if err := c.remove(rm); err != nil {
		return 0, err
	}
	c.counters.purged.Add(1)
	return 1, nil
}

// awaitScan waits until the index knows all entries. Needs mu, and gives it up
// meanwhile.
func (c *Cache) awaitScan() error {
	for !c.scanned && c.state == Scanning {
		c.idle.Wait()
	}
	if !c.scanned || c.state == Closed {
		return fmt.Errorf("cache is %s", c.state)
	}
	return nil
}
