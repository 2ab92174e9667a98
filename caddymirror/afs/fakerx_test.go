package afs

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/rx"
)

// fakeNode is a server of Rx at an address of its own: it answers calls with
// replies of any length, and calls from the same socket. What it says as a server
// shares no code with package rx.
type fakeNode struct {
	addr   netip.AddrPort
	conn   *net.UDPConn
	ep     *rx.Endpoint // for calls of its own
	handle func(from netip.AddrPort, request []byte) (reply []byte, code int32)

	silent atomic.Bool  // as if it were not there
	heard  atomic.Int64 // packets that came, also while silent
	served atomic.Int64 // calls answered or aborted

	serial atomic.Uint32
	mu     sync.Mutex
	calls  map[fakeKey]*fakeCall
}

type fakeKey struct {
	from       netip.AddrPort
	epoch, cid uint32
}

// fakeCall is the last call of a channel.
type fakeCall struct {
	fakeKey
	number  uint32
	service uint16
	acks    chan uint32 // the next packet that the client wants
	over    chan struct{}
	abort   func()
}

// neverReply is the code of calls that are acknowledged, and never end.
const neverReply = -999

// Addresses of fakes: one for each, in all tests, since file servers have one
// port.
var lastFake atomic.Uint32

func newFakeNode(t testing.TB, port uint16, handle func(netip.AddrPort, []byte) ([]byte, int32)) *fakeNode {
	t.Helper()
	for range 100 {
		i := lastFake.Add(1)
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 77, byte(i >> 8), byte(i)}), port)
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(addr))
		if err != nil {
			continue // someone else's
		}
		n := &fakeNode{addr: addr, conn: conn, handle: handle, calls: map[fakeKey]*fakeCall{}}
		n.ep, err = rx.Listen("", rx.Options{Conn: fakeConn{conn, n}, Dead: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.close)
		return n
	}
	t.Fatalf("no address for a server at port %d", port)
	return nil
}

func (n *fakeNode) close() {
	n.ep.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.calls {
		c.abort()
	}
}

// call calls a client.
func (n *fakeNode) call(ctx context.Context, to netip.AddrPort, request []byte) ([]byte, error) {
	reply := make([]byte, 2048)
	size, err := n.ep.Peer(to, 1).Call(ctx, request, reply)
	return reply[:size], err
}

// fakeConn gives the endpoint of a node what is not for the server.
type fakeConn struct {
	net.PacketConn
	n *fakeNode
}

func (c fakeConn) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		size, from, err := c.PacketConn.ReadFrom(b)
		if err != nil {
			return size, from, err
		}
		c.n.heard.Add(1)
		if c.n.silent.Load() || size < 28 {
			continue
		}
		if b[21]&1 == 0 {
			return size, from, nil
		}
		c.n.packet(b[:size], from.(*net.UDPAddr).AddrPort())
	}
}

func (c fakeConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.n.silent.Load() {
		return len(b), nil
	}
	return c.PacketConn.WriteTo(b, to)
}

func (n *fakeNode) send(c *fakeCall, typ, flags byte, seq uint32, body []byte) {
	if n.silent.Load() {
		return
	}
	b := make([]byte, 28, 28+len(body))
	for i, v := range []uint32{c.epoch, c.cid, c.number, seq, n.serial.Add(1)} {
		binary.BigEndian.PutUint32(b[4*i:], v)
	}
	b[20], b[21] = typ, flags
	binary.BigEndian.PutUint16(b[26:], c.service)
	_, _ = n.conn.WriteToUDPAddrPort(append(b, body...), c.from)
}

// ack acknowledges the request, which is one packet.
func (n *fakeNode) ack(c *fakeCall, reason byte, serial uint32) {
	b := make([]byte, 18, 64)
	binary.BigEndian.PutUint32(b[4:], 2)
	binary.BigEndian.PutUint32(b[8:], 1)
	binary.BigEndian.PutUint32(b[12:], serial)
	b[16] = reason
	b = append(b, 0, 0, 0)
	for _, v := range []uint32{1444, 1444, 32, 1} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	n.send(c, 2, 0x20, 0, b)
}

func (n *fakeNode) packet(b []byte, from netip.AddrPort) {
	word := func(i int) uint32 { return binary.BigEndian.Uint32(b[4*i:]) }
	typ, flags, body := b[20], b[21], b[28:]
	if typ == 13 {
		text := make([]byte, 65)
		copy(text, "fake 1.0")
		reply := append(append([]byte(nil), b[:28]...), text...)
		reply[21] &^= 1
		_, _ = n.conn.WriteToUDPAddrPort(reply, from)
		return
	}
	key, number := fakeKey{from, word(0), word(1)}, word(2)
	n.mu.Lock()
	c := n.calls[key]
	fresh := typ == 1 && (c == nil || number > c.number)
	if fresh {
		if c != nil {
			c.abort()
		}
		over := make(chan struct{})
		c = &fakeCall{
			fakeKey: key, number: number, service: binary.BigEndian.Uint16(b[26:]),
			acks: make(chan uint32, 64), over: over, abort: sync.OnceFunc(func() { close(over) }),
		}
		n.calls[key] = c
	}
	n.mu.Unlock()
	switch {
	case c == nil || number != c.number:
	case fresh:
		if flags&2 != 0 {
			n.ack(c, 1, word(4))
		}
		go n.serve(c, append([]byte(nil), body...))
	case typ == 1:
		n.ack(c, 2, word(4))
		c.told(0)
	case typ == 2 && len(body) >= 18:
		if flags&2 != 0 {
			n.ack(c, 7, word(4))
		}
		c.told(binary.BigEndian.Uint32(body[4:]))
	case typ == 4:
		c.abort()
	}
}

func (c *fakeCall) told(first uint32) {
	select {
	case c.acks <- first:
	default:
	}
}

// serve answers a call. A reply is sent until it is acknowledged.
func (n *fakeNode) serve(c *fakeCall, request []byte) {
	reply, code := n.handle(c.from, request)
	if code == neverReply {
		return
	}
	n.served.Add(1)
	const size, window = 1416, 16
	total := max(1, (len(reply)+size-1)/size)
	base, next := 0, 0
	for end := time.Now().Add(10 * time.Second); base < total && time.Now().Before(end); {
		if code != 0 {
			n.send(c, 4, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(code)))
		}
		for ; code == 0 && next < min(total, base+window); next++ {
			flags := byte(0)
			if next == total-1 {
				flags = 4
			}
			n.send(c, 1, flags, uint32(next+1), reply[next*size:min(len(reply), (next+1)*size)])
		}
		select {
		case first := <-c.acks:
			base = max(base, int(first)-1)
			if first == 0 {
				next = base
			}
		case <-time.After(100 * time.Millisecond):
			if code != 0 {
				return // the client asks again
			}
			next = base
		case <-c.over:
			return
		}
	}
}
