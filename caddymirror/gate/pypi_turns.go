package gate

import (
	"context"
	"sync"
)

// ahead is how many projects may be looked at ahead of the one whose turn it is: so many
// are in memory.
const ahead = 1024

// pypiTurns brings what is found of projects, side by side, into their order.
type pypiTurns struct {
	ctx    context.Context
	record *pypiRecord

	mu      sync.Mutex
	moved   *sync.Cond
	turn    int                   // the project that is next
	waiting map[int]*projectFiles // of projects after it
	err     error
}

func newTurns(ctx context.Context, record *pypiRecord) *pypiTurns {
	t := &pypiTurns{ctx: ctx, record: record, waiting: map[int]*projectFiles{}}
	t.moved = sync.NewCond(&t.mu)
	context.AfterFunc(ctx, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.moved.Broadcast()
	})
	return t
}

// wait waits until the project at place i may be looked at.
func (t *pypiTurns) wait(i int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.ctx.Err() == nil && t.err == nil && i >= t.turn+ahead {
		t.moved.Wait()
	}
	if t.err != nil {
		return t.err
	}
	return context.Cause(t.ctx)
}

// done takes what was found of the project at place i.
func (t *pypiTurns) done(i int, p *projectFiles) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting[i] = p
	for t.err == nil {
		p, ok := t.waiting[t.turn]
		if !ok {
			break
		}
		delete(t.waiting, t.turn)
		t.turn++
		t.err = t.record.add(p)
	}
	t.moved.Broadcast()
	return t.err
}
