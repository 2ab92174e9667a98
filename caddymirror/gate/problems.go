package gate

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

const (
	// maxProblems is how many problems a verdict names.
	maxProblems = 5
)

// problems are what a gate has found so far. They are told in the order of the
// things that were looked at, whichever was found first.
type problems struct {
	mu    sync.Mutex
	first []placed
	count int
}

type placed struct {
	at int64
	Problem
}

// add notes a problem with the thing that is at this place in the order.
func (p *problems) add(at int64, file, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	if len(p.first) == maxProblems && at >= p.first[maxProblems-1].at {
		return
	}
	i, _ := slices.BinarySearchFunc(p.first, at+1, func(q placed, at int64) int { return cmp.Compare(q.at, at) })
	p.first = slices.Insert(p.first, i, placed{at, Problem{file, fmt.Sprintf(format, args...)}})
	p.first = p.first[:min(len(p.first), maxProblems)]
}

// addAll adds what another has found, from this place in the order on.
func (p *problems) addAll(q *problems, at int64) {
	for _, x := range q.first {
		p.add(at+x.at, x.File, "%s", x.Reason)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count += q.count - len(q.first)
}

func (p *problems) any() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count > 0
}

// err returns the verdict of the gate, if there are problems.
func (p *problems) err(gate string) error {
	if !p.any() {
		return nil
	}
	return p.verdict(gate)
}

// verdict returns the verdict of the gate on the problems, of which there must be
// some.
func (p *problems) verdict(gate string) *Verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := &Verdict{Gate: gate, File: p.first[0].File, Reason: p.first[0].Reason, Count: p.count}
	for _, q := range p.first[1:] {
		v.More = append(v.More, q.Problem)
	}
	return v
}
