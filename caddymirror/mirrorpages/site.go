package mirrorpages

import (
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/mirror"
)

// site is what is mirrored at one address.
type site struct {
	c      *Clients
	at     address
	mounts []mount
	old    bool // the address is an old name of a mount
}

// mount is a mount with the prefix that it has for the client.
type mount struct {
	mirror.Served
	seen string // Prefix, or "" at an old name
}

func (s *site) String() string { return s.at.String() }

// newSite finds the mounts of a request's site: those of the routes that may be for its
// host. At an old name of a mount there is nothing else.
func newSite(c *Clients, r *http.Request, at address) *site {
	s := &site{c: c, at: at}
	srv, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	if !ok {
		return s
	}
	f := finder{srv: srv, r: r}
	f.routes(srv.Routes)
	host := mirror.HostName(r.Host)
	for _, m := range f.found {
		if slices.Contains(m.OldNames, host) {
			s.mounts, s.old = []mount{{m, ""}}, true
			return s
		}
		if !slices.ContainsFunc(s.mounts, func(o mount) bool { return o.Prefix == m.Prefix }) {
			s.mounts = append(s.mounts, mount{m, m.Prefix})
		}
	}
	return s
}

// finder looks for the mounts of a host in a server's routes.
type finder struct {
	srv   *caddyhttp.Server
	r     *http.Request
	found []mirror.Served
	depth int
}

// maxDepth is how deep routes lie in each other, at most: named ones can invoke
// themselves.
const maxDepth = 32

func (f *finder) routes(routes caddyhttp.RouteList) {
	f.depth++
	defer func() { f.depth-- }()
	if f.depth > maxDepth {
		return
	}
	for i := range routes {
		mayMatch, sure := f.forHost(&routes[i])
		if !mayMatch {
			continue
		}
		f.handlers(routes[i].Handlers)
		if sure && routes[i].Terminal {
			return
		}
	}
}

func (f *finder) handlers(handlers []caddyhttp.MiddlewareHandler) {
	for _, h := range handlers {
		switch h := h.(type) {
		case mirror.Server:
			f.found = append(f.found, h.Served()...)
		case *caddyhttp.Subroute:
			f.routes(h.Routes)
		case *caddyhttp.Invoke:
			if named := f.srv.NamedRoutes[h.Name]; named != nil {
				f.routes(caddyhttp.RouteList{*named})
			}
		}
	}
}

// forHost reports whether requests for the host can match a route, and whether all of
// them surely do. Other matchers are not asked: they are for other paths.
func (f *finder) forHost(route *caddyhttp.Route) (may, sure bool) {
	if len(route.MatcherSets) == 0 {
		return true, true
	}
	for _, set := range route.MatcherSets {
		matches, only := true, true
		for _, m := range set {
			switch m := m.(type) {
			case *caddyhttp.MatchHost:
				matches = matches && m.Match(f.r)
			case caddyhttp.MatchHost:
				matches = matches && m.Match(f.r)
			default:
				only = false
			}
		}
		may = may || matches
		sure = sure || matches && only
	}
	return may, sure
}

// path is a path of the configuration as the client has to write it, without a slash at
// its end, if there is a mount for it. That there is none is logged once.
func (s *site) path(p string) (string, bool) {
	p = strings.TrimSuffix(p, "/")
	for _, m := range s.mounts {
		if below, ok := strings.CutPrefix(p, m.Prefix); ok && (below == "" || below[0] == '/') {
			return s.at.path + escape(m.seen+below), true
		}
	}
	if !s.old {
		if _, was := s.c.warned.LoadOrStore(p, nil); !was {
			s.c.log.Warn("not mirrored, and left out of the configuration for clients", zap.String("path", p), zap.String("site", s.at.String()))
		}
	}
	return "", false
}

// url is the URL of a path that the client has to write.
func (s *site) url(path string) string { return s.at.scheme + "://" + s.at.hostPort() + path }
