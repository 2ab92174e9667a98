package rx

import (
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"time"
)

// A fakeServer serves Rx calls the way OpenAFS does as seen from outside: slow
// start from one packet, fast recovery after three acks that miss something, a
// retransmission time-out of 200 ms and more, pings. It shares no code with the
// package, so that the two check each other.
type fakeServer struct {
	conn   net.PacketConn
	handle func(request []byte) fakeReply
	reach  bool // ping before the first call runs

	mu      sync.Mutex
	out     net.PacketConn // conn, unless a test says otherwise
	serial  uint32
	calls   map[fakeKey]*fakeCall
	reached bool
	busy    int // answer so many requests with BUSY
	quit    chan struct{}
	wg      sync.WaitGroup

	resent, aborted, acks, pings int
	seen                         map[string]int // requests run, by content if short
}

type fakeReply struct {
	data  []byte
	code  int32 // aborts with it, if not 0
	never bool
	delay time.Duration
}

type fakeKey struct {
	from       string
	epoch, cid uint32
}

type fakeCall struct {
	from       net.Addr
	epoch, cid uint32
	number     uint32
	service    uint16

	parts   map[uint32][]byte
	lastSeq uint32
	running bool

	reply    []byte
	sending  bool
	size     int
	packets  int
	base     int // lowest unacked, from 1
	next     int
	acked    map[int]bool
	cwnd     int
	ssthresh int
	window   int
	nacks    int
	recover  bool
	srtt     time.Duration
	sentAt   map[int]time.Time
	rto      time.Duration
	rtoAt    time.Time
	giveUpAt time.Time
}

func newFakeServer(conn net.PacketConn, handle func([]byte) fakeReply) *fakeServer {
	s := &fakeServer{
		conn: conn, out: conn, handle: handle, calls: map[fakeKey]*fakeCall{},
		quit: make(chan struct{}), seen: map[string]int{},
	}
	s.wg.Add(2)
	go s.read()
	go s.tick()
	return s
}

func (s *fakeServer) close() {
	close(s.quit)
	s.conn.Close()
	s.wg.Wait()
}

func (s *fakeServer) read() {
	defer s.wg.Done()
	b := make([]byte, 65536)
	for {
		n, from, err := s.conn.ReadFrom(b)
		if err != nil {
			return
		}
		if n >= 28 {
			s.mu.Lock()
			s.packet(b[:n], from)
			s.mu.Unlock()
		}
	}
}

func (s *fakeServer) tick() {
	defer s.wg.Done()
	t := time.NewTicker(10 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-s.quit:
			return
		case now := <-t.C:
			s.mu.Lock()
			for _, c := range s.calls {
				s.timeout(c, now)
			}
			s.mu.Unlock()
		}
	}
}

func (s *fakeServer) emit(c *fakeCall, typ, flags byte, seq uint32, body []byte) {
	b := make([]byte, 28, 28+len(body))
	s.serial++
	for i, v := range []uint32{c.epoch, c.cid, c.number, seq, s.serial} {
		binary.BigEndian.PutUint32(b[4*i:], v)
	}
	b[20], b[21] = typ, flags
	binary.BigEndian.PutUint16(b[26:], c.service)
	s.out.WriteTo(append(b, body...), c.from)
}

func (s *fakeServer) ack(c *fakeCall, reason byte, serial uint32) {
	first, top := uint32(1), uint32(0)
	for c.parts[first] != nil {
		first++
	}
	for q := range c.parts {
		top = max(top, q)
	}
	b := append(make([]byte, 0, 100), make([]byte, 18)...)
	binary.BigEndian.PutUint32(b[4:], first)
	binary.BigEndian.PutUint32(b[8:], top)
	binary.BigEndian.PutUint32(b[12:], serial)
	b[16] = reason
	for q := first; q <= top; q++ {
		v := byte(0)
		if c.parts[q] != nil {
			v = 1
		}
		b = append(b, v)
		b[17]++
	}
	b = append(b, 0, 0, 0)
	for _, v := range []uint32{1444, 1444, 32, 1} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	flags := byte(0x20)
	if reason == 6 {
		flags |= 2
	}
	s.emit(c, 2, flags, 0, b)
}

