package origin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/upstream"
)

func init() {
	caddy.RegisterModule(new(HTTP))
}

// HTTP is an HTTP server, such as a package registry, or several that have the same. What
// they are asked is made from nothing: no cookies, addresses or credentials of clients go
// out.
//
// An upstream that does not answer three times in a row counts as away, and is asked once a
// second until it answers; one that asks for a pause (status 429, or Retry-After with 503)
// is not asked before that is over. Both are known across reloads, and to all origins that
// ask the same upstream with the same `transport` and `header_up`.
//
// Redirects within the host of an upstream, and to those in `follow`, are followed: at most
// ten. Redirects from a public address to a private one are refused.
type HTTP struct {
	// Upstreams are URLs, the preferred one first: http or https, with a path if that
	// stands in front of all names. The others are asked where those before them are away
	// or fail. They may contain global placeholders. At least one is required.
	Upstreams []string `json:"upstreams,omitempty"`

	// How requests are sent: a module of the namespace `http.reverse_proxy.transport`, as
	// `reverse_proxy` has it. Each upstream gets one of its own. Default: `http`, with
	// HTTP/2 where an https upstream has it.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// Header fields that are sent to the upstreams, and not to other hosts that these
	// redirect to: an Authorization of the mount's own, for example. Values may contain
	// global placeholders, such as `{env.TOKEN}` and `{file./etc/mirror/token}`, which are
	// replaced when the configuration is loaded. The values are secret: they are in no
	// status, log or error.
	HeaderUp http.Header `json:"header_up,omitempty"`

	// Hosts that redirects are followed to, besides that of the upstream: HOST, HOST:PORT,
	// or `*.DOMAIN` for all below a domain. Other redirects go to the client.
	Follow []string `json:"follow,omitempty"`

	// How long an upstream may take to send the header of its response, connecting and
	// redirects included. Default: `30s`.
	HeaderTimeout caddy.Duration `json:"header_timeout,omitempty"`

	// How long a body may pause. One of which less than 4 KiB come in a minute is given up
	// as well. Default: `30s`.
	ReadTimeout caddy.Duration `json:"read_timeout,omitempty"`

	// What the upstreams are told who asks. Default: `caddymirror`.
	UserAgent string `json:"user_agent,omitempty"`

	// Bounds what the upstreams are asked for. Hits of the cache are not affected.
	Limit *HTTPLimit `json:"limit,omitempty"`

	// The path that upstreams are asked for to tell whether they are there, below their
	// URLs: every HealthInterval, from the first request on. A status of 400 or more says
	// that an upstream is away. By default there are no such checks.
	HealthURI string `json:"health_uri,omitempty"`

	// How often HealthURI is asked for. Default: `30s`.
	HealthInterval caddy.Duration `json:"health_interval,omitempty"`

	log       *zap.Logger
	name      string
	pseudonym string
	group     *upstream.Group
	shared    []func() error // that let go of what is shared with other configs
	limits    *httpLimits
	count     *counters
	cleaned   bool
}

