package diskcache

import (
	"fmt"
	"time"
)

// Stats is the state of a cache. Counters count since it was opened.
type Stats struct {
	Path       string `json:"path"`
	State      State  `json:"state"`
	Why        string `json:"why,omitempty"` // of the state bypass
	Size       int64  `json:"size"`          // bytes on disk or reserved
	MaxSize    int64  `json:"max_size"`
	DiskFree   int64  `json:"disk_free"` // of the file system, a second ago
	Entries    int    `json:"entries"`
	Protected  int64  `json:"protected"` // bytes of entries that were used more than once
	Open       int    `json:"open"`      // entries with an open file or in memory
	Memory     int64  `json:"memory"`
	MaxMemory  int64  `json:"max_memory"`
	OldestUsed string `json:"oldest_used,omitempty"` // RFC 3339: last use of what is evicted next
	Filling    int    `json:"filling"`               // fills under way

	Hits         uint64 `json:"hits"` // requests answered with an entry
	MemoryHits   uint64 `json:"memory_hits"`
	Misses       uint64 `json:"misses"` // requests that had to wait for a fill
	Fills        uint64 `json:"fills"`
	Stored       uint64 `json:"stored"`
	Discarded    uint64 `json:"discarded"` // fills that failed
	Bypassed     uint64 `json:"bypassed"`  // fills that the disk or a limit was against
	Evictions    uint64 `json:"evictions"`
	EvictedBytes uint64 `json:"evicted_bytes"`
	Purged       uint64 `json:"purged"`
	Corrupt      uint64 `json:"corrupt"`
	Scrubbed     uint64 `json:"scrubbed"`
	DiskErrors   uint64 `json:"disk_errors"`
}

// Stats is the state of the cache now.
func (c *Cache) Stats() Stats {
	n := &c.counters
	s := Stats{
		Hits: n.hits.Load(), MemoryHits: n.memoryHits.Load(), Misses: n.misses.Load(),
		Fills: n.fills.Load(), Stored: n.stored.Load(), Discarded: n.discarded.Load(), Bypassed: n.bypassed.Load(),
		Evictions: n.evictions.Load(), EvictedBytes: n.evictedBytes.Load(), Purged: n.purged.Load(),
		Corrupt: n.corrupt.Load(), Scrubbed: n.scrubbed.Load(), DiskErrors: n.troubles.Load(),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Path, s.State = c.dir.path, c.state
	if c.why != nil {
		s.Why = c.why.Error()
	}
	s.Size, s.MaxSize = c.onDisk(), c.limits.MaxSize
	s.Memory, s.MaxMemory = c.memory, c.limits.Memory
	s.Entries, s.Open, s.Filling = c.index.len(), len(c.open), len(c.fills)+len(c.outdated)
	s.Protected = c.index.segments[protected].bytes
	oldest := c.index.oldest()
	if t, ok := oldest.take(c.total()); ok {
		s.OldestUsed = time.Unix(0, c.index.at(t).used).UTC().Format(time.RFC3339)
	}
	s.DiskFree = c.space.free.avail
	return s
}

// Usage is how many entries a group has, and how many bytes on disk.
func (c *Cache) Usage(group string) (entries int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u := c.index.group[groupID(group)]; u != nil {
		return u.entries, u.bytes
	}
	return 0, 0
}

// Resize changes the limits. Where the cache is over them it shrinks in the
// background, and fills nothing until it has. Fills under way that would not
// fit fail with ErrBypass.
func (c *Cache) Resize(limits Limits) error {
	if err := limits.Validate(); err != nil {
		return err
	}
	var fills []*Fill
	c.mu.Lock()
	c.limits = limits
	c.trimMemory(0)
	if c.space.reserved > limits.target() {
		// No eviction makes room for what is being filled.
		fills = c.underWay()
	}
	c.mu.Unlock()
	for _, f := range fills {
		f.fail(fmt.Errorf("%w: cache is shrinking", ErrBypass))
	}
	c.turns.resize(limits.Fills)
	c.wake()
	return nil
}
