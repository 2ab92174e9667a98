package origin

import (
	"container/list"
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// A pool bounds what one file system can cost the process: at most size calls
// are inside it at a time. A call that hangs cannot be ended, so it is given
// up on, and keeps its slot until the kernel lets go of it.
type pool struct {
	mu    sync.Mutex
	size  int
	busy  int       // slots taken
	stuck int       // those of them whose callers have left
	queue list.List // of chan struct{}: who waits for a slot, in order

	closing   []io.Closer
	isClosing bool
}

// resize sets the number of slots. Calls under way keep theirs.
func (p *pool) resize(size int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.size = size
	p.grant()
}

// grant hands free slots to those who wait. p.mu is held.
func (p *pool) grant() {
	for p.busy < p.size && p.queue.Len() > 0 {
		p.busy++
		close(p.queue.Remove(p.queue.Front()).(chan struct{}))
	}
}

// acquire waits for a slot until ctx or expired ends, and reports whether it
// got one.
func (p *pool) acquire(ctx context.Context, expired <-chan struct{}) bool {
	p.mu.Lock()
	granted := make(chan struct{})
	e := p.queue.PushBack(granted)
	p.grant()
	p.mu.Unlock()

	select {
	case <-granted:
		return true
	case <-ctx.Done():
	case <-expired:
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-granted: // at the last moment
		return true
	default:
		p.queue.Remove(e)
		return false
	}
}

// release gives a slot back that no call was made in.
func (p *pool) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	p.grant()
}

// usable reports whether calls that hang have left a slot to try.
func (p *pool) usable() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stuck < p.size
}

func (p *pool) stuckCalls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stuck
}

// A call is one call in a slot. It is either waited for, done or given up on.
type call struct {
	done, gone bool // guarded by pool.mu
}

// finish gives the call's slot back and reports whether its caller still
// waits for the result.
func (p *pool) finish(c *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	p.grant()
	c.done = true
	if c.gone {
		p.stuck--
	}
	return !c.gone
}

// giveUp reports whether the call is given up on: false means that its result
// has come after all.
func (p *pool) giveUp(c *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.done {
		return false
	}
	c.gone = true
	p.stuck++
	return true
}

// do calls f in a slot of p and waits for it until ctx ends or timeout has
// passed, whichever is first; the wait for the slot is part of that. After
// that f may still run, so it must own what it writes to; its result goes to
// late, if that is not nil.
//
// The outcome is reported to b, that of f or that of the timeout, even when
// the caller has left before: a caller with little patience says nothing
// about the file system.
func do[T any](ctx context.Context, p *pool, b *breaker, timeout time.Duration, f func() (T, error), late func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	if err := b.check(); err != nil {
		return none, err
	}

	expired := make(chan struct{})
	hangs := func() error {
		return fmt.Errorf("%w: no answer within %v: %w", ErrAway, timeout, context.DeadlineExceeded)
	}
	timer := time.AfterFunc(timeout, func() {
		b.report(hangs())
		close(expired)
	})
	left := func() error {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%w: the caller did not wait: %w", ErrAway, err)
		}
		return hangs()
	}

	if !p.acquire(ctx, expired) {
		timer.Stop()
		return none, left()
	}
	err := b.check() // it may have opened during the wait
	if err == nil && ctx.Err() != nil {
		err = left()
	}
	if err != nil {
		timer.Stop()
		p.release()
		return none, err
	}

	c := new(call)
	done := make(chan result, 1)
	go func() {
		v, err := f()
		if timer.Stop() {
			b.report(err)
		}
		if p.finish(c) {
			done <- result{v, err}
		} else if late != nil {
			late(v)
		}
	}()

	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
	case <-expired:
	}
	if !p.giveUp(c) {
		r := <-done
		return r.v, r.err
	}
	return none, left()
}

// close closes c behind its caller's back, since that can hang as well (FUSE
// and NFS flush on close). One goroutine does it for all, so that no more
// than one hangs.
func (p *pool) close(c io.Closer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closing = append(p.closing, c)
	if !p.isClosing {
		p.isClosing = true
		go p.closeAll()
	}
}

func (p *pool) closeAll() {
	for {
		p.mu.Lock()
		batch := p.closing
		p.closing = nil
		p.isClosing = len(batch) > 0
		p.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, c := range batch {
			c.Close()
		}
	}
}
