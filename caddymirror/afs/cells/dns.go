package cells

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	typeAFSDB dnsmessage.Type = 18

	maxDNSName = 254 // with its dots, of which the last is the root's
	maxHops    = 16  // of names to others
	udpSize    = 1232
	resolvConf = "/etc/resolv.conf"
)

func typeName(t dnsmessage.Type) string {
	if t == typeAFSDB {
		return "AFSDB"
	}
	return strings.TrimPrefix(t.String(), "Type")
}

// ask sends a question to one server after the other, twice, and returns the first
// answer, be it that there is nothing.
func (r *Resolver) ask(ctx context.Context, name string, t dnsmessage.Type) (answer, error) {
	servers := r.Servers
	if len(servers) == 0 {
		servers = systemServers(resolvConf)
	}
	q, err := newQuestion(name, t)
	if err != nil {
		return answer{}, fmt.Errorf("asking for %s of %q: %w", typeName(t), name, err)
	}
	var errs error
	for range 2 {
		errs = nil
		for _, s := range servers {
			a, err := r.askServer(ctx, s, q)
			if err == nil {
				return a, nil
			}
			errs = errors.Join(errs, fmt.Errorf("asking %v for %s of %s: %w", s, typeName(t), name, err))
			if ctx.Err() != nil {
				return answer{}, errs
			}
		}
	}
	return answer{}, errs
}

func (r *Resolver) askServer(ctx context.Context, server netip.AddrPort, q question) (answer, error) {
	timeout := r.Timeout
	if timeout <= 0 {
		timeout = 2 * time.Second
	}
	one, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	msg, h, err := exchange(one, "udp", server, q)
	if err == nil && h.Truncated {
		msg, h, err = exchange(one, "tcp", server, q)
	}
	switch {
	case ctx.Err() != nil:
		return answer{}, ctx.Err()
	case one.Err() != nil:
		return answer{}, fmt.Errorf("no answer for %v", timeout)
	case err != nil:
		return answer{}, err
	case h.RCode != dnsmessage.RCodeSuccess && h.RCode != dnsmessage.RCodeNameError:
		return answer{}, fmt.Errorf("answer is %s", strings.TrimPrefix(h.RCode.String(), "RCode"))
	}
	return parseAnswer(msg, q.name, q.t)
}

