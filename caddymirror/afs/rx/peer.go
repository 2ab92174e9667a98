package rx

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// quarantine is how long a channel rests after its call was given up: the peer
	// may still be at work on it, and would refuse the next call.
	quarantine = time.Minute
	// maxIdle is how long a connection is used again: a server forgets it after 700
	// seconds, and then takes its next calls for those of a new one.
	maxIdle = 10 * time.Minute
	// openTime is how long other calls wait for the first one of a connection.
	openTime = time.Second
)

// A Peer is one service of one server. It is safe for concurrent use.
type Peer struct {
	e     *Endpoint
	key   peerKey
	rtt   rtt
	count counters
	mtu   atomic.Uint32 // longest packet the peer takes
	slots chan struct{} // one for each call in flight

	// mu guards what follows and, in conns, what conn says it guards. Endpoint.mu
	// may be taken under it.
	mu    sync.Mutex
	conns []*conn
	// opening is the latest of conns, while nothing has answered its first call, or
	// nil. It gets no second call until then, and no other connection is opened: a
	// file server asks who calls at the start of each connection, and refuses
	// others (VBUSY) while it asks.
	opening *conn
	news    chan struct{} // closed when waiting calls are to try again; nil if none waits
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
	case <-ctx.Done():
		return nil, crowded(ctx)
	case <-p.e.done:
		return nil, ErrClosed
	}
	for {
		k, news, err := p.tryTake()
		if news == nil {
			if err != nil {
				<-p.slots
			}
			return k, err
		}
		if err := p.await(ctx, news); err != nil {
			<-p.slots
			return nil, err
		}
	}
}

// tryTake returns a channel, or else what is closed when to try again.
func (p *Peer) tryTake() (*call, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for i := 0; i < len(p.conns); {
		c := p.conns[i]
		if c.active == 0 && now.Sub(c.used) > maxIdle {
			p.retire(c)
			continue
		}
		if c != p.opening {
			if k := c.take(now); k != nil {
				return k, nil, nil
			}
		}
		i++
	}
	if p.opening != nil {
		if p.news == nil {
			p.news = make(chan struct{})
		}
		return nil, p.news, nil
	}
	c, err := p.open(now)
	if err != nil {
		return nil, nil, err
	}
	p.opening = c
	return c.take(now), nil, nil
}

// await waits for news, or until the connection being opened has had its time.
func (p *Peer) await(ctx context.Context, news <-chan struct{}) error {
	timer := time.NewTimer(openTime)
	defer timer.Stop()
	select {
	case <-news:
	case <-timer.C:
		p.mu.Lock()
		p.opened(p.opening)
		p.mu.Unlock()
	case <-ctx.Done():
		return crowded(ctx)
	case <-p.e.done:
		return ErrClosed
	}
	return nil
}

// Full reports whether the peer has all the calls that it may have, so that another
// one waits for one of them to end.
func (p *Peer) Full() bool { return len(p.slots) == cap(p.slots) }

// crowded is the error of a call whose context has ended before it could begin.
func crowded(ctx context.Context) error {
	if err := ctx.Err(); errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrBusy, err)
	}
	return ctx.Err()
}

// open opens a connection; nothing is sent for it. p.mu is held.
func (p *Peer) open(now time.Time) (*conn, error) {
	c := newConn(p)
	c.used = now
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

// opened ends the opening of c, if it is being opened, and has the calls that
// wait try again. p.mu is held.
func (p *Peer) opened(c *conn) {
	if p.opening == c {
		p.opening = nil
	}
	if p.news != nil {
		close(p.news)
		p.news = nil
	}
}

// answered takes note that a call of c was answered for the first time.
func (p *Peer) answered(c *conn) {
	p.mu.Lock()
	p.opened(c)
	p.mu.Unlock()
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
	c.used = time.Now()
	p.opened(c)
	if o == channelRests {
		c.rests[k.channel] = c.used.Add(quarantine)
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
	p.opened(c)
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