func (s *fakeServer) packet(b []byte, from net.Addr) {
	word := func(i int) uint32 { return binary.BigEndian.Uint32(b[4*i:]) }
	typ, flags, body := b[20], b[21], b[28:]
	if typ == 13 {
		reply := slices.Clone(b[:28])
		reply[21] &^= 1
		text := make([]byte, 65)
		copy(text, "fake 1.0")
		s.out.WriteTo(append(reply, text...), from)
		return
	}
	if flags&1 == 0 {
		return
	}
	key := fakeKey{from.String(), word(0), word(1)}
	number := word(2)
	c := s.calls[key]
	if typ == 1 && (c == nil || number > c.number) {
		c = &fakeCall{
			from: from, epoch: word(0), cid: word(1), number: number,
			service: binary.BigEndian.Uint16(b[26:]), parts: map[uint32][]byte{},
		}
		if s.busy > 0 {
			s.busy--
			s.emit(c, 3, 0, 0, nil)
			return
		}
		s.calls[key] = c
	}
	if c == nil || number != c.number {
		return
	}
	switch typ {
	case 1:
		s.data(c, word(3), word(4), flags, body)
	case 2:
		s.acks++
		s.gotAck(c, word(4), flags, body)
	case 4:
		s.aborted++
		c.sending, c.running = false, true
		c.parts = map[uint32][]byte{}
	}
}

func (s *fakeServer) data(c *fakeCall, seq, serial uint32, flags byte, body []byte) {
	if c.sending {
		return
	}
	if c.running || c.parts[seq] != nil {
		s.ack(c, 2, serial)
		return
	}
	c.parts[seq] = append([]byte{}, body...)
	if flags&4 != 0 {
		c.lastSeq = seq
	}
	whole := c.whole()
	switch {
	case whole && s.reach && !s.reached:
		s.ack(c, 6, 0)
		c.rtoAt = time.Now().Add(2 * time.Second)
		return
	case flags&2 != 0:
		s.ack(c, 1, serial)
	case len(c.parts)%2 == 0 && !whole:
		s.ack(c, 9, serial)
	case int(seq) != len(c.parts):
		s.ack(c, 3, serial)
	}
	if whole {
		s.run(c)
	}
}

func (c *fakeCall) whole() bool { return c.lastSeq != 0 && len(c.parts) == int(c.lastSeq) }

func (s *fakeServer) run(c *fakeCall) {
	var request []byte
	for q := uint32(1); q <= c.lastSeq; q++ {
		request = append(request, c.parts[q]...)
	}
	c.running = true
	if len(request) <= 64 {
		s.seen[string(request)]++
	}
	r := s.handle(request)
	if r.never {
		return
	}
	number := c.number
	start := func() {
		if c.number != number || !c.running || c.sending || len(c.parts) == 0 {
			return
		}
		if r.code != 0 {
			s.emit(c, 4, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(r.code)))
			return
		}
		c.reply, c.sending, c.size = r.data, true, 1416
		c.packets = max(1, (len(r.data)+c.size-1)/c.size)
		c.base, c.next, c.cwnd, c.ssthresh, c.window = 1, 1, 1, 32, 16
		c.acked, c.sentAt = map[int]bool{}, map[int]time.Time{}
		c.rto, c.giveUpAt = time.Second, time.Now().Add(30*time.Second)
		s.push(c)
	}
	if r.delay == 0 {
		start()
		return
	}
	time.AfterFunc(r.delay, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		start()
	})
}

