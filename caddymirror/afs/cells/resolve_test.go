package cells

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

func resolve(t *testing.T, cell string, servers ...*fakeDNS) (Cell, time.Duration, error) {
	t.Helper()
	return resolveWithin(t, 5*time.Second, cell, servers...)
}

func resolveWithin(t *testing.T, timeout time.Duration, cell string, servers ...*fakeDNS) (Cell, time.Duration, error) {
	t.Helper()
	r := &Resolver{Timeout: timeout}
	for _, s := range servers {
		r.Servers = append(r.Servers, s.addr)
	}
	return r.Resolve(t.Context(), cell)
}

func wantServers(t *testing.T, c Cell, want ...string) {
	t.Helper()
	var got []string
	for _, s := range c.Servers {
		got = append(got, s.Host+" "+s.Addr.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("servers of %s are %q, want %q", c.Name, got, want)
	}
}

func TestResolveSRV(t *testing.T) {
	s := newFakeDNS(t)
	s.srv("example.org.", 300, 20, 0, 7003, "db3.example.org.")
	s.srv("example.org.", 300, 0, 0, 7003, "db1.example.org.")
	s.srv("example.org.", 300, 10, 0, 17003, "db2.example.org.")
	s.srv("example.org.", 1, 0, 0, 0, "noport.example.org.")
	s.srv("example.org.", 1, 0, 0, 7003, "nowhere.example.org.")
	s.a("db1.example.org.", 120, "192.0.2.1")
	s.a("db2.example.org.", 240, "192.0.2.2")
	s.a("db3.example.org.", 600, "192.0.2.3")
	s.a("db3.example.org.", 600, "192.0.2.33")
	s.a("db3.example.org.", 600, "0.0.0.0")
	s.afsdb("example.org.", 1, 1, "old.example.org.")

	c, ttl, err := resolve(t, "Example.ORG", s)
	if err != nil || c.Name != "example.org" || ttl != 2*time.Minute {
		t.Errorf("cell is %v for %v, %v", c, ttl, err)
	}
	wantServers(t, c,
		"db1.example.org 192.0.2.1:7003", "db2.example.org 192.0.2.2:17003",
		"db3.example.org 192.0.2.3:7003", "db3.example.org 192.0.2.33:7003")
	for _, q := range s.questions() {
		if strings.HasPrefix(q, "AFSDB") || strings.Contains(q, "noport") {
			t.Errorf("%s was asked for", q)
		}
	}
}

func TestResolveAFSDB(t *testing.T) {
	s := newFakeDNS(t)
	s.afsdb("example.org.", 3600, 2, "dce.example.org.")
	s.afsdb("example.org.", 3600, 1, "db1.example.org.")
	s.a("dce.example.org.", 60, "192.0.2.9")
	s.a("db1.example.org.", 7200, "192.0.2.1")
	c, ttl, err := resolve(t, "example.org", s)
	if err != nil || ttl != time.Hour {
		t.Errorf("cell is %v for %v, %v", c, ttl, err)
	}
	wantServers(t, c, "db1.example.org 192.0.2.1:7003")
	if q := s.questions()[0]; q != "SRV _afs3-vlserver._udp.example.org." {
		t.Errorf("asked for %s first", q)
	}
}

func TestResolveAlias(t *testing.T) {
	s := newFakeDNS(t)
	cname := func(name string, ttl uint32, to string) dnsmessage.Resource {
		return resourceOf(name, ttl, &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to)})
	}
	addr := resourceOf("b.example.net.", 600, &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}})
	other := resourceOf("c.example.net.", 1, &dnsmessage.AResource{A: [4]byte{192, 0, 2, 66}})
	s.srv("example.org.", 600, 0, 0, 7003, "db.example.org.")
	s.srv("example.org.", 600, 1, 0, 7003, "loop.example.org.")
	s.addAll("A db.example.org.",
		other, addr, cname("a.example.net.", 500, "B.example.net."), cname("db.example.org.", 30, "a.example.net."),
	)
	s.addAll("A loop.example.org.",
		cname("loop.example.org.", 1, "pool.example.org."), cname("pool.example.org.", 1, "loop.example.org."),
	)
	c, ttl, err := resolve(t, "example.org", s)
	if err != nil || ttl != 30*time.Second {
		t.Errorf("cell is %v for %v, %v", c, ttl, err)
	}
	wantServers(t, c, "db.example.org 192.0.2.1:7003")
}

