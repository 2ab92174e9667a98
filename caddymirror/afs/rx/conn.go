package rx

import (
	"sync/atomic"
	"time"
)

// A conn is a connection we opened: four channels to one peer.
type conn struct {
	peer   *Peer
	cid    uint32        // set when registered
	serial atomic.Uint32 // of the last packet sent
	calls  [channels]call
	heard  atomic.Bool // a call was answered

	// Guarded by Peer.mu. A busy channel belongs to one goroutine in Peer.Call;
	// active is how many are busy. A retired connection is not in Peer.conns, and
	// is in Endpoint.conns only while active.
	busy    [channels]bool
	rests   [channels]time.Time // not used before
	active  int
	used    time.Time // when a call ended last
	retired bool
}

func newConn(p *Peer) *conn {
	c := &conn{peer: p}
	for i := range c.calls {
		c.calls[i].init(c, uint32(i))
	}
	return c
}

// register makes packets find c and gives it a cid. It is false if the endpoint
// is closed.
func (e *Endpoint) register(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	c.cid = e.nextCID()
	e.conns[c.cid] = c
	return true
}

// nextCID returns a cid that nothing uses. e.mu is held.
func (e *Endpoint) nextCID() uint32 {
	for {
		cid := e.cid
		e.cid += channels
		if e.conns[cid] == nil && e.probes[cid] == nil {
			return cid
		}
	}
}

func (e *Endpoint) unregister(c *conn) {
	e.mu.Lock()
	delete(e.conns, c.cid)
	e.mu.Unlock()
}

// take returns a channel that can carry a call, or nil. Peer.mu is held.
func (c *conn) take(now time.Time) *call {
	for i := range c.calls {
		if !c.busy[i] && !now.Before(c.rests[i]) {
			c.busy[i] = true
			c.active++
			return &c.calls[i]
		}
	}
	return nil
}

// abort takes an abort of the whole connection.
func (c *conn) abort(body []byte) {
	code, ok := abortCode(body)
	if !ok {
		return
	}
	c.peer.lose(c)
	for i := range c.calls {
		c.calls[i].aborted(code)
	}
}
