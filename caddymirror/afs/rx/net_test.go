package rx

import (
	"container/heap"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// faults say what a network does to a packet.
type faults struct {
	loss, dup, reorder float64       // probabilities
	delay              time.Duration // one way
	spacing            time.Duration // between packets, as a slow link makes it
}

// A network carries datagrams between its ports, in memory. In a synctest bubble
// its delays take no time.
type network struct {
	mu     sync.Mutex
	rnd    *rand.Rand
	faults faults
	drop   func(from, to netip.AddrPort, b []byte) bool // besides the faults, if set
	ports  map[netip.AddrPort]*port
	sent   atomic.Int64
	lost   atomic.Int64
}

func newNetwork(seed uint64, f faults) *network {
	return &network{
		rnd:    rand.New(rand.NewPCG(seed, 1)),
		faults: f,
		ports:  make(map[netip.AddrPort]*port),
	}
}

func (n *network) set(f faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

func (n *network) listen(addr string) *port {
	p := &port{
		net: n, addr: netip.MustParseAddrPort(addr),
		news: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ports[p.addr] = p
	return p
}

func (n *network) send(from, to netip.AddrPort, b []byte) {
	n.sent.Add(1)
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.ports[to]
	if p == nil || n.drop != nil && n.drop(from, to, b) || n.rnd.Float64() < n.faults.loss {
		n.lost.Add(1)
		return
	}
	now := time.Now()
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(n.faults.spacing)
	due := p.free.Add(n.faults.delay)
	if n.rnd.Float64() < n.faults.reorder {
		due = due.Add(time.Duration(n.rnd.Int64N(int64(2*n.faults.delay + time.Millisecond))))
	}
	p.put(parcel{due: due, from: from, b: append([]byte(nil), b...)})
	if n.rnd.Float64() < n.faults.dup {
		p.put(parcel{due: due.Add(time.Duration(n.rnd.Int64N(int64(time.Millisecond)))), from: from, b: append([]byte(nil), b...)})
	}
}

// A parcel is a datagram under way.
type parcel struct {
	due  time.Time
	n    int // keeps the order of those due at the same time
	from netip.AddrPort
	b    []byte
}

type parcels []parcel

func (p parcels) Len() int { return len(p) }
func (p parcels) Less(i, j int) bool {
	if p[i].due.Equal(p[j].due) {
		return p[i].n < p[j].n
	}
	return p[i].due.Before(p[j].due)
}
func (p parcels) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *parcels) Push(x any)   { *p = append(*p, x.(parcel)) }
func (p *parcels) Pop() any {
	last := (*p)[len(*p)-1]
	*p = (*p)[:len(*p)-1]
	return last
}

// A port is a net.PacketConn on a network.
type port struct {
	net    *network
	addr   netip.AddrPort
	free   time.Time // of its link; network.mu
	news   chan struct{}
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex
	n     int
	inbox parcels
}

func (p *port) put(m parcel) {
	p.mu.Lock()
	p.n++
	m.n = p.n
	heap.Push(&p.inbox, m)
	p.mu.Unlock()
	select {
	case p.news <- struct{}{}:
	default:
	}
}

// take returns a datagram that is due, or else how long to wait for one.
func (p *port) take() (parcel, bool, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.inbox) == 0 {
		return parcel{}, false, time.Hour
	}
	if d := time.Until(p.inbox[0].due); d > 0 {
		return parcel{}, false, d
	}
	return heap.Pop(&p.inbox).(parcel), true, 0
}

func (p *port) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		select {
		case <-p.closed:
			return 0, nil, net.ErrClosed
		default:
		}
		m, ok, wait := p.take()
		if ok {
			return copy(b, m.b), net.UDPAddrFromAddrPort(m.from), nil
		}
		t := time.NewTimer(wait)
		select {
		case <-p.closed:
		case <-p.news:
		case <-t.C:
		}
		t.Stop()
	}
}

func (p *port) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-p.closed:
		return 0, net.ErrClosed
	default:
	}
	p.net.send(p.addr, to.(*net.UDPAddr).AddrPort(), b)
	return len(b), nil
}

func (p *port) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *port) LocalAddr() net.Addr              { return net.UDPAddrFromAddrPort(p.addr) }
func (p *port) SetDeadline(time.Time) error      { return nil }
func (p *port) SetReadDeadline(time.Time) error  { return nil }
func (p *port) SetWriteDeadline(time.Time) error { return nil }

const (
	clientAddr = "192.0.2.1:7001"
	serverAddr = "192.0.2.11:7000"
)

// newPair returns an endpoint and a fake server on one network.
func newPair(t *testing.T, n *network, o Options, handle func([]byte) fakeReply) (*Endpoint, *fakeServer, *Peer) {
	t.Helper()
	o.Conn = n.listen(clientAddr)
	e, err := Listen("", o)
	if err != nil {
		t.Fatal(err)
	}
	s := newFakeServer(n.listen(serverAddr), handle)
	t.Cleanup(func() {
		e.Close()
		s.close()
	})
	return e, s, e.Peer(netip.MustParseAddrPort(serverAddr), 1)
}
