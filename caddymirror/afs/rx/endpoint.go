package rx

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

// Options of an [Endpoint]. The zero value is good for a client that nobody
// calls.
type Options struct {
	// Conn is used instead of listening; the endpoint closes it. Its addresses
	// must be *net.UDPAddr.
	Conn net.PacketConn

	// Handle answers the calls of peers to us. A request has one packet, so does
	// the reply: at most MaxReply bytes. A code other than 0 aborts the call with
	// it. Handle is called on a goroutine of its own, up to 64 at a time; what
	// comes beyond that is dropped, for the peer to send again. A call may be
	// handled twice, if its peer was forgotten in between. Nil: every call is
	// aborted with InvalidOperation.
	Handle func(Request) (reply []byte, code int32)

	// Dead is how long a peer may be silent during a call before the call fails
	// with ErrDead. Default 10s.
	Dead time.Duration

	// Window is how many packets of a reply may be on their way, up to and by
	// default 32.
	Window int

	// MaxConns bounds the calls in flight to one peer: four for each. Default 8.
	MaxConns int

	// Log is told of panics, which fail one packet or call. Default: nobody is.
	Log *zap.Logger
}

// MaxReply is the longest reply of Options.Handle.
const MaxReply = maxPayload

// A Request is a call of a peer to us.
type Request struct {
	From    netip.AddrPort
	Service uint16
	// Epoch is another one after the peer was restarted.
	Epoch uint32
	// Body starts with the opcode and has at least its 4 bytes. It is Handle's to
	// keep.
	Body []byte
}

// An Endpoint is a UDP socket that calls and is called. It is safe for
// concurrent use.
type Endpoint struct {
	sock    socket
	options Options
	epoch   uint32
	server  server
	done    chan struct{} // closed by Close
	read    chan struct{} // closed when the reader has ended
	stray   atomic.Uint64

	// mu guards what follows. Nothing but a call's lock is taken under it; Peer.mu
	// is taken before it.
	mu     sync.RWMutex
	closed bool
	peers  map[peerKey]*Peer
	conns  map[uint32]*conn // by cid
	probes map[uint32]*probe
	cid    uint32 // of the next connection

	// flush has the calls that are owed an ack at the end of a batch. It is the
	// reader's alone.
	flush []*call
}

type peerKey struct {
	addr    netip.AddrPort
	service uint16
}

// Listen opens a UDP socket at addr, "" or ":0" being any IPv4 address and a
// free port.
func Listen(addr string, o Options) (*Endpoint, error) {
	if o.Conn == nil {
		at := new(net.UDPAddr)
		if addr != "" {
			var err error
			if at, err = net.ResolveUDPAddr("udp4", addr); err != nil {
				return nil, fmt.Errorf("rx: listening: %w", err)
			}
		}
		conn, err := net.ListenUDP("udp4", at)
		if err != nil {
			return nil, fmt.Errorf("rx: %w", err)
		}
		o.Conn = conn
	}
	if o.Dead <= 0 {
		o.Dead = 10 * time.Second
	}
	if o.Window <= 0 || o.Window > maxWindow {
		o.Window = maxWindow
	}
	if o.MaxConns <= 0 {
		o.MaxConns = 8
	}
	e := &Endpoint{
		sock:    newSocket(o.Conn),
		options: o,
		done:    make(chan struct{}),
		read:    make(chan struct{}),
		peers:   make(map[peerKey]*Peer),
		conns:   make(map[uint32]*conn),
		probes:  make(map[uint32]*probe),
	}
	// Bit 31 makes the peer know us by epoch and cid, whatever address we come
	// from; with bit 30 it would be asked for more.
	e.epoch = random32()&^(1<<30) | 1<<31
	e.cid = random32() &^ channelMask
	e.server.init(e)
	go e.receive()
	return e, nil
}

func random32() uint32 {
	var b [4]byte
	rand.Read(b[:]) // it never fails
	return binary.BigEndian.Uint32(b[:])
}

