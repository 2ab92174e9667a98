package cells

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// fakeDNS is a name server on loopback, over UDP and TCP.
type fakeDNS struct {
	addr netip.AddrPort

	mu      sync.Mutex
	records map[string][]dnsmessage.Resource // by "TYPE name."; what is not there does not exist
	reply   replyFunc
	asked   []string // "TYPE name.", with "TCP " before if so
}

// replyFunc may change what is sent back, send more, or nothing.
type replyFunc func(q dnsmessage.Question, tcp bool, m *dnsmessage.Message) [][]byte

func newFakeDNS(t *testing.T) *fakeDNS {
	t.Helper()
	s := &fakeDNS{records: make(map[string][]dnsmessage.Resource)}
	udp, tcp, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	s.addr = udp.LocalAddr().(*net.UDPAddr).AddrPort()
	var served sync.WaitGroup
	served.Go(func() { s.serveUDP(udp) })
	served.Go(func() { s.serveTCP(tcp) })
	t.Cleanup(func() {
		udp.Close()
		tcp.Close()
		served.Wait()
	})
	return s
}

// listen finds a port that is free for both.
func listen() (udp net.PacketConn, tcp net.Listener, err error) {
	for range 10 {
		if udp, err = net.ListenPacket("udp4", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		if tcp, err = net.Listen("tcp4", udp.LocalAddr().String()); err == nil {
			return udp, tcp, nil
		}
		udp.Close()
	}
	return nil, nil, err
}

func (s *fakeDNS) serveUDP(c net.PacketConn) {
	b := make([]byte, 1500)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		for _, m := range s.answer(b[:n], false) {
			_, _ = c.WriteTo(m, from)
		}
	}
}

func (s *fakeDNS) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		var n [2]byte
		_, _ = io.ReadFull(c, n[:])
		b := make([]byte, binary.BigEndian.Uint16(n[:]))
		_, _ = io.ReadFull(c, b)
		for _, m := range s.answer(b, true) {
			_, _ = c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
		}
		c.Close()
	}
}

func (s *fakeDNS) answer(b []byte, tcp bool) [][]byte {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil || len(m.Questions) != 1 || m.Response {
		return nil
	}
	q := m.Questions[0]
	key := typeName(q.Type) + " " + strings.ToLower(q.Name.String())
	s.mu.Lock()
	defer s.mu.Unlock()
	if tcp {
		s.asked = append(s.asked, "TCP "+key)
	} else {
		s.asked = append(s.asked, key)
	}

	m.Response, m.RecursionAvailable = true, true
	m.Answers = s.records[key]
	if len(m.Answers) == 0 {
		m.RCode = dnsmessage.RCodeNameError
	}
	if s.reply != nil {
		return s.reply(q, tcp, &m)
	}
	return [][]byte{pack(&m)}
}

func (s *fakeDNS) questions() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

func pack(m *dnsmessage.Message) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func (s *fakeDNS) add(name string, t dnsmessage.Type, ttl uint32, body dnsmessage.ResourceBody) {
	s.addAll(typeName(t)+" "+name, resourceOf(name, ttl, body))
}

// addAll adds to the answer to a question, which may be more than was asked for.
func (s *fakeDNS) addAll(question string, r ...dnsmessage.Resource) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[question] = append(s.records[question], r...)
}

func (s *fakeDNS) setReply(f replyFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reply = f
}

func resourceOf(name string, ttl uint32, body dnsmessage.ResourceBody) dnsmessage.Resource {
	return dnsmessage.Resource{
		Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name), Class: dnsmessage.ClassINET, TTL: ttl},
		Body:   body,
	}
}

func (s *fakeDNS) srv(cell string, ttl uint32, priority, weight, port uint16, host string) {
	s.add("_afs3-vlserver._udp."+cell, dnsmessage.TypeSRV, ttl, &dnsmessage.SRVResource{
		Priority: priority, Weight: weight, Port: port, Target: dnsmessage.MustNewName(host),
	})
}

func (s *fakeDNS) afsdb(cell string, ttl uint32, subtype byte, host string) {
	s.add(cell, typeAFSDB, ttl, &dnsmessage.UnknownResource{Type: typeAFSDB, Data: afsdbData(subtype, host)})
}

func afsdbData(subtype byte, host string) []byte {
	data := []byte{0, subtype}
	for label := range strings.SplitSeq(strings.TrimSuffix(host, "."), ".") {
		data = append(append(data, byte(len(label))), label...)
	}
	return append(data, 0)
}

func (s *fakeDNS) a(host string, ttl uint32, addr string) {
	s.add(host, dnsmessage.TypeA, ttl, &dnsmessage.AResource{A: netip.MustParseAddr(addr).As4()})
}
