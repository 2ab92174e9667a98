// Package mirrorcache serves package mirrors through a local disk cache: a
// request's way from URL prefix to mount, to cache, to origin.
package mirrorcache

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/unifiedmirrors/mirror/caddymirror/mirror"
)

func init() {
	caddy.RegisterModule(new(Handler))
}

// Handler serves the trees that are mounted under URL prefixes, each through
// a local disk cache.
//
// A request belongs to the mount with the longest prefix; what no mount claims
// goes to the next handler. At an old name of a mount all requests are the mount's.
// Only GET and HEAD are allowed.
//
// Every response says what the cache did in a `Cache-Status` field (RFC 9211).
// Placeholders, for access logs and other handlers:
//
// Placeholder | Description
// ------------|------------
// `{http.mirror_cache.mount}` | The mount's prefix
// `{http.mirror_cache.result}` | hit, stale, revalidated, miss, collapsed, bypass, not_found, redirect, listing, error or busy
type Handler struct {
	// Mounts are URL prefixes with the origins behind them.
	Mounts []*Mount `json:"mounts,omitempty"`

	byLength []*Mount           // longest prefix first
	oldNames map[string]oldName // by host; nil if there are none
}

// CaddyModule returns the Caddy module information.
func (*Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.mirror_cache", New: func() caddy.Module { return new(Handler) }}
}

// Provision sets the mounts up.
func (h *Handler) Provision(ctx caddy.Context) error {
	v, err := ctx.App("mirror")
	if err != nil {
		return fmt.Errorf("getting the mirror app: %w", err)
	}
	app := v.(*mirror.App)
	if err := registerMetrics(ctx); err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	for _, m := range h.Mounts {
		m.mounted = h.mounted
		if err := m.provision(ctx, app); err != nil {
			return fmt.Errorf("mount %s: %w", m.Prefix, err)
		}
		app.AddMount(m.Prefix, m)
	}
	if h.oldNames, err = oldNamesOf(h.Mounts); err != nil {
		return err
	}
	if s, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok {
		s.RegisterConnContext(keepConn)
	}
	h.byLength = slices.SortedStableFunc(slices.Values(h.Mounts), func(a, b *Mount) int {
		return cmp.Compare(len(b.Prefix), len(a.Prefix))
	})
	return nil
}

// Validate makes sure that each prefix has one mount.
func (h *Handler) Validate() error {
	if len(h.Mounts) == 0 {
		return errors.New("there are no mounts")
	}
	seen := map[string]bool{}
	for _, m := range h.Mounts {
		if seen[m.Prefix] {
			return fmt.Errorf("mount %s is there twice", m.Prefix)
		}
		seen[m.Prefix] = true
	}
	return nil
}

// ServeHTTP answers requests for what is mounted.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	p := cleanPath(r.URL.Path)
	if h.oldNames != nil {
		if o, ok := h.oldName(r); ok {
			o.requests.Inc()
			return o.mount.serve(w, r, p)
		}
	}
	for _, m := range h.byLength {
		if rest, ok := m.claims(p); ok {
			return m.serve(w, r, rest)
		}
	}
	return next.ServeHTTP(w, r)
}

// mounted is the path, with the query, at which a mount has a URL of its upstreams.
func (h *Handler) mounted(u *url.URL) (to string, ok bool) {
	for _, m := range h.byLength {
		if !m.web {
			continue
		}
		if target, ok := m.mountedHere(u); ok {
			return strings.TrimSuffix(m.Prefix, "/") + target, true
		}
	}
	return "", false
}

// Served implements mirror.Server.
func (h *Handler) Served() []mirror.Served {
	all := make([]mirror.Served, 0, len(h.Mounts))
	for _, m := range h.Mounts {
		all = append(all, mirror.Served{Prefix: strings.TrimSuffix(m.Prefix, "/"), Format: m.formatName, OldNames: m.OldNames})
	}
	return all
}

// cleanPath is p without empty and dot elements. A slash at the end stays.
func cleanPath(p string) string {
	if p == "" || p[0] != '/' {
		p = "/" + p
	}
	clean := path.Clean(p)
	if clean != "/" && (strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") || strings.HasSuffix(p, "/..")) {
		if len(p) == len(clean)+1 {
			return p // as it nearly always is
		}
		clean += "/"
	}
	return clean
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
	_ mirror.Server               = (*Handler)(nil)
)
