package check

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// A client asks one host, and no other: what redirects elsewhere is refused.
type client struct {
	base    *url.URL // with a slash at its end
	http    *http.Client
	timeout time.Duration
	bytes   atomic.Int64 // received
	told    func(what string)
}

const userAgent = "caddy-mirror-check"

func newClient(base *url.URL, o *Options) *client {
	b := *base
	b.Path = strings.TrimSuffix(b.Path, "/") + "/"
	b.RawPath = ""
	rt := o.Transport
	if rt == nil {
		rt = &http.Transport{
			Proxy:                  o.proxy(),
			DialContext:            o.dial,
			TLSHandshakeTimeout:    o.Timeout,
			MaxIdleConnsPerHost:    2 * workers,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: maxHeader,
			DisableCompression:     true, // files are compared as they are
			ForceAttemptHTTP2:      true,
		}
	}
	c := &client{base: &b, timeout: o.Timeout, told: o.Progress}
	if c.told == nil {
		c.told = func(string) {}
	}
	c.http = &http.Client{Transport: rt, CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if err := c.allows(r.URL); err != nil {
			return fault.Errorf("redirects elsewhere: %s", err)
		}
		if len(via) > maxRedirects {
			return fault.Errorf("redirects more than %d times", maxRedirects)
		}
		return nil
	}}
	return c
}

// proxy says which proxy to use: none if it is said what to connect to.
func (o *Options) proxy() func(*http.Request) (*url.URL, error) {
	if o.Connect != "" {
		return nil
	}
	return http.ProxyFromEnvironment
}

func (o *Options) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if o.Connect != "" {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		address = o.Connect
		if _, _, err := net.SplitHostPort(address); err != nil {
			address = net.JoinHostPort(strings.Trim(address, "[]"), port)
		}
	}
	return (&net.Dialer{Timeout: o.Timeout}).DialContext(ctx, network, address)
}

func (c *client) close() { c.http.CloseIdleConnections() }

// allows returns why an address is not asked: it is not of the host.
func (c *client) allows(u *url.URL) error {
	switch {
	case u.Host == c.base.Host && u.Scheme == c.base.Scheme:
		return nil
	case u.Scheme == "https" && c.base.Scheme == "http" && u.Hostname() == c.base.Hostname():
		return nil // it wants to be asked over TLS
	}
	return fault.Errorf("%s is not at this host", fault.Show(u.Redacted()))
}

// at returns the address of a path below that of the host. It is not escaped.
func (c *client) at(path string) *url.URL {
	u := *c.base
	u.Path += strings.TrimPrefix(path, "/")
	return &u
}

// shown is an address as findings name it.
func shown(u *url.URL) string {
	text := u.EscapedPath()
	if u.RawQuery != "" {
		text += "?" + u.RawQuery
	}
	return fault.Show(text)
}

// An answer is a response whose body is bounded in time. Who gets one closes it.
type answer struct {
	*http.Response
	body   *body
	cancel context.CancelCauseFunc
}

// at is the address that has answered, after redirects.
func (a *answer) at() *url.URL { return a.Request.URL }

func (a *answer) close() {
	a.body.timer.Stop()
	a.cancel(nil)
	a.Body.Close()
}

var errLate = errors.New("late")

// A silence is a fault of a host: it does not answer. It is told apart from an answer that
// is wrong.
type silence struct{ reason string }

func (s *silence) Error() string { return s.reason }

// ask makes a request. Its error may be one of ctx; all others are faults of the host.
func (c *client) ask(ctx context.Context, method string, u *url.URL, header http.Header) (*answer, error) {
	if err := c.allows(u); err != nil {
		return nil, err
	}
	outer := ctx
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, fault.Errorf("is no address: %s", fault.Show(err.Error()))
	}
	maps.Copy(req.Header, header)
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept-Encoding", "identity")
	timer := time.AfterFunc(c.timeout, func() { cancel(errLate) })
	resp, err := c.http.Do(req) //nolint:bodyclose // whoever gets the answer closes it
	if err != nil {
		timer.Stop()
		late := errors.Is(context.Cause(ctx), errLate)
		cancel(nil)
		if outer.Err() != nil {
			return nil, context.Cause(outer)
		}
		return nil, c.unanswered(late, err)
	}
	timer.Stop()
	b := &body{c: c, ctx: ctx, r: resp.Body, timer: timer}
	return &answer{resp, b, cancel}, nil
}

// unanswered says why there is no answer.
func (c *client) unanswered(late bool, err error) error {
	if late {
		return &silence{"gives no answer within " + c.timeout.String()}
	}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // the rest is how we have asked
	}
	return &silence{"can not be asked: " + fault.Show(err.Error())}
}

// body reads what is sent, for as long as it comes fast enough.
type body struct {
	c     *client
	ctx   context.Context
	r     io.Reader
	timer *time.Timer
	spent time.Duration // waiting
	n     int64
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	left := min(b.c.timeout, b.c.timeout+time.Duration(b.n)*time.Second/minRate-b.spent)
	slow := fault.Errorf("is sent at less than %d KiB/s: %d bytes in %v", minRate>>10, b.n, b.spent.Round(time.Millisecond))
	if left <= 0 {
		return 0, slow
	}
	b.timer.Reset(left)
	start := time.Now()
	n, err := b.r.Read(p)
	b.timer.Stop()
	b.spent += time.Since(start)
	b.n += int64(n)
	b.c.bytes.Add(int64(n))
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case errors.Is(context.Cause(b.ctx), errLate) && left < b.c.timeout:
		return n, slow
	case errors.Is(context.Cause(b.ctx), errLate):
		return n, fault.Errorf("stops after %d bytes", b.n)
	case b.ctx.Err() != nil:
		return n, context.Cause(b.ctx)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return n, fault.Errorf("is cut off after %d bytes", b.n)
	}
	return n, fault.Errorf("breaks off after %d bytes: %s", b.n, fault.Show(err.Error()))
}
