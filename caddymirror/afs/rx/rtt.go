package rx

import (
	"sync"
	"time"
)

const (
	firstRTO = time.Second // before the first sample
	// minRTO is added to the estimate, as OpenAFS does: a peer may hold an ack
	// back, and a request that is merely slow should not be sent twice.
	minRTO = 200 * time.Millisecond
	maxRTO = 8 * time.Second
)

// An rtt estimates a peer's round-trip time (RFC 6298).
type rtt struct {
	mu       sync.Mutex
	mean     time.Duration
	variance time.Duration
}

// sample takes the time from a packet to the ack it prompted.
func (r *rtt) sample(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mean == 0 {
		r.mean, r.variance = max(d, 1), d/2
		return
	}
	r.variance += ((r.mean - d).Abs() - r.variance) / 4
	r.mean = max(r.mean+(d-r.mean)/8, 1)
}

// timeout returns how long to wait for an ack before sending again.
func (r *rtt) timeout() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mean == 0 {
		return firstRTO
	}
	return min(r.mean+4*r.variance+minRTO, maxRTO)
}

func (r *rtt) smoothed() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mean
}
