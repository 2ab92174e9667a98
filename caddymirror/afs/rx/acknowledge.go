package rx

import "time"

const (
	// maxUnacked is how many packets of a batch may go without an ack, so that the
	// peer sends on while the batch is worked on.
	maxUnacked = 8
	// quickAcks is how many packets are acknowledged one by one after a loss, and
	// half of it at the start: the peer then sends few at a time, and waits.
	quickAcks = 16
	// When a reply stops coming, the latest ack is repeated after firstRepeat, then
	// at growing intervals, so many times: it may be lost, or the packets resent
	// for it, and the peer's own time-out is 200 ms at least.
	firstRepeat = 10 * time.Millisecond
	maxRepeats  = 5
)

// An acker is when to acknowledge a reply.
type acker struct {
	unacked int   // packets consumed since the last ack
	reason  uint8 // of the next ack, with serial
	serial  uint32
	queued  bool // for the end of the batch
	quick   int  // packets still to be acknowledged one by one
	gapAcks int  // packets that came after the present gap, since the last repetition

	repeatAt time.Time // zero: not
	pause    time.Duration
	repeats  int
}

// inOrder acknowledges a packet that made the reply longer.
func (c *call) inOrder(h *header, now time.Time, filled bool) consequence {
	c.unacked++
	c.gapAcks = 0
	if c.reason != reasonRequested || h.flags&flagRequest != 0 {
		c.reason, c.serial = reasonIdle, h.serial
	}
	if h.flags&flagRequest != 0 {
		c.reason = reasonRequested
	}
	then := thenNothing
	switch {
	case c.in.done():
		c.sendAck(c.reason, c.serial)
		c.end(nil, 0)
		return thenNothing
	case c.in.gap():
		c.tellGap(h.serial)
	case filled || c.unacked >= maxUnacked:
		c.sendAck(c.reason, c.serial)
	case c.queued:
	case c.unacked >= 2 || c.quick > 0 || c.reason == reasonRequested:
		c.queued = true
		then = thenAck
	}
	c.quick = max(c.quick-1, 0)
	c.expect(now)
	return then
}

// tellGap says at once what is missing. The peer resends it after three such acks
// and may, after three more, take the same gap for another loss and slow down
// again: so there are no more of them until repeatAck.
func (c *call) tellGap(serial uint32) {
	c.quick = quickAcks
	if c.gapAcks++; c.gapAcks <= nackThreshold {
		c.sendAck(reasonOutOfOrder, serial)
	}
}

// flushAck sends an ack that was put off to the end of a batch.
func (c *call) flushAck() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queued = false
	if c.running && c.unacked > 0 {
		c.sendAck(c.reason, c.serial)
	}
}

// expect starts to wait for more of the reply. c.mu is held.
func (c *call) expect(now time.Time) {
	c.pause = firstRepeat
	rtt := c.conn.peer.rtt.smoothed()
	if c.unacked > 0 || c.in.gap() {
		c.pause = max(c.pause, rtt/4) // an ack is owed, or a matter of order
	} else {
		c.pause = max(c.pause, 2*rtt)
	}
	c.repeats = 0
	c.repeatAt = now.Add(c.pause)
	c.wakeBy(c.repeatAt, now)
}

// repeatAck tells what was received if the reply has stopped coming, and returns
// when to look again. c.mu is held.
func (c *call) repeatAck(now time.Time) (at time.Time) {
	if c.repeatAt.IsZero() || now.Before(c.repeatAt) {
		return c.repeatAt
	}
	if c.in.gap() {
		for ; c.gapAcks < nackThreshold; c.gapAcks++ {
			c.sendAck(reasonOutOfOrder, 0)
		}
		c.gapAcks = 0
	} else {
		c.sendAck(reasonDelay, 0)
	}
	if c.repeats++; c.repeats == maxRepeats {
		c.repeatAt = time.Time{} // pings go on
		return c.repeatAt
	}
	c.pause = 2 * max(c.pause, c.conn.peer.rtt.smoothed())
	c.repeatAt = now.Add(c.pause)
	return c.repeatAt
}

// sendAck tells the peer what was received of the reply, and returns the ack's own
// serial. c.mu is held.
func (c *call) sendAck(reason uint8, serial uint32) uint32 {
	var soft [maxWindow]byte
	p := c.conn.peer
	h := c.header(typeAck)
	h.flags |= flagSlow
	if reason == reasonPing {
		h.flags |= flagRequest
	}
	h.serial = c.conn.serial.Add(1)
	a := newAck(reason, serial, p.e.options.Window)
	a.first, a.prev = c.in.next, c.in.highest
	a.soft = c.in.soft(soft[:0])
	c.unacked, c.reason = 0, 0
	p.send(a.append(h.append(c.scratch[:0])))
	return h.serial
}
