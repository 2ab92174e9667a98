package check

import "math/rand/v2"

// A picker chooses some of what it sees, each with the same chance, and keeps no more than
// these (Vitter's algorithm R); or it hands on all.
type picker[T any] struct {
	n    int
	all  func(T) // if it is not nil
	seen int64
	kept []T
}

func (p *picker[T]) see(x T) {
	p.seen++
	switch {
	case p.all != nil:
		p.all(x)
	case len(p.kept) < p.n:
		p.kept = append(p.kept, x)
	default:
		if i := rand.Int64N(p.seen); i < int64(p.n) { //nolint:gosec // not for secrets
			p.kept[i] = x
		}
	}
}
