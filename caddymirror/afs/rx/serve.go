package rx

import (
	"container/list"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxHandlers bounds the calls handled at the same time.
	maxHandlers = 64
	// maxCallers bounds the connections of peers that are remembered, with up to
	// four replies each. Beyond, the one idle for longest is forgotten; a peer that
	// comes back starts anew.
	maxCallers = 1024
	// A reply is sent again after firstResend, twice that, ... until it was sent
	// maxSends times. The peer asks again by itself, too.
	firstResend = 500 * time.Millisecond
	maxSends    = 4
)

// A server answers the calls of peers. Their packets come from the reader;
// replies come from handlers and timers.
type server struct {
	e               *Endpoint
	slots           chan struct{} // one for each handler
	count           counters
	served, refused atomic.Uint64

	// mu guards what follows. It is a leaf, and replies are sent under it.
	mu      sync.Mutex
	closed  bool
	callers map[callerKey]*caller
	recent  list.List // of *caller, the latest used first
}

// A callerKey is a connection a peer opened. That its address belongs to it keeps
// strangers out, and makes answers go where the question came from.
type callerKey struct {
	addr       netip.AddrPort
	epoch, cid uint32
}

// A caller is a connection a peer opened. server.mu guards it.
type caller struct {
	key     callerKey
	service uint16
	serial  uint32
	calls   [channels]served
	element *list.Element // in server.recent
	gone    bool          // from server.callers
}

type servedState int

const (
	settled  servedState = iota // nothing to do: no call yet, or its reply is acknowledged
	handling                    // the handler is at work
	replied                     // answer holds the reply until it is acknowledged
	refused                     // answer holds the abort, should the peer ask again
)

// A served is the latest call of a channel.
type served struct {
	number uint32
	state  servedState
	reply  []byte
	code   Abort
	sends  int
	timer  *time.Timer
}

func (s *server) init(e *Endpoint) {
	s.e = e
	s.slots = make(chan struct{}, maxHandlers)
	s.callers = make(map[callerKey]*caller)
	s.recent.Init()
}

// close makes the server silent.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for s.recent.Len() > 0 {
		s.forget(s.recent.Front().Value.(*caller))
	}
}

// packet takes a packet of a connection a peer opened.
func (s *server) packet(h header, body []byte, from netip.AddrPort) {
	key := callerKey{from, h.epoch, h.cid &^ channelMask}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	c := s.callers[key]
	if c != nil && (h.service != c.service || h.security != 0) {
		s.e.stray.Add(1)
		return
	}
	if h.typ == typeData {
		s.request(c, key, h, body)
		return
	}
	if c == nil { // nothing we know of: an answer would only help a flood
		s.e.stray.Add(1)
		return
	}
	s.count.in.Add(1)
	s.touch(c)
	if h.call == 0 {
		if h.typ == typeAbort {
			s.forget(c)
		}
		return
	}
	call := &c.calls[h.cid&channelMask]
	if h.call != call.number {
		return
	}
	switch h.typ {
	case typeAck:
		s.ack(c, call, h, body)
	case typeAckAll, typeAbort:
		call.settle()
	}
}

// request takes a data packet: of a new call, or again of one we know.
func (s *server) request(c *caller, key callerKey, h header, body []byte) {
	if h.call == 0 || h.seq == 0 {
		s.e.stray.Add(1)
		return
	}
	if s.e.options.Handle == nil || h.security != 0 {
		s.abortRaw(key.addr, h, InvalidOperation)
		return
	}
	if c != nil {
		call := &c.calls[h.cid&channelMask]
		switch {
		case h.call < call.number:
			return // long over
		case h.call == call.number:
			s.touch(c)
			s.again(c, call, h)
			return
		case call.state == handling:
			s.send(c, s.header(c, h.cid, h.call, typeBusy), nil)
			return
		}
	}
	switch {
	case h.seq != 1 || h.flags&flagLast == 0 || h.flags&flagJumbo != 0 || len(body) > maxPayload:
		s.abortRaw(key.addr, h, ProtocolError) // one packet is all we take
		return
	case len(body) < 4:
		s.abortRaw(key.addr, h, ServerUnmarshal)
		return
	}
	select {
	case s.slots <- struct{}{}:
	default:
		s.refused.Add(1)
		return
	}
	if c == nil {
		c = s.remember(key, h.service)
	}
	s.touch(c)
	s.count.in.Add(1)
	s.served.Add(1)
	call := &c.calls[h.cid&channelMask]
	call.settle()
	call.number, call.state = h.call, handling
	if h.flags&flagRequest != 0 {
		s.sendAck(c, h, reasonRequested)
	}
	go s.handle(c, h, Request{
		From: key.addr, Service: h.service, Epoch: h.epoch,
		Body: append([]byte(nil), body...),
	})
}

