package rx

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
)

// A recorder is a net.PacketConn whose other end is the test.
type recorder struct {
	peer netip.AddrPort
	in   chan parcel
	out  chan []byte
	quit chan struct{}
	port // for the deadlines
}

// recorded returns an endpoint whose datagrams the test reads and writes.
func recorded(t testing.TB, o Options) (*Endpoint, *recorder) {
	t.Helper()
	r := &recorder{
		peer: netip.MustParseAddrPort(serverAddr),
		in:   make(chan parcel), out: make(chan []byte, 1000), quit: make(chan struct{}),
	}
	o.Conn = r
	e, err := Listen("", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, r
}

func (r *recorder) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case m := <-r.in:
		return copy(b, m.b), net.UDPAddrFromAddrPort(m.from), nil
	case <-r.quit:
		return 0, nil, net.ErrClosed
	}
}

func (r *recorder) WriteTo(b []byte, _ net.Addr) (int, error) {
	select {
	case r.out <- bytes.Clone(b):
	default: // nobody looks
	}
	return len(b), nil
}

func (r *recorder) Close() error {
	close(r.quit)
	return nil
}

func (r *recorder) LocalAddr() net.Addr { return new(net.UDPAddr) }

// feed has the endpoint receive a datagram from the peer.
func (r *recorder) feed(t *testing.T, wire string) {
	t.Helper()
	r.in <- parcel{from: r.peer, b: unhex(t, wire)}
}

// want checks the next datagram the endpoint sends.
func (r *recorder) want(t *testing.T, wire string) {
	t.Helper()
	if got, want := <-r.out, unhex(t, wire); !bytes.Equal(got, want) {
		t.Errorf("sent %x\nwant %x", got, want)
	}
}
