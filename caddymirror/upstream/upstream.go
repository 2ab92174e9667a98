package upstream

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Config is what an [Upstream] is made from. Zero values have the defaults that stand with
// the fields.
type Config struct {
	// URL is of the upstream, http or https: its path stands in front of all targets.
	URL string

	// Transport carries the requests. It is not to be shared with another Upstream, see
	// [NewTransport], which is the default.
	Transport http.RoundTripper

	// Pseudonym is what Via names this mirror by, a token or host name. Default:
	// "caddymirror".
	Pseudonym string

	// UserAgent is sent with each request. Default: "caddymirror".
	UserAgent string

	// Header is sent to the upstream itself, and not to where it redirects to; Host
	// replaces that of URL. Its values are secret: they are in no error.
	Header http.Header

	// Follow are hosts that redirects are followed to, besides the upstream's own: HOST
	// with the usual port, HOST:PORT, or with `*.` in front for all below a domain.
	Follow []string

	// HeaderTimeout is how long the header of the answer may take, connecting and
	// redirects included. Default: 30 s.
	HeaderTimeout time.Duration

	// ReadTimeout is how long a body may pause. Default: 30 s.
	ReadTimeout time.Duration

	// Less than MinBytes in RateWindow of waiting for a body are a trickle. Defaults: 4096
	// bytes, 1 min.
	MinBytes   int64
	RateWindow time.Duration

	// MaxSize bounds a body, in bytes. Default: 64 GiB.
	MaxSize int64

	// HealthTarget is what the upstream is asked for by a [Group] to tell whether it is
	// there, as [Request.Target]: every HealthInterval (default: 30 s), from the first
	// request on, and while it is away. A status of 400 or more, or no answer, is away. By
	// default, nothing is asked for as long as the upstream answers, and then any answer
	// says that it is back.
	HealthTarget   string
	HealthInterval time.Duration

	// Health is shared with other Upstreams. By default it is made, and closed with the
	// Group.
	Health *Health
}

// Upstream is an HTTP server, and those it redirects to. It is safe for concurrent use.
type Upstream struct {
	base      *url.URL
	transport http.RoundTripper
	pseudonym string
	header    http.Header // of requests to base
	agent     string
	host      string // Host of requests to base, empty: that of the URL
	secrets   []string
	follow    []hostPort

	headerTimeout, readTimeout, rateWindow time.Duration
	minBytes, maxSize                      int64

	healthTarget string
	healthEvery  time.Duration
	health       *Health
	ownHealth    bool
}

type hostPort struct{ host, port string }

const (
	defaultName    = "caddymirror"
	defaultTimeout = 30 * time.Second
	defaultWindow  = time.Minute
	defaultMin     = 4096
	defaultMaxSize = 64 << 30
)

// New makes an Upstream. It asks nothing.
func New(c Config) (*Upstream, error) {
	base, err := url.Parse(c.URL)
	if err != nil {
		return nil, errors.New("the upstream's URL cannot be read") // it may have a password in it
	}
	switch {
	case base.Scheme != "http" && base.Scheme != "https", base.Hostname() == "", base.Opaque != "":
		return nil, errors.New("an upstream's URL is http://HOST or https://HOST, perhaps with a path")
	case base.User != nil:
		return nil, fmt.Errorf("upstream %s: a user and password go into the header field Authorization, not into the URL", base.Host)
	case base.RawQuery != "" || base.ForceQuery || base.Fragment != "":
		return nil, fmt.Errorf("upstream %s: the URL has a query or a fragment", base.Host)
	}
	u := &Upstream{
		base:          base,
		transport:     c.Transport,
		pseudonym:     cmp.Or(c.Pseudonym, defaultName),
		agent:         cmp.Or(c.UserAgent, defaultName),
		header:        http.Header{},
		headerTimeout: cmp.Or(c.HeaderTimeout, defaultTimeout),
		readTimeout:   cmp.Or(c.ReadTimeout, defaultTimeout),
		rateWindow:    cmp.Or(c.RateWindow, defaultWindow),
		minBytes:      cmp.Or(c.MinBytes, defaultMin),
		maxSize:       cmp.Or(c.MaxSize, defaultMaxSize),
		healthTarget:  c.HealthTarget,
		healthEvery:   cmp.Or(c.HealthInterval, defaultHealthEvery),
		health:        c.Health,
	}
	if u.health == nil {
		u.health, u.ownHealth = NewHealth(), true
	}
	if u.transport == nil {
		u.transport = NewTransport()
	}
	if strings.ContainsAny(u.pseudonym, " \t,()") || !httpguts.ValidHeaderFieldValue(u.pseudonym) {
		return nil, fmt.Errorf("upstream %s: pseudonym %q is neither a token nor a host", base.Host, u.pseudonym)
	}
	if !httpguts.ValidHeaderFieldValue(u.agent) {
		return nil, fmt.Errorf("upstream %s: the user agent %q is not the value of a header field", base.Host, u.agent)
	}
	if _, ok := resolve(base, u.healthTarget); u.healthTarget != "" && !ok {
		return nil, fmt.Errorf("upstream %s: the health check's target %q is not a path that begins with a slash", base.Host, u.healthTarget)
	}
	for what, d := range map[string]time.Duration{
		"header time-out": u.headerTimeout, "read time-out": u.readTimeout, "rate window": u.rateWindow, "health check's interval": u.healthEvery,
	} {
		if d < 0 {
			return nil, fmt.Errorf("upstream %s: the %s is negative", base.Host, what)
		}
	}
	if err := u.setHeader(c.Header); err != nil {
		return nil, err
	}
	for _, host := range c.Follow {
		h, err := parseHost(host)
		if err != nil {
			return nil, fmt.Errorf("upstream %s: %w", base.Host, err)
		}
		u.follow = append(u.follow, h)
	}
	return u, nil
}

