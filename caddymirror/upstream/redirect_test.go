package upstream

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestRedirects(t *testing.T) {
	t.Parallel()
	other := serve(t, func(x *exchange) bool { return x.send(ok10+ten) == nil })
	to := ""
	s := serve(t, func(x *exchange) bool {
		if strings.HasPrefix(x.head, "GET /x") {
			return x.send("HTTP/1.1 302 Found\nLocation: %s\nContent-Length: 0\n\n", to) == nil
		}
		return x.send(ok10+ten) == nil
	})
	secret := http.Header{"Authorization": {"Bearer s3cret"}, "X-Key": {"s3cret"}}
	named := use(t, Config{URL: s.url(), Header: secret, Follow: []string{other.Addr().String()}})
	unnamed := use(t, Config{URL: s.url(), Header: secret})

	to = other.url() + "/a%2Fb+c?sig=%2F"
	resp, body, err := get(t, named, Request{Target: "/x"})
	if err != nil || body != ten || resp.URL.String() != to {
		t.Fatal(resp, body, err)
	}
	head := other.heads()[0]
	if strings.Contains(head, "s3cret") || !strings.HasPrefix(head, "GET /a%2Fb+c?sig=%2F HTTP/1.1\r\n") || !strings.Contains(head, "Via: 1.1 caddymirror\r\n") {
		t.Errorf("to another host went\n%s", head)
	}
	resp, _, err = get(t, unnamed, Request{Target: "/x"})
	if err != nil || resp.Status != 302 || resp.Redirect.String() != to {
		t.Errorf("%+v, %v", resp, err)
	}
	if n := other.requests.Load(); n != 1 {
		t.Errorf("%d requests to a host that is not named", n)
	}

	for _, c := range []struct{ location, want string }{
		{"/a%2Fb", "/a%2Fb"},
		{"../b?c", "/b?c"},
		{s.url() + "/b", "/b"},
		{strings.Replace(s.url(), "http://", "http://user:pass@", 1) + "/b#f", "/b"},
		{"//" + s.Addr().String() + "/b", "/b"},
	} {
		to = c.location
		if _, body, err := get(t, unnamed, Request{Target: "/x/y"}); err != nil || body != ten {
			t.Errorf("%s: %v", to, err)
		}
		heads := s.heads()
		last := exchange{head: heads[len(heads)-1]}
		if !strings.HasPrefix(last.head, "GET "+c.want+" HTTP/1.1\r\n") || last.field("Authorization") != "Bearer s3cret" {
			t.Errorf("%s went out as\n%s", to, last.head)
		}
	}
	for _, location := range []string{"ftp://" + s.Addr().String() + "/", "http://127.0.0.1:1/", "http://other.example.org/", "mailto:a@b"} {
		to = location
		if resp, _, err := get(t, unnamed, Request{Target: "/x"}); err != nil || resp.Status != 302 {
			t.Errorf("%s: %+v, %v", to, resp, err)
		}
	}
}

func TestFollows(t *testing.T) {
	t.Parallel()
	u, err := New(Config{URL: "http://a.example:8080", Follow: []string{"b.example", "c.example:81", "*.d.example"}})
	if err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]bool{
		"http://a.example:8080/": true, "https://A.example/": true, "http://a.example/": true, "http://a.example:22/": false,
		"http://b.example/": true, "https://b.example:443/": true, "https://b.example:80/": false, "http://b.example:8080/": false,
		"http://c.example:81/": true, "http://c.example/": false,
		"https://x.d.example/": true, "https://x.y.d.example/": true, "https://d.example/": false, "https://xd.example/": false,
		"http://a.example.evil/": false, "gopher://a.example:8080/": false,
	} {
		parsed, err := url.Parse(to)
		if err != nil {
			t.Fatal(err)
		}
		if got := u.follows(parsed); got != want {
			t.Errorf("%s: %v", to, got)
		}
	}
}

func TestDowngrade(t *testing.T) {
	t.Parallel()
	var plain atomic.Int32
	insecure := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { plain.Add(1) }))
	defer insecure.Close()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, insecure.URL, http.StatusFound)
	}))
	defer s.Close()
	u := use(t, Config{URL: s.URL, Transport: s.Client().Transport, Follow: []string{insecure.Listener.Addr().String()}})
	if _, _, err := get(t, u, Request{Target: "/"}); classOf(t, err) != ErrRefused || plain.Load() != 0 {
		t.Error(err)
	}
}

// public is a transport for which every connection leads to what it claims to be: hosts
// are looked up in a table, and all addresses are really those of servers on loopback.
func public(table map[string]string, where string) *http.Transport {
	tr := NewTransport()
	tr.DialContext = Guard(func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(address)
		c, err := (&net.Dialer{}).DialContext(ctx, network, where)
		if err != nil {
			return nil, err
		}
		ip, err := netip.ParseAddr(host)
		if err != nil {
			ip = netip.MustParseAddr(table[host])
		}
		return &claims{c, net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 80))}, nil
	})
	return tr
}

type claims struct {
	net.Conn
	addr net.Addr
}

func (c *claims) RemoteAddr() net.Addr { return c.addr }

