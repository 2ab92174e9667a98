package diskcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Fill is the one copy under way of an object into the cache. One goroutine
// runs it:
//
//	Start, any number of Write, Commit
//
// and Fail, once, in place of whatever it cannot go on to. Any number of
// readers follow it from its first byte on, and it depends on none of them.
// Where the disk is against it, Start or Write return ErrBypass, and the
// readers get it too.
//
// A fill goes on when nobody follows it any more. Whoever has better use for
// what it takes can end it then: see [Fill.OnIdle] and [Fill.GiveUp].
type Fill struct {
	c       *Cache
	key     Key
	started chan struct{} // closed once Meta can answer
	turn    chan struct{} // closed once it runs, if Run was called
	run     func()        // of Run

	// Of the runner alone; store is set under mu.
	store   store
	written int64

	discarded bool // by a purge, or Discard; guarded by Cache.mu

	// mu guards what follows. It is a leaf.
	mu        sync.Mutex
	running   bool // until Commit or Fail
	followers int
	idle      func() // of OnIdle
	meta      Meta
	fresh     Freshness
	src       io.ReaderAt // the bytes so far
	published int64       // of them, what readers may have
	wake      chan struct{}
	ending    bool // Commit has begun
	done      bool
	err       error
}

// store is where a fill's bytes go. Its methods but ReadAt are the runner's.
type store interface {
	io.ReaderAt
	write(p []byte) error
	// commit makes the bytes an entry. The store holds a reference to the
	// entry from then on.
	commit(f *Fill, size int64) error
	// close frees what the store has, once nobody reads it.
	close()
}

// errShort and errLong say that a source did not keep to the size it told.
var (
	errShort = errors.New("source is shorter than it said")
	errLong  = errors.New("source is longer than it said")
)

// Fill joins the fill of key, or begins it; then begun is true, and the caller
// must see to it that it is run, and ends with Commit or Fail. The caller must
// Leave the fill in either case.
func (c *Cache) Fill(key Key) (f *Fill, begun bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.fills[key]; f != nil {
		f.mu.Lock()
		f.followers++
		f.mu.Unlock()
		return f, false
	}
	f = &Fill{c: c, key: key, started: make(chan struct{}), turn: make(chan struct{}), running: true, followers: 1}
	c.fills[key] = f
	c.counters.fills.Add(1)
	return f, true
}

// Miss counts a request that was answered with the fill, for [Stats].
func (f *Fill) Miss() { f.c.counters.misses.Add(1) }

// Start tells what the object is and makes room for it. fresh is when, and in
// which release, it was found so.
func (f *Fill) Start(meta Meta, fresh Freshness) error {
	if err := f.over(); err != nil {
		return err
	}
	st, err := f.c.newStore(f.key, meta, fresh)
	if err != nil {
		f.c.counters.bypassed.Add(1)
		f.fail(err)
		return err
	}
	f.mu.Lock()
	if f.done {
		err := f.err
		f.mu.Unlock()
		st.close()
		return err
	}
	f.store, f.src, f.meta, f.fresh = st, st, meta, fresh
	f.mu.Unlock()
	close(f.started)
	return nil
}

// Write adds to the body.
func (f *Fill) Write(p []byte) (int, error) {
	if f.meta.Size >= 0 && f.written+int64(len(p)) > f.meta.Size {
		return 0, errLong
	}
	if err := f.over(); err != nil {
		return 0, err
	}
	if err := f.store.write(p); err != nil {
		f.c.counters.bypassed.Add(1)
		f.fail(err)
		return 0, err
	}
	f.written += int64(len(p))
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.done {
		return 0, f.err
	}
	// The bytes that end the body are held back until Commit: a reader must
	// not take it for whole before its source has confirmed it.
	if f.written != f.meta.Size {
		f.publish()
	}
	return len(p), nil
}

// over is why the fill has ended, if others than its runner have ended it.
func (f *Fill) over() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// publish lets readers have what is written. Needs mu.
func (f *Fill) publish() {
	f.published = f.written
	f.rouse()
}

func (f *Fill) rouse() {
	if f.wake != nil {
		close(f.wake)
		f.wake = nil
	}
}

// Commit ends the fill: the body is whole, and its source has confirmed it.
// The object is an entry afterwards, unless the disk or a purge is against
// it; the fill's readers are served in either case.
func (f *Fill) Commit() error {
	f.mu.Lock()
	f.ending = true
	err := f.err
	f.mu.Unlock()
	if err != nil { // by Close, or GiveUp
		f.Fail(err)
		return err
	}
	if f.meta.Size >= 0 && f.written != f.meta.Size {
		f.Fail(errShort)
		return errShort
	}
	err = f.store.commit(f, f.written)
	if err == nil {
		f.c.counters.stored.Add(1)
	} else {
		f.c.counters.bypassed.Add(1)
	}
	f.forget()
	f.mu.Lock()
	if !f.done {
		f.done, f.err = true, io.EOF
		f.meta.Size = f.written
		f.publish()
	}
	f.mu.Unlock()
	f.end()
	return err
}

// Fail ends the fill: its readers get err once they have read what was
// published. It does nothing if the fill has ended.
func (f *Fill) Fail(err error) {
	f.fail(err)
	f.forget()
	f.end()
}

