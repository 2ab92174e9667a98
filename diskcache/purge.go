package diskcache

import (
	"errors"
	"io/fs"
)

// Purge removes the entries of a group whose name match accepts, or all of
// them if match is nil, and returns how many those were. Fills of them that
// are under way do not become entries; nobody who reads them is disturbed.
//
// To know an entry's name its file is read, so that a purge with match costs
// a read for each entry of the group.
func (c *Cache) Purge(group string, match func(name string) bool) (int, error) {
	accepts := func(k Key) bool { return k.Group == group && (match == nil || match(k.Name)) }
	g := groupID(group)

	type candidate struct {
		id  id
		gen uint32
		key *Key
	}
	var all []candidate
	c.mu.Lock()
	for key, f := range c.fills {
		if accepts(key) {
			f.discarded = true
		}
	}
	d := c.dir
	for s := c.index.head; s != none; s = c.index.at(s).next {
		r := c.index.at(s)
		if r.group != g {
			continue
		}
		cand := candidate{id: r.id, gen: r.gen}
		if e := c.open[r.id]; e != nil {
			cand.key = &e.key
		}
		all = append(all, cand)
	}
	c.mu.Unlock()

	purged := 0
	var failed error
	for _, cand := range all {
		if match != nil || cand.key != nil {
			key, err := d.keyOf(cand.id, g, cand.key)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			// What cannot be read cannot be kept.
			if err == nil && !accepts(key) {
				continue
			}
		}
		c.mu.Lock()
		slot, ok := c.index.find(cand.id)
		if !ok || c.index.at(slot).gen != cand.gen || c.isBusy(cand.id) {
			c.mu.Unlock()
			continue
		}
		rm := c.takeOut(slot)
		c.mu.Unlock()
		if err := c.remove(rm); err != nil {
			failed = err
			continue
		}
		purged++
	}
	c.counters.purged.Add(uint64(purged))
	return purged, failed
}

// keyOf is the key of an entry: as known, or as its file says.
func (d *dir) keyOf(i id, group uint32, known *Key) (Key, error) {
	if known != nil {
		return *known, nil
	}
	f, contents, _, err := openFile(d.object(i, group), nil, i)
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
	for c.isBusy(i) {
		c.idle.Wait()
	}
	slot, ok := c.index.find(i)
	if !ok {
		c.mu.Unlock()
		return 0, nil
	}
	rm := c.takeOut(slot)
	c.mu.Unlock()
	if err := c.remove(rm); err != nil {
		return 0, err
	}
	c.counters.purged.Add(1)
	return 1, nil
}