// own are the fields that this package sets itself, and those of a connection: nobody
// else may.
var own = []string{
	"Accept", "Accept-Encoding", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
	"Range", "Via", "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding",
	"Upgrade", "Content-Length", "Expect",
}

// minSecret is how long a value must be to be taken out of errors: `1` is no secret, and
// would make them unreadable.
const minSecret = 4

func (u *Upstream) setHeader(header http.Header) error {
	for name, values := range header {
		name = textproto.CanonicalMIMEHeaderKey(name)
		if !httpguts.ValidHeaderFieldName(name) || slices.Contains(own, name) {
			return fmt.Errorf("upstream %s: the header field %q cannot be set", u.base.Host, name)
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return fmt.Errorf("upstream %s: the value of the header field %s is not valid", u.base.Host, name)
			}
			if name == "Host" {
				u.host = value
				continue
			}
			u.header[name] = append(u.header[name], value)
			u.hide(value)
		}
	}
	return nil
}

// hide has what is secret in a field's value taken out of errors.
func (u *Upstream) hide(value string) {
	// The scheme of Authorization is no secret, what follows is.
	for secret := range strings.FieldsSeq(value) {
		if len(secret) >= minSecret && !strings.EqualFold(secret, "bearer") && !strings.EqualFold(secret, "basic") {
			u.secrets = append(u.secrets, secret)
		}
	}
	// The longest first: one may be a part of another.
	slices.SortFunc(u.secrets, func(a, b string) int { return len(b) - len(a) })
}

// hiding is the upstream for one request: errors have none of its credentials.
func (u *Upstream) hiding(authorization string) *Upstream {
	if authorization == "" {
		return u
	}
	one := *u
	one.secrets = slices.Clone(u.secrets)
	one.hide(authorization)
	return &one
}

// parseHost reads an element of Follow.
func parseHost(s string) (hostPort, error) {
	u, err := url.Parse("//" + s)
	if err != nil || u.Host != s || u.Hostname() == "" || strings.Contains(strings.TrimPrefix(s, "*."), "*") {
		return hostPort{}, fmt.Errorf("%q is not HOST or HOST:PORT", s)
	}
	return hostPort{strings.ToLower(u.Hostname()), u.Port()}, nil
}

// String is the upstream's URL.
func (u *Upstream) String() string { return u.base.String() }

// NotBefore is until when the upstream wants no requests (Retry-After, see [RetryAfter]).
// Until then [Upstream.Fetch] asks nothing. Zero or past: it may be asked.
func (u *Upstream) NotBefore() time.Time { return u.health.pauses.get(hostKey(u.base)) }

func hostKey(u *url.URL) string { return strings.ToLower(u.Hostname()) + ":" + portOf(u) }

// Close closes the connections that are idle.
func (u *Upstream) Close() { u.closeIdle() }

func (u *Upstream) closeIdle() {
	if t, ok := u.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}
