package rx

import (
	"sync/atomic"
	"time"
)

const (
	// firstWindow is what a peer takes before its first ack says otherwise.
	firstWindow = 16
	// firstFlight is how many packets of a request start it.
	firstFlight = 4
	// nackThreshold is how many acks must miss a packet before it is resent.
	nackThreshold = 3
)

// A sender decides which packets of one request are sent, and when again.
//
// Packets before first are acknowledged for good, packets from next on were
// never sent; those between have their state in slots[seq%maxWindow], and there
// are never more than window of them. A packet that is neither acked nor lost is
// in flight, and there are never more than cwnd of those.
type sender struct {
	size   int    // payload of a packet
	total  uint32 // packets
	first  uint32
	next   uint32
	window uint32 // the peer's
	slots  [maxWindow]slot

	cwnd      uint32 // congestion window, in packets
	threshold uint32 // slow start ends here
	grown     uint32 // packets acked since cwnd last grew beyond threshold
	recovery  uint32 // packets before it were sent before the last loss
	backoff   uint

	newest uint32 // serial of the newest ack seen
	heard  bool   // newest is valid
}

type slot struct {
	serial uint32
	sent   time.Time
	nacks  uint8
	again  bool // was resent
	acked  bool // by a soft ack, which the peer may take back
	lost   bool
}

// An outgoing packet is one the sender wants sent now.
type outgoing struct {
	seq, serial uint32
	flags       uint8
	again       bool
}

// newSender returns the sender of a request of length bytes.
func newSender(length, size int) sender {
	return sender{
		size: size, total: uint32(max(1, (length+size-1)/size)),
		first: 1, next: 1, window: firstWindow,
		cwnd: firstFlight, threshold: maxWindow,
	}
}

// chunk returns the payload of packet seq of a request.
func chunk(request []byte, size int, seq uint32) []byte {
	from := int(seq-1) * size
	return request[from:min(from+size, len(request))]
}

// done tells whether the peer has all of the request for good.
func (s *sender) done() bool { return s.first > s.total }

// finish takes the whole request as acknowledged: a reply does that.
func (s *sender) finish() {
	s.first, s.next = s.total+1, s.total+1
}

// replied takes the start of the reply, which acknowledges all of the request. It
// returns the time that took if it says something of the path: the peer was quick,
// and the request was sent once.
func (s *sender) replied(now time.Time) (rtt time.Duration) {
	if last := s.slot(s.total); s.next > s.total && !last.again {
		if d := now.Sub(last.sent); d < minRTO {
			rtt = d
		}
	}
	s.finish()
	return rtt
}

func (s *sender) slot(seq uint32) *slot { return &s.slots[seq%maxWindow] }

func (s *sender) inFlight() (n uint32) {
	for seq := s.first; seq < s.next; seq++ {
		if t := s.slot(seq); !t.acked && !t.lost {
			n++
		}
	}
	return n
}

// ready tells whether burst would send anything.
func (s *sender) ready() bool {
	if s.inFlight() >= s.cwnd {
		return false
	}
	if s.next <= s.total && s.next-s.first < s.window {
		return true
	}
	for seq := s.first; seq < s.next; seq++ {
		if t := s.slot(seq); t.lost && !t.acked {
			return true
		}
	}
	return false
}

// burst appends to out the packets to send now, lost ones first.
func (s *sender) burst(now time.Time, serial *atomic.Uint32, out []outgoing) []outgoing {
	flying := s.inFlight()
	for seq := s.first; seq < s.next && flying < s.cwnd; seq++ {
		if t := s.slot(seq); t.lost && !t.acked {
			*t = slot{serial: serial.Add(1), sent: now, again: true}
			out = append(out, s.outgoing(seq, t))
			flying++
		}
	}
	for s.next <= s.total && s.next-s.first < s.window && flying < s.cwnd {
		t := s.slot(s.next)
		*t = slot{serial: serial.Add(1), sent: now}
		out = append(out, s.outgoing(s.next, t))
		s.next++
		flying++
	}
	// The end of a burst asks for an ack, which clocks the next one. The reply is
	// the ack of the request's end.
	if n := len(out); n > 0 && out[n-1].seq != s.total {
		out[n-1].flags |= flagRequest
	}
	return out
}