// exchange sends a question, and waits for its answer. What is no answer to it is
// dropped, as anyone may send packets.
func exchange(ctx context.Context, network string, server netip.AddrPort, q question) ([]byte, dnsmessage.Header, error) {
	var none dnsmessage.Header
	c, err := new(net.Dialer).DialContext(ctx, network, server.String())
	if err != nil {
		return nil, none, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()

	send, receive := q.msg, readPacket
	if network == "tcp" {
		send = append(binary.BigEndian.AppendUint16(nil, uint16(len(send))), send...)
		receive = readFramed
	}
	if _, err := c.Write(send); err != nil {
		return nil, none, err
	}
	for {
		msg, err := receive(c)
		if err != nil {
			return nil, none, err
		}
		if h, ok := answers(msg, q); ok {
			return msg, h, nil
		}
	}
}

func readPacket(r io.Reader) ([]byte, error) {
	b := make([]byte, 1<<16)
	n, err := r.Read(b)
	return b[:n], err
}

func readFramed(r io.Reader) ([]byte, error) {
	var n [2]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint16(n[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

// question is what is asked, and the message that asks it.
type question struct {
	name string
	t    dnsmessage.Type
	id   uint16
	msg  []byte
}

func newQuestion(name string, t dnsmessage.Type) (question, error) {
	n, err := dnsmessage.NewName(strings.TrimSuffix(name, ".") + ".")
	if err != nil {
		return question{}, err
	}
	var opt dnsmessage.ResourceHeader
	if err := opt.SetEDNS0(udpSize, dnsmessage.RCodeSuccess, false); err != nil {
		return question{}, err
	}
	var id [2]byte
	_, _ = rand.Read(id[:]) // never fails
	q := question{name: name, t: t, id: binary.BigEndian.Uint16(id[:])}
	m := dnsmessage.Message{
		Header:      dnsmessage.Header{ID: q.id, RecursionDesired: true},
		Questions:   []dnsmessage.Question{{Name: n, Type: t, Class: dnsmessage.ClassINET}},
		Additionals: []dnsmessage.Resource{{Header: opt, Body: new(dnsmessage.OPTResource)}},
	}
	q.msg, err = m.Pack()
	return q, err
}

// answers says whether a message is the answer to a question.
func answers(msg []byte, q question) (dnsmessage.Header, bool) {
	var p dnsmessage.Parser
	h, err := p.Start(msg)
	if err != nil || !h.Response || h.ID != q.id {
		return h, false
	}
	got, err := p.Question()
	if err == dnsmessage.ErrSectionDone && h.RCode != dnsmessage.RCodeSuccess {
		return h, true // some servers repeat no question that they fail to answer
	}
	return h, err == nil && got.Type == q.t && got.Class == dnsmessage.ClassINET && sameName(got.Name.String(), q.name)
}

func sameName(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

// answer is what a message says of a name.
type answer struct {
	records []record      // SRV, AFSDB
	addrs   []netip.Addr  // A
	ttl     time.Duration // of the addrs and the names that lead to them
}

// parseAnswer reads records of a type, which are of the name, or of the one that it
// stands for.
func parseAnswer(msg []byte, name string, t dnsmessage.Type) (answer, error) {
	var p dnsmessage.Parser
	if _, err := p.Start(msg); err != nil {
		return answer{}, err
	}
	if err := p.SkipAllQuestions(); err != nil {
		return answer{}, err
	}
	all, err := answerRecords(&p, msg, t)
	if err != nil {
		return answer{}, err
	}
	a := answer{ttl: maxTTL}
	for range maxHops {
		i := indexAlias(all, name)
		if i < 0 {
			break
		}
		name, a.ttl = all[i].alias, min(a.ttl, all[i].ttl)
	}
	for _, r := range all {
		switch {
		case r.alias != "" || !sameName(r.name, name):
		case r.addr.IsValid():
			a.addrs = append(a.addrs, r.addr)
			a.ttl = min(a.ttl, r.ttl)
		default:
			r.ttl = min(a.ttl, r.ttl)
			a.records = append(a.records, r.record)
		}
	}
	return a, nil
}

// resource is a record of a name: an alias, an address, or a place of servers.
type resource struct {
	name  string
	alias string
	addr  netip.Addr
	record
}

func indexAlias(all []resource, name string) int {
	for i, r := range all {
		if r.alias != "" && sameName(r.name, name) {
			return i
		}
	}
	return -1
}

// answerRecords reads the records of a type, and the aliases. Those that make no
// sense are left out.
func answerRecords(p *dnsmessage.Parser, msg []byte, t dnsmessage.Type) ([]resource, error) {
	var all []resource
	for {
		h, err := p.AnswerHeader()
		if err == dnsmessage.ErrSectionDone {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		if h.Class != dnsmessage.ClassINET || h.Type != t && h.Type != dnsmessage.TypeCNAME {
			if err := p.SkipAnswer(); err != nil {
				return nil, err
			}
			continue
		}
		r := resource{name: h.Name.String()}
		r.ttl = ttl(h.TTL)
		ok, err := r.read(p, msg, h.Type)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, r)
		}
	}
}

func (r *resource) read(p *dnsmessage.Parser, msg []byte, t dnsmessage.Type) (ok bool, err error) {
	switch t {
	case dnsmessage.TypeCNAME:
		c, err := p.CNAMEResource()
		r.alias = c.CNAME.String()
		return true, err
	case dnsmessage.TypeA:
		a, err := p.AResource()
		r.addr = netip.AddrFrom4(a.A)
		return usable(r.addr), err
	case dnsmessage.TypeSRV:
		s, err := p.SRVResource()
		r.host, r.port, r.priority, r.weight = s.Target.String(), s.Port, s.Priority, s.Weight
		return r.host == "." || r.port != 0 && validHost(r.host), err
	case typeAFSDB:
		u, err := p.UnknownResource()
		if err != nil {
			return false, err
		}
		r.host, r.port = afsdbHost(msg, u.Data), Port
		return validHost(r.host), nil
	default:
		return false, p.SkipAnswer()
	}
}

// validHost keeps out what no host is called, and what does no good in logs.
func validHost(name string) bool { return validDomain(strings.TrimSuffix(name, "."), maxDNSName-1) }

func ttl(seconds uint32) time.Duration {
	if seconds > 1<<31-1 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// afsdbHost reads the data of an AFSDB record: a number, 1 for AFS, and the host,
// which may be compressed. It is empty if it is none.
func afsdbHost(msg, data []byte) string {
	if len(data) < 2 || binary.BigEndian.Uint16(data) != 1 {
		return ""
	}
	var host strings.Builder
	b := data[2:]
	for hops := 0; len(b) > 0 && hops < maxHops; {
		n := int(b[0])
		switch {
		case n == 0:
			return host.String()
		case n < 64 && n < len(b) && host.Len()+n < maxDNSName:
			host.Write(b[1 : 1+n])
			host.WriteByte('.')
			b = b[1+n:]
		case n >= 0xc0 && len(b) >= 2 && (n&0x3f<<8|int(b[1])) < len(msg):
			b = msg[n&0x3f<<8|int(b[1]):]
			hops++
		default:
			return ""
		}
	}
	return ""
}

// systemServers are the name servers of a resolv.conf(5).
func systemServers(file string) []netip.AddrPort {
	const most = 3
	local := []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 53)}
	f, err := os.Open(file)
	if err != nil {
		return local
	}
	defer f.Close()

	var servers []netip.AddrPort
	for lines := bufio.NewScanner(f); lines.Scan() && len(servers) < most; {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, 53))
		}
	}
	if len(servers) == 0 {
		return local
	}
	return servers
}
