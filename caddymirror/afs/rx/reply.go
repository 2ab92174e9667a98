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
	if !c.out.done() { // nobody replies to half a request
		if d := c.out.replied(now); d > 0 {
			c.conn.peer.rtt.sample(d)
		}
	}
	switch c.in.add(h.seq, h.flags&flagLast != 0, body) {
	case consumed:
		return c.inOrder(h, now, false)
	case filledGap:
		return c.inOrder(h, now, true)
	case heldBack:
		count.gaps.Add(1)
		c.tellGap(h.serial)
		c.expect(now)
	case duplicate:
		count.duplicates.Add(1)
		c.quick = quickAcks
		c.sendAck(reasonDuplicate, h.serial)
		c.expect(now)
	case outOfRange:
		c.sendAck(reasonWindow, h.serial)
	case overflowed:
		c.end(ErrTooLong, UserAbort)
	case nonsense:
		c.conn.peer.e.stray.Add(1)
	}
	return thenNothing
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
