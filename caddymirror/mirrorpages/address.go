package mirrorpages

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/unifiedmirrors/mirror/caddymirror/mirror"
)

// address is how a client reaches the site. All of it can be put into files without
// being quoted: it is made of letters, digits, dots, hyphens and underscores, or is an
// IP address.
type address struct {
	scheme string // "http" or "https"
	host   string // in lower case; IPv6 addresses in brackets
	port   string // "" if it is the scheme's own
	path   string // what a rewrite has taken off the path, escaped; mostly ""
}

func (a address) hostPort() string {
	if a.port == "" {
		return a.host
	}
	return a.host + ":" + a.port
}

func (a address) String() string { return a.scheme + "://" + a.hostPort() + a.path }

// address is how the client of a request reaches the site.
func (c *Clients) address(h http.Header, r *http.Request) (address, error) {
	if c.url != nil {
		return *c.url, nil
	}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	if trusted, _ := caddyhttp.GetVar(r.Context(), caddyhttp.TrustedProxyVarKey).(bool); trusted {
		h.Add("Vary", "X-Forwarded-Host, X-Forwarded-Proto")
		if s := strings.ToLower(lastValue(r.Header, "X-Forwarded-Proto")); s == "http" || s == "https" {
			scheme = s
		}
		if s := lastValue(r.Header, "X-Forwarded-Host"); s != "" {
			host = s
		}
	}
	a, err := newAddress(scheme, host)
	if err != nil {
		return address{}, err
	}
	if orig, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		if prefix, ok := strings.CutSuffix(orig.URL.Path, r.URL.Path); ok {
			a.path = escape(prefix)
		}
	}
	return a, nil
}

// lastValue is the last element of a list in a request: what the nearest proxy has
// added.
func lastValue(h http.Header, name string) string {
	all := h.Values(name)
	if len(all) == 0 {
		return ""
	}
	last := all[len(all)-1]
	return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
}

var errHost = errors.New("the request's host is not the name of a host")

// newAddress reads a Host field (RFC 9110 section 7.2). What it does not know to be
// harmless is an error.
func newAddress(scheme, hostPort string) (address, error) {
	a := address{scheme: scheme, host: strings.ToLower(hostPort)}
	if i := strings.LastIndexByte(a.host, ':'); i >= 0 && !strings.HasSuffix(a.host, "]") {
		var err error
		if a.host, a.port, err = net.SplitHostPort(a.host); err != nil {
			return address{}, errHost
		}
		if strings.Contains(a.host, ":") {
			a.host = "[" + a.host + "]"
		}
		n, err := strconv.ParseUint(a.port, 10, 16)
		if err != nil || n == 0 {
			return address{}, errHost
		}
		a.port = strconv.FormatUint(n, 10)
	}
	if scheme == "http" && a.port == "80" || scheme == "https" && a.port == "443" {
		a.port = ""
	}
	if in, ok := strings.CutPrefix(a.host, "["); ok {
		in, ok = strings.CutSuffix(in, "]")
		ip, err := netip.ParseAddr(in)
		if !ok || err != nil || !ip.Is6() || ip.Zone() != "" {
			return address{}, errHost
		}
		a.host = "[" + ip.String() + "]"
		return a, nil
	}
	if !mirror.IsHostName(strings.TrimSuffix(a.host, ".")) {
		return address{}, errHost
	}
	return a, nil
}

// parseURL reads the address of a site that is configured.
func parseURL(s string) (*address, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("url %q is not of the form http://HOST or https://HOST", s)
	}
	a, err := newAddress(u.Scheme, u.Host)
	if err != nil {
		return nil, fmt.Errorf("url %q has no valid host", s)
	}
	a.path = escape(strings.TrimSuffix(u.Path, "/"))
	return &a, nil
}

// escape escapes a path for URLs: all that could mean something to a shell, or to the
// readers of configuration files, too.
func escape(p string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(p) {
		ch := p[i]
		if 'a' <= ch && ch <= 'z' || 'A' <= ch && ch <= 'Z' || '0' <= ch && ch <= '9' || strings.IndexByte("/-._~", ch) >= 0 {
			b.WriteByte(ch)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(hex[ch>>4])
		b.WriteByte(hex[ch&15])
	}
	return b.String()
}