func (s *sender) outgoing(seq uint32, t *slot) outgoing {
	o := outgoing{seq: seq, serial: t.serial, flags: flagClient, again: t.again}
	if seq == s.total {
		o.flags |= flagLast
	}
	if t.again {
		o.flags |= flagRequest
	}
	return o
}

// ack takes an ack whose packet had serial. It returns the time since the packet
// that prompted the ack was sent, or 0 if that says nothing of the path.
func (s *sender) ack(a ack, serial uint32, now time.Time) (rtt time.Duration) {
	switch {
	case a.first < s.first, a.first > s.next:
		return 0
	case a.first == s.first && s.heard && int32(serial-s.newest) < 0:
		return 0 // overtaken by a newer one
	}
	s.newest, s.heard = serial, true
	rtt = s.roundTrip(a, now)
	if a.window > 0 {
		s.window = min(a.window, maxWindow)
	}
	fresh := s.hardAck(a.first)
	fresh += s.softAck(a)
	if fresh > 0 {
		s.backoff = 0
		s.grow(fresh)
	}
	s.countNacks(a)
	return rtt
}

func (s *sender) roundTrip(a ack, now time.Time) time.Duration {
	switch a.reason {
	case reasonRequested, reasonDuplicate, reasonOutOfOrder:
	default:
		return 0 // may have been held back
	}
	if a.serial == 0 {
		return 0
	}
	for seq := s.first; seq < s.next; seq++ {
		if t := s.slot(seq); t.serial == a.serial {
			return now.Sub(t.sent)
		}
	}
	return 0
}

func (s *sender) hardAck(first uint32) (fresh uint32) {
	for ; s.first < first; s.first++ {
		if !s.slot(s.first).acked {
			fresh++
		}
	}
	return fresh
}

func (s *sender) softAck(a ack) (fresh uint32) {
	for i, bits := range a.soft {
		seq := a.first + uint32(i)
		if seq >= s.next {
			break
		}
		t := s.slot(seq)
		got := bits&1 != 0
		if got && !t.acked {
			fresh++
		}
		t.acked = got
	}
	return fresh
}

// countNacks finds packets that were sent before one the peer has.
func (s *sender) countNacks(a ack) {
	top := uint32(0)
	for seq := s.first; seq < s.next; seq++ {
		if s.slot(seq).acked {
			top = seq
		}
	}
	for seq := s.first; seq < top; seq++ {
		t := s.slot(seq)
		if t.acked || t.lost {
			continue
		}
		// Only what was sent after a packet tells that the packet is missing; after
		// a resend, the order of packets says nothing, but that of serials does.
		if a.serial == 0 && t.again || a.serial != 0 && int32(a.serial-t.serial) <= 0 {
			continue
		}
		if t.nacks++; t.nacks < nackThreshold {
			continue
		}
		t.lost = true
		if seq >= s.recovery {
			s.recovery = s.next
			s.threshold = max(s.cwnd/2, 2)
			s.cwnd = s.threshold
		}
	}
}

func (s *sender) grow(fresh uint32) {
	if s.cwnd < s.threshold {
		s.cwnd = min(s.cwnd+fresh, maxWindow)
		return
	}
	if s.grown += fresh; s.grown >= s.cwnd {
		s.grown = 0
		s.cwnd = min(s.cwnd+1, maxWindow)
	}
}

// deadline returns when the oldest packet in flight is taken as lost, if rto is
// the time-out of a first try. It is zero if nothing is in flight.
func (s *sender) deadline(rto, limit time.Duration) (at time.Time) {
	for seq := s.first; seq < s.next; seq++ {
		if t := s.slot(seq); !t.acked && !t.lost && (at.IsZero() || t.sent.Before(at)) {
			at = t.sent
		}
	}
	if at.IsZero() {
		return at
	}
	return at.Add(min(rto<<s.backoff, limit))
}

// expire takes all packets in flight as lost and starts again with one.
func (s *sender) expire() {
	s.threshold = max(s.inFlight()/2, 2)
	for seq := s.first; seq < s.next; seq++ {
		if t := s.slot(seq); !t.acked {
			t.lost = true
		}
	}
	s.cwnd, s.grown = 1, 0
	s.recovery = s.next
	s.backoff = min(s.backoff+1, 6)
}