// TestPrivate checks that an upstream cannot make a mirror ask its own network.
func TestPrivate(t *testing.T) {
	t.Parallel()
	to := ""
	s := serve(t, func(x *exchange) bool {
		if strings.HasPrefix(x.head, "GET /x") {
			return x.send("HTTP/1.1 302 Found\nLocation: %s\nContent-Length: 0\n\n", to) == nil
		}
		return x.send(ok10+ten) == nil
	})
	table := map[string]string{"public.example": "93.184.216.34", "private.example": "10.0.0.1", "cdn.example": "151.101.0.223"}
	follow := []string{
		"cdn.example", "private.example", "localhost", "127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]",
		"[fe80::1]", "0.0.0.0",
	}
	u := use(t, Config{URL: "http://public.example", Transport: public(table, s.Addr().String()), Follow: follow})
	if _, body, err := get(t, u, Request{Target: "/"}); err != nil || body != ten {
		t.Fatal(body, err)
	}
	to = "http://cdn.example/"
	if _, body, err := get(t, u, Request{Target: "/x"}); err != nil || body != ten {
		t.Fatal(body, err)
	}
	for _, host := range follow[1:] {
		to = "http://" + host + "/"
		before := len(s.heads())
		if _, _, err := get(t, u, Request{Target: "/x"}); classOf(t, err) != ErrRefused {
			t.Errorf("%s: %v", host, err)
		}
		if got := s.heads()[before:]; len(got) != 1 {
			t.Errorf("%s: something went out: %q", host, got[1:])
		}
	}

	// DNS rebinding, with a connection for each request.
	table["cdn.example"] = "192.168.1.1"
	u.Close()
	to = "http://cdn.example/"
	if _, _, err := get(t, u, Request{Target: "/x"}); classOf(t, err) != ErrRefused {
		t.Error(err)
	}
	// The upstream's own host, too, once it is redirected to.
	table["public.example"] = "93.184.216.34"
	to = "http://public.example:80/y"
	if _, _, err := get(t, u, Request{Target: "/x"}); err != nil {
		t.Error(err)
	}

	// A private upstream may redirect to private addresses.
	table["public.example"] = "10.1.1.1"
	u.Close()
	to = "http://private.example/"
	if _, body, err := get(t, u, Request{Target: "/x"}); err != nil || body != ten {
		t.Error(body, err)
	}
}

// TestControl checks that no connection is made at all where the dialer is at hand.
func TestControl(t *testing.T) {
	t.Parallel()
	inner := serve(t, func(x *exchange) bool { return x.send(ok10+ten) == nil })
	s := serve(t, func(x *exchange) bool {
		return x.send("HTTP/1.1 302 Found\nLocation: http://private.example:%d/\nContent-Length: 0\n\n", inner.Addr().(*net.TCPAddr).Port) == nil
	})
	first, guarded := public(map[string]string{"public.example": "93.184.216.34"}, s.Addr().String()), NewTransport()
	dialer := &net.Dialer{ControlContext: Control, Timeout: time.Second}
	guarded.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if strings.HasPrefix(address, "public.example:") {
			return first.DialContext(ctx, network, address)
		}
		return dialer.DialContext(ctx, network, inner.Addr().String())
	}
	u := use(t, Config{URL: "http://public.example", Transport: guarded, Follow: []string{"private.example:" + portOf(&url.URL{Host: inner.Addr().String()})}})
	if _, _, err := get(t, u, Request{Target: "/x"}); classOf(t, err) != ErrRefused {
		t.Error(err)
	}
	if n := inner.conns.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// TestPooledPrivate checks the last line of defence, for transports that [Control] and
// [Guard] are not built into.
func TestPooledPrivate(t *testing.T) {
	t.Parallel()
	first := &net.TCPAddr{IP: net.IPv4(8, 8, 8, 8), Port: 80}
	second := &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80}
	rt := roundTripper(func(r *http.Request) (*http.Response, error) {
		addr := first
		if r.URL.Host == "cdn.example" {
			addr = second
		}
		client, server := net.Pipe()
		server.Close()
		httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{Conn: &claims{client, addr}})
		h := http.Header{"Location": {"http://cdn.example/"}}
		return &http.Response{StatusCode: http.StatusFound, Header: h, Body: http.NoBody, Request: r}, nil
	})
	u := use(t, Config{URL: "http://public.example", Transport: rt, Follow: []string{"cdn.example"}})
	if _, _, err := get(t, u, Request{Target: "/"}); classOf(t, err) != ErrRefused {
		t.Error(err)
	}
	first = second
	if _, _, err := get(t, u, Request{Target: "/"}); classOf(t, err) != ErrLoop {
		t.Error(err)
	}
}

func TestPrivateAddresses(t *testing.T) {
	t.Parallel()
	for ip, want := range map[string]bool{
		"8.8.8.8": false, "2606:4700::1111": false, "151.101.0.223": false, "172.32.0.1": false, "64:ff9b::808:808": false, "2002:808:808::1": false,
		"127.0.0.1": true, "127.8.8.8": true, "10.0.0.1": true, "172.16.0.1": true, "192.168.0.1": true, "169.254.169.254": true, "100.64.0.1": true,
		"0.0.0.0": true, "0.1.2.3": true, "224.0.0.1": true, "255.255.255.255": true, "240.0.0.1": true, "198.18.0.1": true, "192.0.0.1": true,
		"::": true, "::1": true, "fe80::1": true, "fe80::1%eth0": true, "fc00::1": true, "fd00::1": true, "ff02::1": true, "fec0::1": true,
		"::ffff:127.0.0.1": true, "::ffff:10.0.0.1": true, "::127.0.0.1": true, "64:ff9b::7f00:1": true, "64:ff9b::a00:1": true,
		"2002:7f00:1::1": true, "2002:a00:1::1": true, "2001:db8::1": true,
	} {
		if got := Private(netip.MustParseAddr(ip)); got != want {
			t.Errorf("%s: %v", ip, got)
		}
	}
}
