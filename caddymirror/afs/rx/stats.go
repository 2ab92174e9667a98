package rx

import (
	"sync/atomic"
	"time"
)

// Stats counts what a [Peer] or an [Endpoint] did since it was made.
type Stats struct {
	In         uint64 // packets received and understood
	Out        uint64 // packets sent, acks too
	Resent     uint64 // packets of requests and replies sent again
	Duplicates uint64 // reply packets received more than once
	Gaps       uint64 // reply packets received before an earlier one
	Calls      uint64 // calls begun
	Aborts     uint64 // calls the peer aborted
	Dead       uint64 // calls that ended with ErrDead
	InFlight   int    // calls under way

	// RTT is the smoothed round-trip time, zero while unknown: of a peer only.
	RTT time.Duration

	// Of an endpoint only.
	Served  uint64 // calls from peers that were handed to Options.Handle
	Refused uint64 // calls from peers dropped because too many were under way
	Stray   uint64 // datagrams that belong to nothing
}

// counters are the live form of Stats.
type counters struct {
	in, out, resent, duplicates, gaps, calls, aborts, dead atomic.Uint64
	inFlight                                               atomic.Int64
}

func (c *counters) addTo(s *Stats) {
	s.In += c.in.Load()
	s.Out += c.out.Load()
	s.Resent += c.resent.Load()
	s.Duplicates += c.duplicates.Load()
	s.Gaps += c.gaps.Load()
	s.Calls += c.calls.Load()
	s.Aborts += c.aborts.Load()
	s.Dead += c.dead.Load()
	s.InFlight += int(c.inFlight.Load())
}

// Stats returns what was counted of p.
func (p *Peer) Stats() Stats {
	var s Stats
	p.count.addTo(&s)
	s.RTT = p.rtt.smoothed()
	return s
}

// Stats returns what was counted of all peers, and of the calls served.
func (e *Endpoint) Stats() Stats {
	var s Stats
	e.mu.RLock()
	for _, p := range e.peers {
		p.count.addTo(&s)
	}
	e.mu.RUnlock()
	e.server.count.addTo(&s)
	s.Served = e.server.served.Load()
	s.Refused = e.server.refused.Load()
	s.Stray = e.stray.Load()
	return s
}
