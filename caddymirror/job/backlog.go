package job

import (
	"slices"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Backlog is what is, or may be, new in a job's tree since its last release: it waits for
// [ReleaseWhen], or a run failed or was interrupted.
type Backlog struct {
	// Since is when the first of it came.
	Since time.Time `json:"since"`

	// Changes is the number of changes. Names are the first of them; the status shows them.
	Changes int      `json:"changes"`
	Names   []string `json:"names,omitempty"`

	// Uncounted says that there may be further changes: of a sync that was interrupted
	// or cannot count, or of somebody else.
	Uncounted bool `json:"uncounted,omitempty"`

	// Urgent are projects among it that the constraints of [ReleaseWhen] name.
	Urgent []string `json:"urgent,omitempty"`

	// Why says what it waits for. Due is from when the next sync that ends well
	// releases it in any case. Why is empty if a run should have released it and did
	// not.
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
