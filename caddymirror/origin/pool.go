package origin

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/breaker"
	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

// A pool bounds what one file system can cost the process: at most size calls
// are inside it at a time. A call that hangs cannot be ended, so it is given
// up on, and keeps its slot until the kernel lets go of it.
type pool struct {
	mu      sync.Mutex
	size    int
	busy    int       // slots taken
	stuck   int       // those of them whose callers have left
	overdue int       // those of them whose calls have had their time
	ended   uint64    // calls so far
	queue   list.List // of chan struct{}: who waits for a slot, in order

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

// acquire waits for a slot: until ctx ends, b opens or timeout has passed, whichever
// is first. That there is none in time says nothing about the file system, so the
// error is [ErrBusy] then; unless no call has ended meanwhile, so that each has had
// as much time.
func (p *pool) acquire(ctx context.Context, b *breaker.Breaker, timeout time.Duration) error {
	p.mu.Lock()
	granted := make(chan struct{})
	e := p.queue.PushBack(granted)
	p.grant()
	ended := p.ended
	p.mu.Unlock()

	select {
	case <-granted:
		return nil
	default:
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var err error
	for err == nil {
		select {
		case <-granted:
			return nil
		case <-b.Opening():
			err = b.Check()
		case <-timer.C:
			if err = p.progress(ended, timeout); !errors.Is(err, ErrBusy) {
				b.Trip(err)
			}
		case <-ctx.Done():
			err = leftInQueue(ctx)
		}
	}

	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-granted: // at the last moment
		return nil
	default:
		p.queue.Remove(e)
		return err
	}
}

// progress is why a caller has found no slot within timeout, if as many calls had
// ended when it came.
func (p *pool) progress(ended uint64, timeout time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended == ended {
		return hangs(timeout)
	}
	return fmt.Errorf("%w: no call could begin within %v", ErrBusy, timeout)
}

// hangs is the error of a call that has had its time.
func hangs(timeout time.Duration) error {
	return fmt.Errorf("%w: no answer within %v: %w", ErrAway, timeout, context.DeadlineExceeded)
}

// leftInQueue is the error of a caller that has left before its call began.
func leftInQueue(ctx context.Context) error {
	if err := ctx.Err(); errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: no call could begin before the caller's deadline: %w", ErrBusy, err)
	}
	return left(ctx)
}

// left is the error of a caller that has left.
func left(ctx context.Context) error {
	return fmt.Errorf("%w: the caller did not wait: %w", ErrAway, ctx.Err())
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

// hung reports whether every slot has a call in it that has had its time: then
// nothing can be asked.
func (p *pool) hung() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.overdue >= p.size
}

// A call is one call in a slot. It is either waited for, done or given up on.
type call struct {
	done, gone, overdue bool // guarded by pool.mu
}

// finish gives the call's slot back. It reports whether the call was in time, and
// whether its caller still waits for the result.
func (p *pool) finish(c *call) (inTime, awaited bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	p.ended++
	c.done = true
	if c.gone {
		p.stuck--
	}
	if c.overdue {
		p.overdue--
	}
	p.grant()
	return !c.overdue, !c.gone
}

// expire notes that the call has had its time: false means that it is done.
func (p *pool) expire(c *call) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.done {
		return false
	}
	c.overdue = true
	p.overdue++
	return true
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

// do calls f in a slot of p and waits for it until ctx ends or timeout has passed
// since it began, whichever is first. For the slot it waits as long at most, which
// is another matter: see acquire. After that f may still run, so it must own what
// it writes to; its result goes to late, if that is not nil.
//
// The outcome is reported to b, that of f or that of the timeout, even when
// the caller has left before: a caller with little patience says nothing
// about the file system. Nor does a panic in f, which fails this call only.
func do[T any](ctx context.Context, p *pool, b *breaker.Breaker, timeout time.Duration, f func() (T, error), late func(T)) (T, error) {
	type result struct {
		v   T
		err error
	}
	var none T
	if p.hung() { // b may be new, and the pool not
		b.Trip(hangs(timeout))
	}
	if err := b.Check(); err != nil {
		return none, err
	}
	if err := p.acquire(ctx, b, timeout); err != nil {
		return none, err
	}
	err := b.Check() // it may have opened during the wait
	if err == nil && ctx.Err() != nil {
		err = leftInQueue(ctx)
	}
	if err != nil {
		p.release()
		return none, err
	}

	c := new(call)
	done := make(chan result, 1)
	expired := make(chan struct{})
	timer := time.AfterFunc(timeout, func() {
		if !p.expire(c) {
			return
		}
		b.Report(hangs(timeout))
		if p.hung() {
			b.Trip(hangs(timeout))
		}
		close(expired)
	})
	go func() {
		var r result
		r.v, r.err = contained(b, f)
		timer.Stop()
		inTime, awaited := p.finish(c)
		if inTime && !isPanic(r.err) {
			b.Report(r.err)
		}
		if awaited {
			done <- r
		} else if late != nil {
			_, _ = contained(b, func() (none struct{}, _ error) { late(r.v); return none, nil })
		}
	}()

	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		err = left(ctx)
	case <-expired:
		err = hangs(timeout)
	}
	if !p.giveUp(c) {
		r := <-done
		return r.v, r.err
	}
	return none, err
}

// contained calls f, and turns a panic into an error.
func contained[T any](b *breaker.Breaker, f func() (T, error)) (v T, err error) {
	defer Recover(logger(b), "origin call", &err)
	return f()
}

func logger(b *breaker.Breaker) *zap.Logger {
	if b.Log == nil {
		return nil
	}
	return b.Log()
}

func isPanic(err error) bool {
	_, ok := errors.AsType[*panics.Error](err)
	return ok
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

// closeOne closes c. A panic in that must not keep the others open.
func closeOne(c io.Closer) {
	var err error
	defer panics.Recover(caddy.Log().Named("mirror.origins"), "origin close", &err)
	_ = c.Close()
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
			closeOne(c)
		}
	}
}