func TestResolveNotFound(t *testing.T) {
	s := newFakeDNS(t)
	s.srv("off.example.org.", 300, 0, 0, 0, ".") // says that there is none
	s.afsdb("off.example.org.", 300, 1, "db.example.org.")
	s.srv("bare.example.org.", 300, 0, 0, 7003, "bare.example.org.") // has no address
	for cell, asks := range map[string]int{"no.example.org": 2, "off.example.org": 1, "bare.example.org": 2} {
		before := len(s.questions())
		c, _, err := resolve(t, cell, s)
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), cell) {
			t.Errorf("cell %s is %v, %v", cell, c, err)
		}
		if n := len(s.questions()) - before; n != asks {
			t.Errorf("cell %s takes %d questions, want %d", cell, n, asks)
		}
	}

	// Names without records are no errors either.
	s.setReply(func(_ dnsmessage.Question, _ bool, m *dnsmessage.Message) [][]byte {
		m.RCode = dnsmessage.RCodeSuccess
		return [][]byte{pack(m)}
	})
	if c, _, err := resolve(t, "no.example.org", s); !errors.Is(err, ErrNotFound) {
		t.Errorf("cell without records is %v, %v", c, err)
	}
	if _, _, err := resolve(t, "bad/name", s); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("error of a bad name is %v", err)
	}
}

func TestResolveTruncated(t *testing.T) {
	s := newFakeDNS(t)
	for i := range 12 {
		host := fmt.Sprintf("db%d.example.org.", i)
		s.srv("example.org.", 300, uint16(i), 0, 7003, host)
		s.a(host, 300, fmt.Sprintf("192.0.2.%d", i+1))
	}
	s.setReply(func(q dnsmessage.Question, tcp bool, m *dnsmessage.Message) [][]byte {
		if q.Type == dnsmessage.TypeSRV && !tcp {
			m.Truncated = true
			m.Answers = m.Answers[:2]
		}
		return [][]byte{pack(m)}
	})
	c, _, err := resolve(t, "example.org", s)
	if err != nil || len(c.Servers) != MaxServers {
		t.Fatalf("cell is %v, %v", c, err)
	}
	if last := c.Servers[MaxServers-1]; last.Host != "db7.example.org" {
		t.Errorf("last server is %v", last)
	}
	if q := s.questions(); q[0] != "SRV _afs3-vlserver._udp.example.org." || q[1] != "TCP "+q[0] {
		t.Errorf("asked for %q", q[:2])
	}
}

func TestResolveForged(t *testing.T) {
	s := newFakeDNS(t)
	s.srv("example.org.", 300, 0, 0, 7003, "db.example.org.")
	s.a("db.example.org.", 300, "192.0.2.1")
	s.setReply(func(q dnsmessage.Question, _ bool, m *dnsmessage.Message) [][]byte {
		good := pack(m)
		for _, r := range m.Answers {
			if a, ok := r.Body.(*dnsmessage.AResource); ok {
				a.A[3] = 66
				defer func() { a.A[3] = 1 }()
			}
		}
		m.ID++
		id := pack(m)
		m.ID--
		m.Response = false
		echo := pack(m)
		m.Response = true
		m.Questions[0].Type = dnsmessage.TypeTXT
		typ := pack(m)
		m.Questions[0].Type = q.Type
		m.Questions[0].Name = dnsmessage.MustNewName("other.example.org.")
		return [][]byte{nil, {1, 2, 3}, id, echo, typ, pack(m), good}
	})
	c, _, err := resolve(t, "example.org", s)
	if err != nil {
		t.Fatal(err)
	}
	wantServers(t, c, "db.example.org 192.0.2.1:7003")
}

