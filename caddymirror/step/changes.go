package step

import (
	"maps"
	"slices"
	"sync"
)

// MaxChanges is how many names of changes are kept. Of more only their number is known.
const MaxChanges = 10_000

// Changes are what was changed in a tree, by name. The zero value is none. Several
// goroutines may add to them.
type Changes struct {
	mu    sync.Mutex // guards what follows; a leaf
	names map[string]struct{}
	more  int
}

// Add notes a change: the normalised name of a Python project, or a file, relative to the
// tree. The same name twice is one change.
func (c *Changes) Add(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.names[name]; ok {
		return
	}
	if len(c.names) == MaxChanges {
		c.more++
		return
	}
	if c.names == nil {
		c.names = map[string]struct{}{}
	}
	c.names[name] = struct{}{}
}

// Count is how many there are. Beyond [MaxChanges] a name that comes twice counts twice.
func (c *Changes) Count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.names) + c.more
}

// Names are those that are kept, sorted, and how many are not.
func (c *Changes) Names() (names []string, more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.names)), c.more
}
