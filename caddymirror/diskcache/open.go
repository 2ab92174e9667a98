package diskcache

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
	if c.state == Closed {
		c.idle.Broadcast() // see beginRewrite
	}
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
		meta := e.Meta()
		if u.change != nil {
			meta = u.meta
		}
		e.current.Store(&Current{Meta: meta, Fresh: u.Freshness})
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

// takeMemory makes room in memory for a body of so many bytes, which costs n with all that
// belongs to it, and reports whether there is some. Needs mu.
func (c *Cache) takeMemory(body, n int64) bool {
	if body > min(c.limits.Memory/64, bufferedMax) {
		return false
	}
	c.trimMemory(n)
	if c.memory+n > c.limits.Memory {
		return false
	}
	c.memory += n
	return true
}

// trimMemory takes idle entries out of memory until it has room for n bytes.
// Needs mu.
func (c *Cache) trimMemory(n int64) {
	for e := c.inMemory.back; e != nil && c.memory+n > c.limits.Memory; {
		prev := e.prev
		if e.refs == 0 {
			c.cool(e)
		}
		e = prev
	}
}

// trimFiles takes idle entries beyond maxOpenFiles out of the open ones, and
// returns them for shut. Needs mu.
func (c *Cache) trimFiles() (idle []*Entry) {
	for e := c.onFile.back; e != nil && c.onFile.len > maxOpenFiles; {
		prev := e.prev
		if e.refs == 0 {
			c.cool(e)
			idle = append(idle, e)
		}
		e = prev
	}
	return idle
}

// cool takes an entry that nobody uses out of the open ones; its record stays.
// If it has a file, shut is to follow. Needs mu.
func (c *Cache) cool(e *Entry) {
	c.unlist(e)
	c.memory -= e.memoryCost()
	if e.file != nil {
		c.peek(e.id) // counted until it is closed, though it may be unlinked
	}
}

// shut closes the files of cooled entries.
func (c *Cache) shut(cooled []*Entry) {
	for _, e := range cooled {
		e.discard()
		c.unpeek(e.id)
	}
}

// unlist takes an entry out of the open ones. Needs mu.
func (c *Cache) unlist(e *Entry) {
	delete(c.open, e.id)
	delete(c.hot, e.key)
	e.list.remove(e)
	e.slot = none
}

// detach parts an entry that somebody uses from its record: its file is
// replaced, removed or no longer ours. What it has on disk and in memory stays
// counted until its last user is gone. Needs mu.
func (c *Cache) detach(e *Entry) {
	c.unlist(e)
	if e.file == nil {
		e.charge = 0
	}
	c.space.pinned += e.charge
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
