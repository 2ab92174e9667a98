package diskcache

import (
	"errors"

	"go.uber.org/zap"
)

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
	c.settled(r.id)
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
