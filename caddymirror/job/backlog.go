package job

import (
	"slices"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Backlog is what may have been brought into the tree of a job since its last release, and
// is not released: it waits for [ReleaseWhen], or a run has failed or was interrupted.
type Backlog struct {
	// Since is when the first of it came.
	Since time.Time `json:"since"`

	// Changes is how many changes that are. Names are the first of them, in the status.
	Changes int      `json:"changes"`
	Names   []string `json:"names,omitempty"`

	// Uncounted says that there may be more, of which nobody knows: of a sync that was
	// interrupted, or cannot tell, or of somebody else.
	Uncounted bool `json:"uncounted,omitempty"`

	// Urgent are projects among it that the constraints of [ReleaseWhen] name.
	Urgent []string `json:"urgent,omitempty"`

	// Why says for what it waits, and Due is when it is released at the latest, by the
	// next sync that ends well. Why is empty if a run was to release it and has not.
	Why string    `json:"why,omitempty"`
	Due time.Time `json:"due,omitzero"`
}

// shownNames is how many names the status has.
const shownNames = 10

// clone returns a copy that shares nothing.
func (b *Backlog) clone() *Backlog {
	if b == nil {
		return nil
	}
	c := *b
	c.Names, c.Urgent = slices.Clone(b.Names), slices.Clone(b.Urgent)
	return &c
}

// shown is what the status has of it.
func (b *Backlog) shown() *Backlog {
	c := b.clone()
	if c != nil {
		c.Names, c.Urgent = first(c.Names, shownNames), first(c.Urgent, shownNames)
	}
	return c
}

// vague is the backlog with something that nobody has counted. It may be nil.
func (b *Backlog) vague(now time.Time) *Backlog {
	c := b.clone()
	if c == nil {
		c = &Backlog{Since: now}
	}
	c.Uncounted, c.Why = true, ""
	return c
}

// with is the backlog with what a run has changed. It may be nil, before and after.
func (b *Backlog) with(run *step.Run, now time.Time) *Backlog {
	n := run.Changes.Count()
	if n == 0 && run.Changed != nil && !*run.Changed {
		return b
	}
	c := b.clone()
	if c == nil {
		c = &Backlog{Since: now}
	}
	c.Why = ""
	names, more := run.Changes.Names()
	for _, name := range names {
		at, known := slices.BinarySearch(c.Names, name)
		switch {
		case known:
			continue
		case len(c.Names) < step.MaxChanges:
			c.Names = slices.Insert(c.Names, at, name)
		}
		c.Changes++
	}
	c.Changes += more
	c.Uncounted = c.Uncounted || n == 0 || run.Changed == nil
	return c
}
