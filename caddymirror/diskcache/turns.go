package diskcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// ErrBusy says that a fill has not come to its turn in time, or had to give
// way: too many are under way.
var ErrBusy = errors.New("too many fills under way")

// DefaultFills is how many fills a cache runs at a time if its limits do not
// say.
const DefaultFills = 128

// turns bounds how many fills run at a time: Limits.Fills in all, and of one
// group three quarters of these, so that a group whose source is slow leaves
// room for the others. The rest wait, and the groups that wait take turns.
//
// A fill that nobody follows gives way to one that somebody waits for. One that
// is still waiting ends when its last follower leaves.
//
// While its mutex is held, none but Fill.mu is taken.
type turns struct {
	mu      sync.Mutex
	most    int
	running int
	closed  bool
	groups  map[string]*queue
	ring    []*queue // those that have somebody waiting, the next to serve first
}

// queue is what turns knows of a group.
type queue struct {
	running []*Fill
	waiting []*Fill
}

func newTurns(most int) *turns {
	return &turns{most: cmp.Or(most, DefaultFills), groups: map[string]*queue{}}
}

// perGroup is how many fills of one group may run. Needs mu.
func (t *turns) perGroup() int { return max(1, t.most-(t.most+3)/4) }

// Run calls run in a goroutine of its own, when it is the fill's turn: it has to
// end the fill with Commit or Fail. Whoever began the fill calls it, once. A fill
// that waits for its turn takes no goroutine.
func (f *Fill) Run(run func()) {
	f.run = run
	t := f.c.turns
	started, idle := t.add(f)
	if started {
		go t.work(f)
		return
	}
	if idle != nil {
		idle.GiveUp(fmt.Errorf("%w: it gave way to one that is waited for", ErrBusy))
	}
	f.OnIdle(func() { t.left(f) })
}

// Await waits until it is the fill's turn, or the fill has ended.
func (f *Fill) Await(ctx context.Context) error {
	select {
	case <-f.turn:
		return nil
	case <-f.started:
		return nil
	default:
	}
	select {
	case <-f.turn:
		return nil
	case <-f.started: // it may have ended without a turn
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, context.Cause(ctx))
	}
}

// add lets a fill run, if there is room, or queues it. Then it also returns a
// running fill that had better give way, if there is one.
func (t *turns) add(f *Fill) (started bool, idle *Fill) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.groups[f.key.Group]
	if q == nil {
		q = new(queue)
		t.groups[f.key.Group] = q
	}
	full := len(q.running) >= t.perGroup()
	if t.closed || t.running < t.most && !full {
		t.start(q, f)
		return true, nil
	}
	if len(q.waiting) == 0 {
		t.ring = append(t.ring, q)
	}
	q.waiting = append(q.waiting, f)
	return false, t.idle(q, full)
}

// idle is a running fill that nobody follows, of q if that is full. Needs mu.
func (t *turns) idle(q *queue, full bool) *Fill {
	if full {
		return q.idle()
	}
	for _, q := range t.groups {
		if f := q.idle(); f != nil {
			return f
		}
	}
	return nil
}

func (q *queue) idle() *Fill {
	n := slices.IndexFunc(q.running, func(f *Fill) bool { return f.Followers() == 0 && f.over() == nil })
	if n < 0 {
		return nil
	}
	return q.running[n]
}

// start notes that a fill's turn has come. Needs mu.
func (t *turns) start(q *queue, f *Fill) {
	t.running++
	q.running = append(q.running, f)
	close(f.turn)
}

// work runs a fill, and then lets the next one run.
func (t *turns) work(f *Fill) {
	defer t.done(f)
	f.OnIdle(func() { t.left(f) })
	if err := f.over(); err != nil { // given up before its turn
		f.Fail(err)
		return
	}
	f.run()
}

// done gives a turn back.
func (t *turns) done(f *Fill) {
	t.mu.Lock()
	t.running--
	q := t.groups[f.key.Group]
	q.running = slices.DeleteFunc(q.running, func(g *Fill) bool { return g == f })
	t.forget(f.key.Group, q)
	next := t.next()
	t.mu.Unlock()
	for _, f := range next {
		go t.work(f)
	}
}

// forget drops a group that has nothing to do with the cache now. Needs mu.
func (t *turns) forget(group string, q *queue) {
	if len(q.running) == 0 && len(q.waiting) == 0 {
		delete(t.groups, group)
	}
}

// next takes those out of the queues whose turn has come. Needs mu.
func (t *turns) next() (fills []*Fill) {
	for t.running < t.most {
		n := slices.IndexFunc(t.ring, func(q *queue) bool { return len(q.running) < t.perGroup() })
		if n < 0 {
			return fills
		}
		q := t.ring[n]
		f := q.waiting[0]
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		t.ring = slices.Delete(t.ring, n, n+1)
		if len(q.waiting) > 0 {
			t.ring = append(t.ring, q)
		}
		t.start(q, f)
		fills = append(fills, f)
	}
	return fills
}

// left sees to a fill that nobody follows any more.
func (t *turns) left(f *Fill) {
	err := fmt.Errorf("%w: nobody waits for this one", ErrBusy)
	select {
	case <-f.turn:
		if t.wanted(f.key.Group) {
			f.GiveUp(err)
		}
		return
	default:
	}
	if f.GiveUp(err) && t.remove(f) {
		f.Fail(err) // its runner will not
	}
}

// wanted reports whether somebody waits for what a fill of this group takes.
func (t *turns) wanted(group string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q := t.groups[group]; q != nil && len(q.waiting) > 0 {
		return true
	}
	return slices.ContainsFunc(t.ring, func(q *queue) bool { return len(q.running) < t.perGroup() })
}

// remove takes a fill out of its queue, unless its turn has come.
func (t *turns) remove(f *Fill) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.groups[f.key.Group]
	if q == nil {
		return false
	}
	n := slices.Index(q.waiting, f)
	if n < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, n, n+1)
	if len(q.waiting) == 0 {
		t.ring = slices.DeleteFunc(t.ring, func(other *queue) bool { return other == q })
		t.forget(f.key.Group, q)
	}
	return true
}

// resize changes how many may run. Those that run go on.
func (t *turns) resize(most int) {
	t.mu.Lock()
	t.most = cmp.Or(most, DefaultFills)
	next := t.next()
	t.mu.Unlock()
	for _, f := range next {
		go t.work(f)
	}
}

// close lets all run that wait: the cache is closed, and they will notice.
func (t *turns) close() {
	t.mu.Lock()
	t.closed = true
	var all []*Fill
	for _, q := range t.ring {
		for _, f := range q.waiting {
			t.start(q, f)
			all = append(all, f)
		}
		q.waiting = nil
	}
	t.ring = nil
	t.mu.Unlock()
	for _, f := range all {
		go t.work(f)
	}
}

// Turns is how many fills of a group run, and how many wait for their turn. An
// empty group stands for all.
func (c *Cache) Turns(group string) (running, waiting int) {
	t := c.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, q := range t.groups {
		if group == "" || name == group {
			running += len(q.running)
			waiting += len(q.waiting)
		}
	}
	return running, waiting
}