// HTTPLimit bounds what the upstreams of an origin are asked for, together. Origins with
// the same upstreams and the same limit share it.
type HTTPLimit struct {
	// How many requests may be under way at a time, bodies included. Further ones wait, in
	// order, for HeaderTimeout at most: then the origin counts as busy. Default: 0, any
	// number.
	Requests int64 `json:"requests,omitempty"`

	// How many bytes of bodies may come in a second. Default: 0, any number.
	Bandwidth int64 `json:"bandwidth,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (*HTTP) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.origins.http", New: func() caddy.Module { return new(HTTP) }}
}

// Provision sets h up. It asks nothing.
func (h *HTTP) Provision(ctx caddy.Context) error {
	h.log = ctx.Logger()
	if err := h.Validate(); err != nil {
		return err
	}
	urls, err := h.urls()
	if err != nil {
		return err
	}
	h.name = strings.Join(urls, " ")
	h.pseudonym = pseudonymOf(h.name)
	h.count = countersOf(h.name)
	header, err := expand(h.HeaderUp)
	if err != nil {
		return err
	}
	// From here on, what is shared is held, and Cleanup is called even if this fails.
	if h.limits, err = h.shareLimits(); err != nil {
		return err
	}
	raw := h.TransportRaw
	all := make([]*upstream.Upstream, 0, len(urls))
	for _, url := range urls {
		health, err := h.shareHealth(url, raw, header)
		if err != nil {
			return err
		}
		h.TransportRaw = raw // loading a module takes it away
		transport, err := h.loadTransport(ctx)
		if err != nil {
			return fmt.Errorf("transport: %w", err)
		}
		u, err := upstream.New(upstream.Config{
			URL: url, Transport: transport, Pseudonym: h.pseudonym, UserAgent: h.UserAgent,
			Header: header, Follow: h.Follow,
			HeaderTimeout: time.Duration(h.HeaderTimeout), ReadTimeout: time.Duration(h.ReadTimeout),
			HealthTarget: h.HealthURI, HealthInterval: time.Duration(h.HealthInterval), Health: health,
		})
		if err != nil {
			return err
		}
		all = append(all, u)
	}
	h.group = upstream.NewGroup(h.moved, all...)
	return nil
}

// urls are those of the upstreams, as they identify what is cached.
func (h *HTTP) urls() ([]string, error) {
	urls := make([]string, 0, len(h.Upstreams))
	for _, word := range h.Upstreams {
		url, err := caddy.NewReplacer().ReplaceOrErr(word, true, true)
		if err != nil {
			return nil, fmt.Errorf("upstream: %w", err)
		}
		u, err := upstream.New(upstream.Config{URL: url})
		if err != nil {
			return nil, err
		}
		urls = append(urls, u.String())
	}
	return urls, nil
}

// expand replaces the placeholders of header fields. Errors have no values.
func expand(header http.Header) (http.Header, error) {
	expanded := make(http.Header, len(header))
	for name, values := range header {
		for _, value := range values {
			plain, err := caddy.NewReplacer().ReplaceOrErr(value, true, true)
			if err != nil {
				return nil, fmt.Errorf("header_up %s: %w", name, err)
			}
			expanded[name] = append(expanded[name], plain)
		}
	}
	return expanded, nil
}

// Validate checks the settings.
func (h *HTTP) Validate() error {
	switch {
	case len(h.Upstreams) == 0:
		return errors.New("there are no upstreams")
	case h.HeaderTimeout < 0:
		return errors.New("header_timeout must be positive")
	case h.ReadTimeout < 0:
		return errors.New("read_timeout must be positive")
	case h.HealthInterval < 0:
		return errors.New("health_interval must be positive")
	case h.HealthInterval > 0 && h.HealthURI == "":
		return errors.New("health_interval is set, and health_uri is not")
	case h.Limit != nil && (h.Limit.Requests < 0 || h.Limit.Bandwidth < 0):
		return errors.New("a limit must be positive")
	}
	return nil
}

func (h *HTTP) moved(u *upstream.Upstream, away bool, reason error) {
	if away {
		h.log.Warn("upstream is away", zap.String("upstream", u.String()), zap.Error(reason))
		return
	}
	h.log.Info("upstream is back", zap.String("upstream", u.String()))
}

// Cleanup closes idle connections, and lets go of what h shares. Requests under way go on.
func (h *HTTP) Cleanup() error {
	if h.cleaned {
		return nil
	}
	h.cleaned = true
	if h.group != nil {
		h.group.Close()
	}
	var errs []error
	for _, release := range h.shared {
		errs = append(errs, release())
	}
	return errors.Join(errs...)
}

// String is the URLs of the upstreams.
func (h *HTTP) String() string { return h.name }

// Servers is how many upstreams there are.
func (h *HTTP) Servers() int { return len(h.Upstreams) }

// Interface guards
var (
	_ Origin             = (*HTTP)(nil)
	_ caddy.Provisioner  = (*HTTP)(nil)
	_ caddy.Validator    = (*HTTP)(nil)
	_ caddy.CleanerUpper = (*HTTP)(nil)
	_ Written            = (*HTTP)(nil)
	_ Joiner             = (*HTTP)(nil)
	_ Repeater           = (*HTTP)(nil)
)
