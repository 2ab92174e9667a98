package origin

import (
	"context"
	"errors"
	"sync/atomic"
)

// counters are those of Status.
type counters struct {
	reads, readBytes, stats, lists atomic.Uint64

	errors, timeouts, panics, busy atomic.Uint64

	lastError atomic.Pointer[string]
}

// failed counts an error of an origin that a call ended in. What speaks of the object
// counts for nothing, and neither does a caller that has left.
func (c *counters) failed(err error) {
	switch {
	case !errors.Is(err, ErrAway), errors.Is(err, context.Canceled):
		return
	case errors.Is(err, ErrBusy):
		c.busy.Add(1)
	default:
		c.errors.Add(1)
		if errors.Is(err, context.DeadlineExceeded) {
			c.timeouts.Add(1)
		} else if isPanic(err) {
			c.panics.Add(1)
		}
	}
	c.note(err)
}

// note has err shown as the last error.
func (c *counters) note(err error) {
	text := err.Error()
	c.lastError.Store(&text)
}

// status is a Status with the counters.
func (c *counters) status() Status {
	st := Status{
		Reads:     c.reads.Load(),
		ReadBytes: c.readBytes.Load(),
		Stats:     c.stats.Load(),
		Lists:     c.lists.Load(),
		Errors:    c.errors.Load(),
		Timeouts:  c.timeouts.Load(),
		Panics:    c.panics.Load(),
		Busy:      c.busy.Load(),
	}
	if text := c.lastError.Load(); text != nil {
		st.LastError = *text
	}
	return st
}