func (f *Fill) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failLocked(err)
}

// failLocked needs mu.
func (f *Fill) failLocked(err error) {
	if f.done {
		return
	}
	f.done, f.err = true, cmp.Or(err, ErrBypass)
	if f.src == nil {
		close(f.started)
	}
	f.c.counters.discarded.Add(1)
	f.rouse()
}

// forget lets the next request for the key begin anew.
func (f *Fill) forget() {
	f.c.mu.Lock()
	if f.c.fills[f.key] == f {
		delete(f.c.fills, f.key)
	}
	delete(f.c.outdated, f)
	f.c.mu.Unlock()
}

// Meta waits until it is known what the object is.
func (f *Fill) Meta(ctx context.Context) (Meta, error) {
	select {
	case <-f.started:
	case <-ctx.Done():
		return Meta{}, context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.src == nil {
		return Meta{}, f.err
	}
	return f.meta, nil
}

// Fresh is what Start was given. Meta must have returned before.
func (f *Fill) Fresh() Freshness {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fresh
}

// Published is how much of the body can be read without waiting.
func (f *Fill) Published() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.published
}

// ReadAt reads from the body, and waits for its bytes where it must. It
// returns what is there rather than fill p; io.EOF is the end of a whole body,
// any other error means that the rest must be had from elsewhere. Meta must
// have returned before.
func (f *Fill) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	for {
		f.mu.Lock()
		n := f.published - off
		src, done, err := f.src, f.done, f.err
		if n <= 0 && !done && f.wake == nil {
			f.wake = make(chan struct{})
		}
		wake := f.wake
		f.mu.Unlock()
		switch {
		case n > 0:
			return src.ReadAt(p[:min(n, int64(len(p)))], off)
		case done:
			return 0, err
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// Followers is how many follow the fill now: those that Fill has given it to
// and that have not left yet, the one that began it among them.
func (f *Fill) Followers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.followers
}

// OnIdle has fn called when the fill's last follower leaves, each time that one
// does, and now if there is none. It is not called once the fill has ended. fn
// is called by whoever leaves, and must not wait for anything. By then somebody
// may follow the fill again: [Fill.GiveUp] looks.
func (f *Fill) OnIdle(fn func()) {
	f.mu.Lock()
	f.idle = fn
	now := f.followers == 0 && !f.done
	f.mu.Unlock()
	if now {
		fn()
	}
}

// GiveUp has the fill fail with err, unless somebody follows it or it has
// ended. It reports whether it does. Anyone may call it: the runner learns of
// it from Write or Commit, and ends the fill as always. Who asks for the key
// meanwhile begins another fill.
func (f *Fill) GiveUp(err error) bool {
	c := f.c
	c.mu.Lock() // nobody joins meanwhile
	defer c.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.followers > 0 || f.ending || f.done {
		return false
	}
	f.failLocked(err)
	if c.fills[f.key] == f {
		delete(c.fills, f.key)
	}
	return true
}

// Discard keeps the fill from becoming an entry, since its source has another
// version by now. Who asks for the key from now on begins another fill; nobody who
// reads this one is disturbed.
func (f *Fill) Discard() {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.c.fills[f.key] != f {
		return // it has ended, or an entry has come of it
	}
	f.discarded = true
	delete(f.c.fills, f.key)
	f.c.outdated[f] = struct{}{}
}

// Leave ends the use of the fill.
func (f *Fill) Leave() {
	f.mu.Lock()
	f.followers--
	f.left()
}

// end is the runner's Leave.
func (f *Fill) end() {
	f.mu.Lock()
	if !f.running {
		f.mu.Unlock()
		return
	}
	f.running = false
	f.left()
}

// left closes the store if nobody has to do with the fill any more, and tells
// if only its runner has. Needs mu, and gives it up.
func (f *Fill) left() {
	var idle func()
	var last store
	if f.followers == 0 {
		if !f.running {
			last = f.store
		}
		if !f.done {
			idle = f.idle
		}
	}
	f.mu.Unlock()
	if last != nil {
		last.close()
	}
	if idle != nil {
		idle()
	}
}

func (c *Cache) newStore(key Key, meta Meta, fresh Freshness) (store, error) {
	c.mu.Lock()
	maxObject, state, why := c.limits.maxObject(), c.state, c.why
	c.mu.Unlock()
	switch {
	case state == Bypass:
		return nil, fmt.Errorf("%w: %w", ErrBypass, why)
	case state != Ready:
		return nil, fmt.Errorf("%w: cache is %s", ErrBypass, state)
	case meta.Size > maxObject:
		return nil, fmt.Errorf("%w: object of %d bytes is over the limit of %d", ErrBypass, meta.Size, maxObject)
	}
	if fresh.At.IsZero() {
		fresh.At = time.Now()
	}
	line, err := encodeMeta(key, meta)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBypass, err)
	}
	head := withRoom(line)
	if meta.Size >= 0 && meta.Size <= bufferedMax {
		if c.buffers.Add(meta.Size) <= maxBuffers {
			return newBuffered(c, key, meta, fresh, head), nil
		}
		c.buffers.Add(-meta.Size)
	}
	return newStreamed(c, key, meta, fresh, head, maxObject)
}