// handle has a call handled, and replies.
func (s *server) handle(c *caller, h header, r Request) {
	var reply []byte
	var code int32
	if err := s.e.contained("rx handler", func() error {
		reply, code = s.e.options.Handle(r)
		return nil
	}); err != nil {
		reply, code = nil, UserAbort
	}
	<-s.slots
	if len(reply) > MaxReply {
		reply, code = nil, MessageSize
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	call := &c.calls[h.cid&channelMask]
	if s.closed || call.number != h.call || call.state != handling {
		return // given up by the peer
	}
	call.reply, call.code, call.sends = reply, Abort(code), 0
	call.state = replied
	if code != 0 {
		call.reply, call.state = nil, refused
	}
	s.answer(c, call, h.cid)
	if call.state == replied && !c.gone {
		call.timer = time.AfterFunc(firstResend, func() {
			_ = s.e.contained("rx handler", func() error {
				s.resend(c, call, h)
				return nil
			})
		})
	}
}

// resend sends a reply again, if it is not acknowledged.
func (s *server) resend(c *caller, call *served, h header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || c.gone || call.number != h.call || call.state != replied || call.sends >= maxSends {
		return
	}
	s.answer(c, call, h.cid)
	if call.sends < maxSends {
		call.timer.Reset(firstResend << (call.sends - 1))
	}
}

// again answers a request that was sent again.
func (s *server) again(c *caller, call *served, h header) {
	s.count.in.Add(1)
	s.count.duplicates.Add(1)
	switch call.state {
	case replied, refused:
		s.answer(c, call, h.cid)
	case handling, settled:
		s.sendAck(c, h, reasonDuplicate)
	}
}

// ack takes an ack of a reply, or a ping.
func (s *server) ack(c *caller, call *served, h header, body []byte) {
	a, ok := parseAck(body)
	if !ok {
		return
	}
	if h.flags&flagRequest != 0 {
		s.sendAck(c, h, reasonPingReply)
	}
	// Packet 1 is all there is.
	if call.state == replied && (a.first == 2 || a.first == 1 && len(a.soft) > 0 && a.soft[0]&1 != 0) {
		call.settle()
	}
}

// answer sends the reply of a call, or its abort.
func (s *server) answer(c *caller, call *served, cid uint32) {
	h := s.header(c, cid, call.number, typeData)
	if call.state == refused {
		s.write(c.key.addr, h.appendAbort(nil, call.code))
		return
	}
	h.seq, h.flags = 1, flagLast
	if call.sends > 0 {
		h.flags |= flagRequest
		s.count.resent.Add(1)
	}
	call.sends++
	s.send(c, h, call.reply)
}

// sendAck says that the request is with its handler.
func (s *server) sendAck(c *caller, to header, reason uint8) {
	a := newAck(reason, to.serial, s.e.options.Window)
	a.first, a.prev = 2, 1
	h := s.header(c, to.cid, to.call, typeAck)
	h.flags = flagSlow
	s.send(c, h, a.append(nil))
}

func (s *server) header(c *caller, cid, call uint32, typ uint8) header {
	c.serial++
	return header{
		epoch: c.key.epoch, cid: cid, call: call, serial: c.serial,
		typ: typ, service: c.service,
	}
}

func (s *server) send(c *caller, h header, body []byte) {
	b := make([]byte, 0, headerSize+len(body))
	s.write(c.key.addr, append(h.append(b), body...))
}

func (s *server) write(to netip.AddrPort, b []byte) {
	s.count.out.Add(1)
	_ = s.e.sock.send(b, to) // a loss is the peer's to repair
}

// abortRaw aborts the call of h without remembering it.
func (s *server) abortRaw(to netip.AddrPort, h header, code Abort) {
	h.flags, h.serial = 0, 0
	s.write(to, h.appendAbort(nil, code))
}

// remember makes room for a new caller.
func (s *server) remember(key callerKey, service uint16) *caller {
	if s.recent.Len() >= maxCallers {
		s.forget(s.recent.Back().Value.(*caller))
	}
	c := &caller{key: key, service: service}
	c.element = s.recent.PushFront(c)
	s.callers[key] = c
	return c
}

func (s *server) touch(c *caller) { s.recent.MoveToFront(c.element) }

// forget drops a caller. Handlers at work for it still reply, once.
func (s *server) forget(c *caller) {
	c.gone = true
	delete(s.callers, c.key)
	s.recent.Remove(c.element)
	for i := range c.calls {
		if call := &c.calls[i]; call.state != handling {
			call.settle()
		}
	}
}

// settle drops what was kept of a call but its number.
func (c *served) settle() {
	c.state, c.reply = settled, nil
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}
