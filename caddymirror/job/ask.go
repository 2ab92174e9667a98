package job

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Request says how to run a job.
type Request struct {
	// NoTimeout lets the run take any time.
	NoTimeout bool `json:"no_timeout,omitempty"`

	// TakeOver runs an exclusive job though another host was ended while it ran it, and
	// what that has started may still run.
	TakeOver bool `json:"take_over,omitempty"`

	// Release has it released even if the sync has brought nothing.
	Release bool `json:"release,omitempty"`
}

// ErrRunning says that a job runs already.
var ErrRunning = errors.New("it runs already")

// Ask has the job run now, on hold or not.
func (r *Runner) Ask(q Request) (id string, err error) {
	r.mu.Lock()
	switch {
	case r.state.Current != nil:
		err = fmt.Errorf("%w: run %s", ErrRunning, r.state.Current.ID)
	case r.manual != nil:
		err = fmt.Errorf("%w: run %s", ErrRunning, r.manual.id)
	default:
		id = r.newID(time.Now())
		r.manual = &manualRun{id, q}
	}
	r.mu.Unlock()
	r.wake()
	return id, err
}

// Find returns a run by its ID.
func (r *Runner) Find(id string) (Run, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.manual; m != nil && m.id == id {
		return Run{ID: id, Trigger: "manual", Stage: "waiting"}, true
	}
	if c := r.state.Current; c != nil && c.ID == id {
		return c.clone(), true
	}
	for _, run := range r.state.Runs {
		if run.ID == id {
			return run.clone(), true
		}
	}
	return Run{}, false
}

// Await waits until a run has ended.
func (r *Runner) Await(ctx context.Context, id string) (Run, bool) {
	for {
		run, ok := r.Find(id)
		if !ok || run.Outcome != "" {
			return run, ok
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return run, true
		}
	}
}

// LastID names the run under way, or else the last one.
func (r *Runner) LastID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.state.Current != nil:
		return r.state.Current.ID
	case len(r.state.Runs) > 0:
		return r.state.Runs[0].ID
	}
	return ""
}