// LocalAddr returns the address of the socket.
func (e *Endpoint) LocalAddr() netip.AddrPort {
	if a, ok := e.sock.localAddr().(*net.UDPAddr); ok {
		return unmap(a.AddrPort())
	}
	return netip.AddrPort{}
}

// Close aborts all calls, which fail with ErrClosed, and closes the socket. It
// does not wait for Options.Handle.
func (e *Endpoint) Close() error {
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		<-e.read
		return nil
	}
	e.closed = true
	close(e.done)
	for _, c := range e.conns {
		for i := range c.calls {
			c.calls[i].giveUp(ErrClosed, UserAbort)
		}
	}
	e.mu.Unlock()
	e.server.close()
	err := e.sock.close()
	<-e.read
	return err
}

// Peer returns the service at addr. It is cheap, and the same Peer for the same
// arguments.
func (e *Endpoint) Peer(addr netip.AddrPort, service uint16) *Peer {
	key := peerKey{unmap(addr), service}
	e.mu.RLock()
	p := e.peers[key]
	e.mu.RUnlock()
	if p != nil {
		return p
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if p = e.peers[key]; p == nil {
		p = newPeer(e, key)
		e.peers[key] = p
	}
	return p
}

// receive reads the socket until it is closed.
func (e *Endpoint) receive() {
	defer close(e.read)
	for {
		batch, err := e.sock.receive()
		if err != nil {
			select {
			case <-e.done:
				return
			default:
			}
			if closed(err) {
				go e.Close() // by someone else; Close waits for us
				return
			}
			time.Sleep(10 * time.Millisecond) // out of memory, perhaps
			continue
		}
		now := time.Now()
		for _, d := range batch {
			_ = e.contained("rx packet", func() error {
				e.packet(d.data, d.from, now)
				return nil
			})
		}
		e.flushAcks()
	}
}

// contained calls f, and turns a panic into an error.
func (e *Endpoint) contained(place string, f func() error) (err error) {
	defer panics.Recover(e.options.Log, place, &err)
	return f()
}

// flushAcks sends the acks that the packets of a batch have made due.
func (e *Endpoint) flushAcks() {
	for i, c := range e.flush {
		_ = e.contained("rx packet", func() error {
			c.flushAck()
			return nil
		})
		e.flush[i] = nil
	}
	e.flush = e.flush[:0]
}

// packet takes one datagram. Only the reader calls it.
func (e *Endpoint) packet(b []byte, from netip.AddrPort, now time.Time) {
	h, ok := parseHeader(b)
	if !ok {
		e.stray.Add(1)
		return
	}
	body := b[headerSize:]
	// The flag tells who opened the connection, not who sends.
	switch {
	case h.typ == typeVersion:
		e.version(h, body, from)
	case h.flags&flagClient != 0:
		e.server.packet(h, body, from)
	case !e.reply(h, body, from, now):
		e.stray.Add(1)
	}
}

// reply takes a packet of a connection we opened. It is false if there is no
// such connection.
func (e *Endpoint) reply(h header, body []byte, from netip.AddrPort, now time.Time) bool {
	e.mu.RLock()
	c := e.conns[h.cid&^channelMask]
	e.mu.RUnlock()
	if c == nil || h.epoch != e.epoch || h.security != 0 ||
		from != c.peer.key.addr || h.service != c.peer.key.service {
		return false
	}
	c.peer.count.in.Add(1)
	if h.call == 0 {
		if h.typ == typeAbort {
			c.abort(body)
		}
		return true
	}
	if (h.typ == typeData || h.typ == typeAbort) && !c.heard.Load() {
		c.heard.Store(true)
		c.peer.answered(c)
	}
	k := &c.calls[h.cid&channelMask]
	then := thenNothing
	if err := e.contained("rx packet", func() error {
		then = k.packet(&h, body, now)
		return nil
	}); err != nil {
		// What it has left of the call is not to be trusted, nor of the channel.
		c.peer.lose(c)
		k.giveUp(err, UserAbort)
	}
	switch then {
	case thenAck:
		e.flush = append(e.flush, k)
	case thenReuse:
		c.peer.reusable(k)
	case thenNothing:
	}
	return true
}
