package rx

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams are read at once.
const batchSize = 32

// A batchSocket reads many datagrams with one system call, recvmmsg.
//
// The kernel is given pointers into data and names, by heads through vectors: all
// live as long as the socket, and none ever moves.
type batchSocket struct {
	udpSender
	raw     syscall.RawConn
	batch   []datagram
	attempt func(fd uintptr) bool // try, made once
	n       uintptr               // its result
	errno   syscall.Errno
	heads   [batchSize]mmsghdr
	vectors [batchSize]unix.Iovec
	names   [batchSize]unix.RawSockaddrInet6
	data    [batchSize]buffer
}

// mmsghdr is struct mmsghdr of recvmmsg(2); Go pads it as C does.
type mmsghdr struct {
	unix.Msghdr
	n uint32
}

func newUDPSocket(conn *net.UDPConn) socket {
	plain := udpSender{conn}
	raw, err := conn.SyscallConn()
	if err != nil {
		return &plainSocket{udpSender: plain}
	}
	s := &batchSocket{udpSender: plain, raw: raw, batch: make([]datagram, 0, batchSize)}
	for i := range s.heads {
		s.vectors[i].Base = &s.data[i][0]
		s.vectors[i].SetLen(bufferSize)
		s.heads[i].Name = (*byte)(unsafe.Pointer(&s.names[i])) //nolint:gosec // recvmmsg has no safe form
		s.heads[i].Iov = &s.vectors[i]
		s.heads[i].SetIovlen(1)
	}
	s.attempt = s.try
	return s
}

func (s *batchSocket) receive() ([]datagram, error) {
	for i := range s.heads {
		s.heads[i].Namelen = unix.SizeofSockaddrInet6
	}
	if err := s.raw.Read(s.attempt); err != nil {
		return nil, err
	}
	if s.errno != 0 {
		return nil, os.NewSyscallError("recvmmsg", s.errno)
	}
	s.batch = s.batch[:0]
	for i := range s.n {
		if from, ok := address(&s.names[i]); ok {
			s.batch = append(s.batch, datagram{s.data[i][:s.heads[i].n], from})
		}
	}
	return s.batch, nil
}

// try reads what there is; false asks to wait for more.
func (s *batchSocket) try(fd uintptr) bool {
	for {
		s.n, _, s.errno = unix.Syscall6(unix.SYS_RECVMMSG, fd,
			uintptr(unsafe.Pointer(&s.heads[0])), batchSize, unix.MSG_DONTWAIT, 0, 0) //nolint:gosec // recvmmsg has no safe form
		if s.errno != unix.EINTR {
			return s.errno != unix.EAGAIN
		}
	}
}

// address reads a socket address of either family.
func address(raw *unix.RawSockaddrInet6) (netip.AddrPort, bool) {
	switch raw.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw)) //nolint:gosec // recvmmsg has no safe form
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), hostOrder(v4.Port)), true
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(raw.Addr).Unmap(), hostOrder(raw.Port)), true
	default:
		return netip.AddrPort{}, false
	}
}

// hostOrder reads a port, which the kernel keeps in network order.
func hostOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(make([]byte, 0, 2), port))
}
