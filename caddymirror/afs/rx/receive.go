package rx

// A verdict is what became of a data packet.
type verdict int

const (
	consumed   verdict = iota // in order: copied to the reply
	filledGap                 // in order, while later ones were or are held
	heldBack                  // an earlier one is missing: kept
	duplicate                 // had it already
	outOfRange                // beyond the window: dropped
	nonsense                  // contradicts the reply's end: dropped
	overflowed                // in order, but the reply is longer than its buffer
)

// A receiver gathers the packets of one reply.
//
// Packets before next are in buf[:n]. Packets after next that came early are held
// in held[seq%maxWindow]; next itself is never held. next <= highest+1, and
// highest < next+window, so soft acks never exceed the window.
type receiver struct {
	buf     []byte
	n       int
	window  uint32
	next    uint32
	highest uint32
	last    uint32 // the reply's last packet, 0 while unknown
	held    [maxWindow]heldPacket
}

type heldPacket struct {
	data *buffer
	n    int
}

func newReceiver(buf []byte, window int) receiver {
	return receiver{buf: buf, window: uint32(window), next: 1}
}

// add takes the packet seq; last says that it ends the reply.
func (r *receiver) add(seq uint32, last bool, payload []byte) verdict {
	switch {
	case seq == 0 || len(payload) > bufferSize:
		return nonsense
	case seq < r.next:
		return duplicate
	case seq-r.next >= r.window:
		return outOfRange
	case r.last != 0 && seq > r.last, last && seq < r.highest:
		return nonsense
	case seq > r.next:
		return r.hold(seq, last, payload)
	}
	if last {
		r.last = seq
	}
	gap := r.gap()
	r.highest = max(r.highest, seq)
	if !r.consume(payload) {
		return overflowed
	}
	for {
		h := &r.held[r.next%maxWindow]
		if h.data == nil {
			break
		}
		fits := r.consume(h.data[:h.n])
		putBuffer(h.data)
		h.data = nil
		if !fits {
			return overflowed
		}
	}
	if gap {
		return filledGap
	}
	return consumed
}

func (r *receiver) hold(seq uint32, last bool, payload []byte) verdict {
	h := &r.held[seq%maxWindow]
	if h.data != nil {
		return duplicate
	}
	if last {
		r.last = seq
	}
	r.highest = max(r.highest, seq)
	h.data = getBuffer()
	h.n = copy(h.data[:], payload)
	return heldBack
}

// consume appends the packet next to the reply. Its slot is free by then.
func (r *receiver) consume(payload []byte) bool {
	if len(payload) > len(r.buf)-r.n {
		return false
	}
	r.n += copy(r.buf[r.n:], payload)
	r.next++
	return true
}

// gap tells whether a packet is missing before one that was received.
func (r *receiver) gap() bool { return r.highest > r.next }

// done tells whether the reply is complete.
func (r *receiver) done() bool { return r.last != 0 && r.next > r.last }

// soft appends a soft ack for each packet from next to highest.
func (r *receiver) soft(b []byte) []byte {
	for seq := r.next; seq <= r.highest; seq++ {
		if r.held[seq%maxWindow].data != nil {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	}
	return b
}

// drop forgets the buffer and the packets held.
func (r *receiver) drop() {
	r.buf = nil
	for i := range r.held {
		if r.held[i].data != nil {
			putBuffer(r.held[i].data)
			r.held[i].data = nil
		}
	}
}