// push sends what the windows allow. Packets from base on without a time were not
// sent, or are to be sent again.
func (s *fakeServer) push(c *fakeCall) {
	now := time.Now()
	flying := 0
	for q := c.base; q <= c.packets && q < c.base+c.window; q++ {
		if c.acked[q] {
			continue
		}
		if flying++; flying > c.cwnd {
			break
		}
		if !c.sentAt[q].IsZero() {
			continue
		}
		flags := byte(0)
		if q == c.packets {
			flags |= 4
		}
		if q < c.next {
			s.resent++
			flags |= 2
		}
		c.next = max(c.next, q+1)
		c.sentAt[q] = now
		s.emit(c, 1, flags, uint32(q), c.reply[(q-1)*c.size:min(q*c.size, len(c.reply))])
	}
	c.rtoAt = now.Add(c.rto)
}

func (s *fakeServer) gotAck(c *fakeCall, serial uint32, flags byte, b []byte) {
	if len(b) < 18 || len(b) < 18+int(b[17])+3 {
		return
	}
	if flags&2 != 0 {
		s.pings++
		s.ack(c, 7, serial)
	}
	if b[16] == 7 && s.reach && !s.reached {
		s.reached = true
		for _, c := range s.calls {
			if c.whole() && !c.running {
				s.run(c)
			}
		}
		return
	}
	if !c.sending {
		return
	}
	now := time.Now()
	c.giveUpAt = now.Add(30 * time.Second)
	first, n := int(binary.BigEndian.Uint32(b[4:])), int(b[17])
	if first < c.base || first > c.next {
		return
	}
	if len(b) >= 18+n+3+16 {
		c.window = min(32, int(binary.BigEndian.Uint32(b[18+n+3+8:])))
	}
	fresh, missing, nacked := 0, false, 0
	for ; c.base < first; c.base++ {
		if !c.acked[c.base] {
			fresh++
		}
		if at := c.sentAt[c.base]; !at.IsZero() && b[16] != 8 {
			c.srtt = (7*c.srtt + now.Sub(at)) / 8
			c.rto = max(2*c.srtt, 20*time.Millisecond) + 200*time.Millisecond
		}
		delete(c.acked, c.base)
		delete(c.sentAt, c.base)
	}
	for i := range n {
		q, got := first+i, b[18+i]&1 != 0
		if got && !c.acked[q] {
			fresh++
		}
		if got && missing {
			nacked++
		}
		missing = missing || !got
		c.acked[q] = got
	}
	if c.base > c.packets {
		c.sending = false
		c.reply = nil
		return
	}
	switch {
	case nacked > 0:
		c.nacks++
	default:
		c.nacks = 0
	}
	switch {
	case c.recover && fresh > 0:
		c.recover = false
		c.cwnd = c.ssthresh
	case !c.recover && c.nacks >= 3:
		c.recover, c.nacks = true, 0
		c.ssthresh = max(4, min(c.cwnd, c.window)) / 2
		c.cwnd = min(c.ssthresh+3, 32)
		for q := c.base; q < c.next; q++ {
			if !c.acked[q] {
				delete(c.sentAt, q)
			}
		}
	case c.cwnd < c.ssthresh:
		c.cwnd = min(32, c.cwnd+fresh)
	case fresh > 0:
		c.cwnd = min(32, c.cwnd+1)
	}
	s.push(c)
}

func (s *fakeServer) timeout(c *fakeCall, now time.Time) {
	if c.whole() && !c.running && now.After(c.rtoAt) {
		s.ack(c, 6, 0)
		c.rtoAt = now.Add(2 * time.Second)
	}
	if !c.sending || now.Before(c.rtoAt) {
		return
	}
	if now.After(c.giveUpAt) {
		c.sending = false
		return
	}
	c.rto = min(2*c.rto, 60*time.Second)
	c.ssthresh = max(4, min(c.cwnd, c.window)) / 2
	c.cwnd, c.recover, c.nacks = 1, false, 0
	clear(c.sentAt)
	s.push(c)
}