func TestResolveNextServer(t *testing.T) {
	t.Parallel()
	good := newFakeDNS(t)
	good.srv("example.org.", 300, 0, 0, 7003, "db.example.org.")
	good.a("db.example.org.", 300, "192.0.2.1")

	addr := resourceOf("db.example.org.", 300, &dnsmessage.AResource{})
	silent := func(dnsmessage.Question, bool, *dnsmessage.Message) [][]byte { return nil }
	for name, reply := range map[string]replyFunc{
		"silent": silent,
		"failing": func(_ dnsmessage.Question, _ bool, m *dnsmessage.Message) [][]byte {
			m.RCode = dnsmessage.RCodeServerFailure
			return [][]byte{pack(m)}
		},
		"failing without the question": func(_ dnsmessage.Question, _ bool, m *dnsmessage.Message) [][]byte {
			m.RCode, m.Questions = dnsmessage.RCodeRefused, nil
			return [][]byte{pack(m)}
		},
		"cut": func(_ dnsmessage.Question, _ bool, m *dnsmessage.Message) [][]byte {
			m.RCode, m.Answers = dnsmessage.RCodeSuccess, []dnsmessage.Resource{addr}
			b := pack(m)
			return [][]byte{b[:len(b)-14]}
		},
		"truncated, without TCP": func(_ dnsmessage.Question, tcp bool, m *dnsmessage.Message) [][]byte {
			if tcp {
				return nil
			}
			m.Truncated = true
			return [][]byte{pack(m)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const timeout = 250 * time.Millisecond
			bad := newFakeDNS(t)
			bad.setReply(reply)
			c, _, err := resolveWithin(t, timeout, "example.org", bad, good)
			if err != nil {
				t.Fatal(err)
			}
			wantServers(t, c, "db.example.org 192.0.2.1:7003")

			_, _, err = resolveWithin(t, timeout, "example.org", bad)
			if err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), bad.addr.String()) {
				t.Errorf("error of bad servers is %v", err)
			}
		})
	}
}

func TestResolveBrokenSRV(t *testing.T) {
	s := newFakeDNS(t)
	s.afsdb("example.org.", 3600, 1, "db1.example.org.")
	s.afsdb("example.org.", 3600, 1, "db2.example.org.")
	s.a("db1.example.org.", 3600, "192.0.2.1")
	s.a("db2.example.org.", 3600, "192.0.2.2")
	s.setReply(func(q dnsmessage.Question, _ bool, m *dnsmessage.Message) [][]byte {
		if q.Type == dnsmessage.TypeSRV || strings.HasPrefix(q.Name.String(), "db1.") {
			m.RCode = dnsmessage.RCodeServerFailure
		}
		return [][]byte{pack(m)}
	})
	c, ttl, err := resolve(t, "example.org", s)
	if err != nil || ttl != time.Minute {
		t.Errorf("cell is %v for %v, %v", c, ttl, err)
	}
	wantServers(t, c, "db2.example.org 192.0.2.2:7003")

	// That no AFSDB record is there does not mean that no SRV record is.
	_, _, err = resolve(t, "no.example.org", s)
	if err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("error is %v", err)
	}
}

func TestResolveContext(t *testing.T) {
	s := newFakeDNS(t)
	s.setReply(func(dnsmessage.Question, bool, *dnsmessage.Message) [][]byte { return nil })
	r := &Resolver{Servers: []netip.AddrPort{s.addr}, Timeout: time.Minute}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, _, err := r.Resolve(ctx, "example.org")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, _, err := r.Resolve(ctx, "example.org"); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}

	// Time that is up for a server is not up for the caller.
	r.Timeout = 20 * time.Millisecond
	if _, _, err := r.Resolve(t.Context(), "example.org"); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
}

func TestOrder(t *testing.T) {
	first := make(map[string]int)
	const rounds = 4000
	for range rounds {
		records := order([]record{
			{host: "late", priority: 9, weight: 999},
			{host: "heavy", priority: 1, weight: 30},
			{host: "none", priority: 1},
			{host: "light", priority: 1, weight: 10},
		})
		if len(records) != 4 || records[3].host != "late" || records[2].host != "none" {
			t.Fatalf("order is %v", records)
		}
		first[records[0].host]++
	}
	if n := first["heavy"]; n < rounds*70/100 || n > rounds*80/100 {
		t.Errorf("first are %v, want heavy in 3 of 4", first)
	}

	first = make(map[string]int)
	for range rounds {
		first[order([]record{{host: "a"}, {host: "b"}})[0].host]++
	}
	if n := first["a"]; n < rounds*45/100 || n > rounds*55/100 {
		t.Errorf("first are %v, want each in half", first)
	}
}

