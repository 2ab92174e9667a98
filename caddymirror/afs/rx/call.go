package rx

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// maxRefused is after how many equal aborts in a row a channel is not used any
	// more. File servers delay the eleventh by three seconds.
	maxRefused = 8

	pingEvery = 2 * time.Second
	// abortEvery bounds how often a peer is told that a call was given up.
	abortEvery = 100 * time.Millisecond
)

// A call is the state of a channel's current call, or of its latest.
//
// While running is false nothing touches the caller's buffers. What is left then
// answers packets of the peer that come late: it may have missed our last ack,
// or our abort.
type call struct {
	conn    *conn
	channel uint32
	wake    chan struct{} // tells the goroutine in Call to look again
	timer   *time.Timer   // tells it to look again in time

	// mu guards what follows. It is a leaf: no lock but rtt.mu is taken under it.
	// Acks are sent under it.
	mu      sync.Mutex
	number  uint32
	refused Abort     // what the calls before ended with
	times   int       // how many of them in a row
	wakeAt  time.Time // of timer
	scratch [maxAck]byte
	callState
}

// callState is what a new call starts afresh.
type callState struct {
	out sender
	in  receiver
	acker
	running bool
	err     error // why it ended; nil is a reply
	gaveUp  Abort // what we aborted it with, or 0

	heard      bool      // anything, during this call
	lastHeard  time.Time // or the start
	lastPing   time.Time
	pingSerial uint32
	lastAbort  time.Time
}

func (c *call) init(owner *conn, channel uint32) {
	c.conn, c.channel = owner, channel
	c.wake = make(chan struct{}, 1)
	c.timer = time.NewTimer(time.Hour)
	c.timer.Stop()
}

// Call sends request, which starts with the opcode and may have any length, and
// gathers the reply in reply[:n]. Both buffers are the endpoint's until Call
// returns, and not touched afterwards. The reply's packets are copied as they
// come: no call ever waits for its caller to read.
//
// A reply that does not fit fails with [ErrTooLong], a peer that falls silent
// with [ErrDead], an abort of the peer's with the [Abort]. When ctx ends, the
// peer is told, and the error wraps ctx.Err(). Errors are of type [*CallError].
//
// If all MaxConns connections have their four calls, Call waits for one to end, and
// fails with [ErrBusy] if none does before ctx ends. It also waits, up to a second,
// while another call is the first of a new connection: a file server refuses calls
// that come before it knows who calls.
func (p *Peer) Call(ctx context.Context, request, reply []byte) (n int, err error) {
	return p.CallWithin(ctx, 0, request, reply)
}

// CallWithin is Call with a deadline that counts from when the call begins, and not
// while it waits for others. The error is the same as if ctx had it. 0 is no
// deadline.
func (p *Peer) CallWithin(ctx context.Context, within time.Duration, request, reply []byte) (n int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, p.failed(err, false, 0)
	}
	c, err := p.take(ctx)
	if err != nil {
		return 0, p.failed(err, false, 0)
	}
	if within > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, within)
		defer cancel()
	}
	start := time.Now()
	p.count.calls.Add(1)
	p.count.inFlight.Add(1)
	defer p.count.inFlight.Add(-1)

	broken := p.e.contained("rx call", func() error {
		c.begin(request, reply)
		c.wait(ctx, request)
		return nil
	})
	if broken != nil {
		c.giveUp(broken, UserAbort)
	}
	n, heard, then, err := c.result()
	if broken != nil {
		err, then = broken, connectionLost
	}
	p.release(c, then)
	if err != nil {
		return 0, p.failed(err, heard, time.Since(start))
	}
	return n, nil
}

func (p *Peer) failed(err error, heard bool, took time.Duration) error {
	var abort Abort
	switch {
	case errors.As(err, &abort):
		p.count.aborts.Add(1)
	case err == ErrDead:
		p.count.dead.Add(1)
	}
	return &CallError{Peer: p.key.addr, Service: p.key.service, Heard: heard, Took: took, Err: err}
}

// begin makes c a new call.
func (c *call) begin(request, reply []byte) {
	p := c.conn.peer
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.wake: // the last call's
	default:
	}
	c.number++
	c.callState = callState{
		out:       newSender(len(request), int(p.mtu.Load())-headerSize),
		in:        newReceiver(reply, p.e.options.Window),
		acker:     acker{quick: quickAcks / 2},
		running:   true,
		lastHeard: time.Now(),
	}
}

// wait sends the request and does what the call needs in time, until it ends.
func (c *call) wait(ctx context.Context, request []byte) {
	size := c.out.size // does not change
	out := make([]outgoing, 0, maxWindow)
	for {
		var running bool
		if out, running = c.tick(out[:0]); !running {
			return
		}
		c.transmit(request, size, out)
		select {
		case <-c.wake:
		case <-c.timer.C:
		case <-ctx.Done():
			code := Abort(UserAbort)
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				code = CallTimeout
			}
			c.giveUp(ctx.Err(), code)
		case <-c.conn.peer.e.done:
			c.giveUp(ErrClosed, UserAbort)
		}
	}
}

