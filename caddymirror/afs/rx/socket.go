package rx

import (
	"errors"
	"net"
	"net/netip"
)

// A datagram is one received from a socket. Its data is good until the next
// receive.
type datagram struct {
	data []byte
	from netip.AddrPort
}

// A socket reads datagrams in batches and sends them one at a time. Only one
// goroutine receives; any may send.
type socket interface {
	receive() ([]datagram, error)
	send(b []byte, to netip.AddrPort) error
	close() error
	localAddr() net.Addr
}

// receiveBuffer is asked of the kernel: a window of packets may arrive at once
// for each of many calls.
const receiveBuffer = 4 << 20

// newSocket returns the best socket there is for conn.
func newSocket(conn net.PacketConn) socket {
	udp, ok := conn.(*net.UDPConn)
	if !ok {
		return &anySocket{conn: conn}
	}
	_ = udp.SetReadBuffer(receiveBuffer) // the kernel may cap it, silently
	return newUDPSocket(udp)
}

// A udpSender is the half of a UDP socket that is alike everywhere.
type udpSender struct{ conn *net.UDPConn }

func (s udpSender) send(b []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteToUDPAddrPort(b, to)
	return err
}

func (s udpSender) close() error        { return s.conn.Close() }
func (s udpSender) localAddr() net.Addr { return s.conn.LocalAddr() }

// A plainSocket reads one datagram at a time.
type plainSocket struct {
	udpSender
	data buffer
	one  [1]datagram
}

func (s *plainSocket) receive() ([]datagram, error) {
	n, from, err := s.conn.ReadFromUDPAddrPort(s.data[:])
	if err != nil {
		return nil, err
	}
	s.one[0] = datagram{s.data[:n], unmap(from)}
	return s.one[:], nil
}

// An anySocket is over a net.PacketConn of any kind whose addresses are UDP's.
type anySocket struct {
	conn net.PacketConn
	data buffer
	one  [1]datagram
}

func (s *anySocket) receive() ([]datagram, error) {
	n, addr, err := s.conn.ReadFrom(s.data[:])
	if err != nil {
		return nil, err
	}
	udp, ok := addr.(*net.UDPAddr)
	if !ok {
		return nil, nil
	}
	s.one[0] = datagram{s.data[:n], unmap(udp.AddrPort())}
	return s.one[:], nil
}

func (s *anySocket) send(b []byte, to netip.AddrPort) error {
	_, err := s.conn.WriteTo(b, net.UDPAddrFromAddrPort(to))
	return err
}

func (s *anySocket) close() error        { return s.conn.Close() }
func (s *anySocket) localAddr() net.Addr { return s.conn.LocalAddr() }

// unmap makes addresses of one peer equal, whatever kind of socket saw them.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// closed tells whether err says that a socket was closed.
func closed(err error) bool { return errors.Is(err, net.ErrClosed) }