func TestSystemServers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	local := "[127.0.0.1:53]"
	for content, want := range map[string]string{
		"":                               local,
		"search example.org\nnameserver": local,
		"# x\nnameserver 192.0.2.1\nnameserver\t2001:db8::1 # y\noptions edns0\nnameserver bad\n" +
			"nameserver fe80::1%eth0\nnameserver 192.0.2.4\n": "[192.0.2.1:53 [2001:db8::1]:53 [fe80::1%eth0]:53]",
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(systemServers(file)); got != want {
			t.Errorf("servers of %q are %v, want %v", content, got, want)
		}
	}
	if got := fmt.Sprint(systemServers(file + ".missing")); got != local {
		t.Errorf("servers without a file are %v", got)
	}
}

func TestAFSDBHost(t *testing.T) {
	msg := []byte("0123456789ab\x07example\x03org\x00\xc0\x0c\xc0\x1b") // 12: example.org; 25: → 12; 27: → itself
	for data, want := range map[string]string{
		"\x00\x01\x02db\x07example\x03org\x00": "db.example.org.",
		"\x00\x01\x02db\xc0\x0c":               "db.example.org.",
		"\x00\x01\x02db\xc0\x19":               "db.example.org.",
		"\x00\x02\x02db\xc0\x0c":               "",
		"\x00\x01\xc0\x1b":                     "", // loops
		"\x00\x01\xff\xff":                     "",
		"\x00\x01\xc0":                         "",
		"\x00\x01\x40x":                        "",
		"\x00\x01\x05db":                       "",
		"\x00\x01\x02db":                       "",
		"\x00\x01\x00":                         "",
		"\x00\x01":                             "",
		"\x00":                                 "",
		"":                                     "",
		"\x00\x01" + strings.Repeat("\x3f"+strings.Repeat("x", 63), 4) + "\x00": "",
	} {
		if got := afsdbHost(msg, []byte(data)); got != want {
			t.Errorf("host of %q is %q, want %q", data, got, want)
		}
	}
}

func FuzzParseAnswer(f *testing.F) {
	const name = "_afs3-vlserver._udp.example.org."
	for _, body := range []dnsmessage.ResourceBody{
		&dnsmessage.SRVResource{Port: 7003, Target: dnsmessage.MustNewName("db.example.org.")},
		&dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}},
		&dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName("db.example.org.")},
		&dnsmessage.UnknownResource{Type: typeAFSDB, Data: afsdbData(1, "db.example.org.")},
		&dnsmessage.UnknownResource{Type: typeAFSDB, Data: []byte("\x00\x01\x02db\xc0\x0c")},
	} {
		q, err := newQuestion(name, dnsmessage.TypeSRV)
		if err != nil {
			f.Fatal(err)
		}
		var m dnsmessage.Message
		if err := m.Unpack(q.msg); err != nil {
			f.Fatal(err)
		}
		m.Response = true
		m.Answers = []dnsmessage.Resource{resourceOf(name, 60, body)}
		f.Add(pack(&m))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, kind := range []dnsmessage.Type{dnsmessage.TypeSRV, typeAFSDB, dnsmessage.TypeA} {
			q := question{name: name, t: kind}
			_, _ = answers(msg, q)
			a, err := parseAnswer(msg, name, kind)
			if err != nil {
				continue
			}
			if a.ttl < 0 || kind == dnsmessage.TypeA && len(a.records) > 0 || kind != dnsmessage.TypeA && len(a.addrs) > 0 {
				t.Errorf("answer for %v is %+v", kind, a)
			}
			for _, r := range a.records {
				if r.host != "." && !validHost(r.host) || r.port == 0 && r.host != "." || r.ttl < 0 {
					t.Errorf("record %+v", r)
				}
			}
		}
	})
}

// panicky is a context that brings out a bug in whoever waits by it.
type panicky struct{ context.Context }

func (panicky) Deadline() (time.Time, bool) { panic("oops") }

// TestPanic: each host is asked for in a goroutine of its own, where a panic would end
// the process.
func TestPanic(t *testing.T) {
	r := &Resolver{Servers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1")}}
	_, errs := r.hosts(panicky{t.Context()}, []record{{host: "db.example.org."}})
	if _, ok := errors.AsType[*panics.Error](errs[0]); !ok {
		t.Errorf("got %v", errs[0])
	}
}