// tick does what is due, appends to out the packets of the request to be sent
// now, and sets the timer for what is due next.
func (c *call) tick(out []outgoing) (_ []outgoing, running bool) {
	p := c.conn.peer
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running {
		return out, false
	}
	now := time.Now()
	next := c.lastHeard.Add(p.e.options.Dead)
	if !now.Before(next) {
		c.end(ErrDead, CallTimeout)
		return out, false
	}

	if c.out.done() {
		next = earlier(next, c.keepAlive(now))
	} else {
		limit := min(maxRTO, p.e.options.Dead/4)
		rto := p.rtt.timeout()
		if at := c.out.deadline(rto, limit); !at.IsZero() && !now.Before(at) {
			c.out.expire()
		}
		out = c.out.burst(now, &c.conn.serial, out)
		if at := c.out.deadline(rto, limit); !at.IsZero() {
			next = earlier(next, at)
		} else {
			next = earlier(next, c.keepAlive(now))
		}
	}
	if at := c.repeatAck(now); !at.IsZero() {
		next = earlier(next, at)
	}
	c.wakeAt = next
	c.timer.Reset(next.Sub(now))
	return out, true
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// wakeBy makes tick happen at that time at the latest. c.mu is held.
func (c *call) wakeBy(at, now time.Time) {
	if at.Before(c.wakeAt) {
		c.wakeAt = at
		c.timer.Reset(at.Sub(now))
	}
}

// keepAlive pings the peer if it was silent for long, and returns when to look
// again. c.mu is held.
func (c *call) keepAlive(now time.Time) time.Time {
	last := c.lastHeard
	if c.lastPing.After(last) {
		last = c.lastPing
	}
	// Some of them may get lost before the peer counts as dead.
	every := min(pingEvery, c.conn.peer.e.options.Dead/5)
	if at := last.Add(every); now.Before(at) {
		return at
	}
	c.lastPing = now
	c.pingSerial = c.sendAck(reasonPing, 0)
	return now.Add(every)
}

// transmit sends packets of the request. c.mu is not held: only this goroutine
// sends them, and the request does not change.
func (c *call) transmit(request []byte, size int, out []outgoing) {
	if len(out) == 0 {
		return
	}
	p := c.conn.peer
	buf := getBuffer()
	defer putBuffer(buf)
	h := c.header(typeData)
	for _, o := range out {
		if o.again {
			p.count.resent.Add(1)
		}
		h.seq, h.serial, h.flags = o.seq, o.serial, o.flags
		p.send(append(h.append(buf[:0]), chunk(request, size, o.seq)...))
	}
}

// header returns the header of a packet of this call without a serial.
func (c *call) header(typ uint8) header {
	return header{
		epoch:   c.conn.peer.e.epoch,
		cid:     c.conn.cid | c.channel,
		call:    c.number,
		typ:     typ,
		flags:   flagClient,
		service: c.conn.peer.key.service,
	}
}

// result returns how the call ended.
func (c *call) result() (n int, heard bool, then outcome, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer.Stop()
	abort, _ := errors.AsType[Abort](c.err)
	if abort != c.refused {
		c.refused, c.times = abort, 0
	}
	if abort != 0 {
		c.times++
	}
	switch {
	case c.err == ErrDead || c.number == 1<<31: // numbers only rise
		then = connectionLost
	case c.times >= maxRefused:
		then = connectionLost
	case c.gaveUp != 0:
		then = channelRests
	}
	return c.in.n, c.heard, then, c.err
}

// giveUp ends the call, if it runs, and tells the peer.
func (c *call) giveUp(err error, code Abort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		c.end(err, code)
	}
}

// aborted ends the call, if it runs, as the peer told.
func (c *call) aborted(code Abort) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running {
		c.end(code, 0)
	}
}

// end ends the call; a code other than 0 is sent to the peer. c.mu is held.
func (c *call) end(err error, code Abort) {
	c.running, c.err = false, err
	c.in.drop()
	c.out.finish()
	if code != 0 {
		c.gaveUp = code
		c.sendAbort(time.Now())
	}
	c.signal()
}

// signal wakes the goroutine in Call.
func (c *call) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// sendAbort tells the peer that the call was given up. c.mu is held.
func (c *call) sendAbort(now time.Time) {
	c.lastAbort = now
	h := c.header(typeAbort)
	h.serial = c.conn.serial.Add(1)
	c.conn.peer.send(h.appendAbort(c.scratch[:0], c.gaveUp))
}
