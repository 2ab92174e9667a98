package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"syscall"
)

// A redirect must not lead into the network that the mirror is in, which the upstream
// cannot reach itself. The address that is dialled is looked at, and not only the name,
// since any name can have any address. Behind a proxy of the network that is the proxy's:
// there, it is up to that proxy where it connects to.

// leg is what is known of one request of a chain of redirects.
type leg struct {
	publicOnly bool // redirected to, by an upstream at a public address
}

type legKey struct{}

// Control refuses connections to private addresses for redirects of upstreams that have
// none themselves. It is for the ControlContext of the [net.Dialer] of a transport:
// nothing is sent then, no SYN either.
func Control(ctx context.Context, _, address string, _ syscall.RawConn) error {
	if l, _ := ctx.Value(legKey{}).(*leg); l != nil && l.publicOnly {
		return checkAddress(address)
	}
	return nil
}

// Guard is the dial function of a transport, with the rule of [Control] for those whose
// dialer is not at hand: a connection is made, and closed before anything is sent. Over
// its connections, nothing is taken for an answer that came before the request.
func Guard(dial func(ctx context.Context, network, address string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if err := Control(ctx, network, conn.RemoteAddr().String(), nil); err != nil {
			conn.Close()
			return nil, err
		}
		return &orderedConn{Conn: conn}, nil
	}
}

// privateError says that a redirect leads to a private address.
type privateError struct{ address string }

func (e *privateError) Error() string { return "redirect to the private address " + e.address }

func checkAddress(address string) error {
	if private, known := privateAddress(address); private || !known {
		return &privateError{address}
	}
	return nil
}

// privateAddress looks at what [net.Addr] has as text.
func privateAddress(address string) (private, known bool) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false, false
	}
	return Private(ip), true
}

// privateHost reports whether a URL names a private address without the DNS.
func privateHost(u *url.URL) bool {
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && Private(ip)
}

// special are the networks that no public server is in, besides those that package netip
// knows (IANA's registries of special-purpose addresses).
var special = prefixes("0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
	"::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20", "5f00::/16", "fec0::/10")

// embedding are the networks whose addresses lead to one of IPv4, and where in them that is.
var embedding = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // NAT64
	{netip.MustParsePrefix("2002::/16"), 2},     // 6to4
}

func prefixes(list ...string) (p []netip.Prefix) {
	for _, s := range list {
		p = append(p, netip.MustParsePrefix(s))
	}
	return p
}

// Private reports whether an address is none of a public server: private, loopback,
// link-local, multicast, reserved.
func Private(ip netip.Addr) bool {
	ip = ip.Unmap().WithZone("")
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return true
	}
	for _, p := range special {
		if p.Contains(ip) {
			return true
		}
	}
	for _, e := range embedding {
		if e.prefix.Contains(ip) {
			b := ip.As16()
			return Private(netip.AddrFrom4([4]byte(b[e.at : e.at+4])))
		}
	}
	return false
}

// remote is the address of the connection that a leg went over: whether it is private.
type remote struct {
	private atomic.Bool
}

func (r *remote) see(addr net.Addr) (address string, private bool) {
	address = fmt.Sprint(addr)
	private, known := privateAddress(address)
	if addr != nil && addr.Network() == "unix" {
		private, known = true, true
	}
	r.private.Store(private)
	return address, private || !known
}
