package rx

import "time"

// A consequence is what a call's packet asks of its caller, who does not hold
// the call's lock.
type consequence int

const (
	thenNothing consequence = iota
	thenAck                 // call flushAck at the end of the batch
	thenReuse               // the peer knows that the call is over
)

// packet takes a packet of the channel.
func (c *call) packet(h *header, body []byte, now time.Time) consequence {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.call != c.number {
		return thenNothing
	}
	if !c.running {
		return c.late(h, now)
	}
	// Even a busy peer is alive. The request will be sent again in time.
	c.heard, c.lastHeard = true, now
	switch h.typ {
	case typeData:
		return c.data(h, body, now)
	case typeAck:
		c.takeAck(h, body, now)
	case typeAckAll:
		c.out.finish()
	case typeAbort:
		if code, ok := abortCode(body); ok {
			c.end(code, 0)
		}
	}
	return thenNothing
}

// late takes a packet of a call that has ended.
func (c *call) late(h *header, now time.Time) consequence {
	asks := h.typ == typeData || h.typ == typeAck && h.flags&flagRequest != 0
	switch {
	case c.gaveUp != 0 && h.typ == typeAbort:
		return thenReuse
	case c.gaveUp != 0 && asks && now.Sub(c.lastAbort) >= abortEvery:
		c.sendAbort(now)
	case c.err == nil && h.typ == typeData:
		c.conn.peer.count.duplicates.Add(1)
		c.sendAck(reasonDuplicate, h.serial)
	case c.err == nil && asks:
		c.sendAck(reasonPingReply, h.serial)
	}
	return thenNothing
}

// data takes a packet of the reply.
func (c *call) data(h *header, body []byte, now time.Time) consequence {
	count := &c.conn.peer.count
	if h.flags&flagJumbo != 0 {
		return thenNothing // we never said that we take them
	}
	if !c.out.done() {
		c.out.finish() // nobody replies to half a request
	}
	switch c.in.add(h.seq, h.flags&flagLast != 0, body) {
	case consumed:
		return c.inOrder(h, now, false)
	case filledGap:
		return c.inOrder(h, now, true)
	case heldBack:
		count.gaps.Add(1)
		c.tellGap(h.serial, now)
	case duplicate:
		count.duplicates.Add(1)
		c.sendAck(reasonDuplicate, h.serial)
	case outOfRange:
		c.sendAck(reasonWindow, h.serial)
	case overflowed:
		c.end(ErrTooLong, UserAbort)
	case nonsense:
		c.conn.peer.e.stray.Add(1)
	}
	return thenNothing
}

// inOrder acknowledges a packet that made the reply longer.
func (c *call) inOrder(h *header, now time.Time, filled bool) consequence {
	c.unacked++
	c.gapAcks, c.gapWait = 0, 0
	if c.ackReason != reasonRequested || h.flags&flagRequest != 0 {
		c.ackReason, c.ackSerial = reasonIdle, h.serial
	}
	if h.flags&flagRequest != 0 {
		c.ackReason = reasonRequested
	}
	switch {
	case c.in.done():
		c.sendAck(c.ackReason, c.ackSerial)
		c.end(nil, 0)
	case c.in.gap():
		c.tellGap(h.serial, now)
	case filled || c.unacked >= maxUnacked:
		c.sendAck(c.ackReason, c.ackSerial)
	case c.queued:
	case c.unacked >= 2 || c.ackReason == reasonRequested:
		c.queued = true
		return thenAck
	default:
		c.ackAt = now.Add(ackDelay)
		c.wakeBy(c.ackAt, now)
	}
	return thenNothing
}

// tellGap says at once what is missing. The peer resends it after three such
// acks in a row.
func (c *call) tellGap(serial uint32, now time.Time) {
	if c.gapWait == 0 {
		c.gapWait = gapDelay + c.conn.peer.rtt.smoothed()/4
		c.gapAt = now.Add(c.gapWait)
		c.wakeBy(c.gapAt, now)
	}
	c.gapAcks++
	c.sendAck(reasonOutOfOrder, serial)
}

// repeatGap sends the acks that no packet prompts: too few came after the gap, or
// what was resent is lost again, and the peer's own time-out is 200 ms at least.
// It returns when to look again. c.mu is held.
func (c *call) repeatGap(now time.Time) (at time.Time) {
	if c.gapWait == 0 {
		return at
	}
	if !now.Before(c.gapAt) {
		for ; c.gapAcks < nackThreshold; c.gapAcks++ {
			c.sendAck(reasonOutOfOrder, 0)
		}
		c.gapAcks = 0
		c.gapWait = min(2*max(c.gapWait, c.conn.peer.rtt.smoothed()), maxGapWait)
		c.gapAt = now.Add(c.gapWait)
	}
	return c.gapAt
}

// flushAck sends an ack that was put off to the end of a batch.
func (c *call) flushAck() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queued = false
	if c.running && c.unacked > 0 {
		c.sendAck(c.ackReason, c.ackSerial)
	}
}

// delayedAck sends an ack if one is owed for long, and returns when to look
// again. c.mu is held.
func (c *call) delayedAck(now time.Time) (at time.Time) {
	if c.unacked == 0 {
		return at
	}
	if now.Before(c.ackAt) {
		return c.ackAt
	}
	c.sendAck(reasonDelay, 0)
	return at
}

// takeAck takes an ack: of the request, or one that asks whether we are there.
func (c *call) takeAck(h *header, body []byte, now time.Time) {
	a, ok := parseAck(body)
	if !ok {
		return
	}
	p := c.conn.peer
	p.learn(&a)
	if h.flags&flagRequest != 0 {
		c.sendAck(reasonPingReply, h.serial)
	}
	if a.reason == reasonPingReply && a.serial != 0 && a.serial == c.pingSerial {
		c.pingSerial = 0
		p.rtt.sample(now.Sub(c.lastPing))
	}
	if c.out.done() {
		return
	}
	if d := c.out.ack(a, h.serial, now); d > 0 {
		p.rtt.sample(d)
	}
	if c.out.ready() {
		c.signal()
	}
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
	c.unacked, c.ackReason = 0, 0
	p.send(a.append(h.append(c.scratch[:0])))
	return h.serial
}
