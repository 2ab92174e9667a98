package rx

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// quarantine is how long a channel rests after its call was given up: the peer
// may still be at work on it, and would refuse the next call.
const quarantine = time.Minute

// A Peer is one service of one server. It is safe for concurrent use.
type Peer struct {
	e     *Endpoint
	key   peerKey
	rtt   rtt
	count counters
	mtu   atomic.Uint32 // longest packet the peer takes
	slots chan struct{} // one for each call in flight

	// mu guards conns and, in them, what conn says it guards. Endpoint.mu may be
	// taken under it.
	mu    sync.Mutex
	conns []*conn
}

func newPeer(e *Endpoint, key peerKey) *Peer {
	p := &Peer{e: e, key: key, slots: make(chan struct{}, e.options.MaxConns*channels)}
	p.mtu.Store(maxPacket)
	return p
}

// Addr returns the peer's address.
func (p *Peer) Addr() netip.AddrPort { return p.key.addr }

// Reset forgets the connections: the next call opens a new one. Calls in flight
// go on. Use it after a time-out or when a NAT has changed, since a server goes
// on answering to the address a connection came from first.
func (p *Peer) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.conns) > 0 {
		p.retire(p.conns[0])
	}
}

// take waits for a place for a call and returns the channel for it.
func (p *Peer) take(ctx context.Context) (*call, error) {
	select {
	case p.slots <- struct{}{}:
	default:
		select {
		case p.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-p.e.done:
			return nil, ErrClosed
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, c := range p.conns {
		if k := c.take(now); k != nil {
			return k, nil
		}
	}
	c, err := p.open()
	if err != nil {
		<-p.slots
		return nil, err
	}
	return c.take(now), nil
}

// open opens a connection; nothing is sent for it. p.mu is held.
func (p *Peer) open() (*conn, error) {
	c := newConn(p)
	if !p.e.register(c) {
		return nil, ErrClosed
	}
	if len(p.conns) >= p.e.options.MaxConns {
		// No channel was free, so a connection without calls has only resting ones.
		if i := slices.IndexFunc(p.conns, func(c *conn) bool { return c.active == 0 }); i >= 0 {
			p.retire(p.conns[i])
		}
	}
	p.conns = append(p.conns, c)
	return c, nil
}

// An outcome says what may become of the channel of a call that has ended.
type outcome int

const (
	channelFree  outcome = iota
	channelRests         // the peer may not know yet that the call has ended
	connectionLost
)

// release gives back the channel of k.
func (p *Peer) release(k *call, o outcome) {
	p.mu.Lock()
	c := k.conn
	c.busy[k.channel] = false
	c.active--
	if o == channelRests {
		c.rests[k.channel] = time.Now().Add(quarantine)
	}
	switch {
	case o == connectionLost && !c.retired:
		p.retire(c)
	case c.retired && c.active == 0:
		p.e.unregister(c)
	}
	p.mu.Unlock()
	<-p.slots
}

// reusable ends the quarantine of k's channel.
func (p *Peer) reusable(k *call) {
	p.mu.Lock()
	k.conn.rests[k.channel] = time.Time{}
	p.mu.Unlock()
}

// lose retires c for the next calls.
func (p *Peer) lose(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.retired {
		p.retire(c)
	}
}

// retire takes c out of use; it is forgotten once its calls have ended. p.mu is
// held.
func (p *Peer) retire(c *conn) {
	c.retired = true
	if i := slices.Index(p.conns, c); i >= 0 {
		p.conns = slices.Delete(p.conns, i, i+1)
	}
	if c.active == 0 {
		p.e.unregister(c)
	}
}

// send sends a packet. An error is like a loss: time will tell.
func (p *Peer) send(b []byte) {
	p.count.out.Add(1)
	_ = p.e.sock.send(b, p.key.addr)
}

// learn takes the longest packet the peer says it accepts.
func (p *Peer) learn(a *ack) {
	mtu := uint32(maxPacket)
	for _, m := range []uint32{a.maxMTU, a.ifMTU} {
		if m != 0 {
			mtu = min(mtu, m)
		}
	}
	if mtu = max(mtu, minPacket); p.mtu.Load() != mtu {
		p.mtu.Store(mtu)
	}
}
