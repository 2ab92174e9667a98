package origin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
	"github.com/unifiedmirrors/mirror/caddymirror/upstream"
)

func init() {
	caddy.RegisterModule(new(HTTP))
}

// HTTP is an HTTP server, such as a package registry, or several that have the same. What
// they are asked is made from nothing: no cookies, addresses or credentials of clients go
// out.
type HTTP struct {
	// Upstreams are URLs, the preferred one first: http or https, with a path if that
	// stands in front of all names. The others are asked where those before them are away
	// or fail. They may contain global placeholders. At least one is required.
	Upstreams []string `json:"upstreams,omitempty"`

	log   *zap.Logger
	name  string
	group *upstream.Group
	count counters
}

// CaddyModule returns the Caddy module information.
func (*HTTP) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.origins.http", New: func() caddy.Module { return new(HTTP) }}
}

// Provision sets h up. It asks nothing.
func (h *HTTP) Provision(ctx caddy.Context) error {
	h.log = ctx.Logger()
	if len(h.Upstreams) == 0 {
		return errors.New("there are no upstreams")
	}
	var all []*upstream.Upstream
	for _, word := range h.Upstreams {
		url, err := caddy.NewReplacer().ReplaceOrErr(word, true, true)
		if err != nil {
			return fmt.Errorf("upstream: %w", err)
		}
		u, err := upstream.New(upstream.Config{URL: url})
		if err != nil {
			return err
		}
		all = append(all, u)
	}
	names := make([]string, 0, len(all))
	for _, u := range all {
		names = append(names, u.String())
	}
	h.name = strings.Join(names, " ")
	h.group = upstream.NewGroup(h.moved, all...)
	return nil
}

func (h *HTTP) moved(u *upstream.Upstream, away bool, reason error) {
	if away {
		h.log.Warn("upstream is away", zap.String("upstream", u.String()), zap.Error(reason))
		return
	}
	h.log.Info("upstream is back", zap.String("upstream", u.String()))
}

// Cleanup closes idle connections. Requests under way go on.
func (h *HTTP) Cleanup() error {
	if h.group != nil {
		h.group.Close()
	}
	return nil
}

// String is the URLs of the upstreams.
func (h *HTTP) String() string { return h.name }

// Servers is how many upstreams there are.
func (h *HTTP) Servers() int { return len(h.Upstreams) }

// Fetch implements [Origin].
func (h *HTTP) Fetch(ctx context.Context, r Request) (Reply, error) {
	ask := upstream.Request{
		Target: "/" + r.Name, Head: r.Head, Accept: r.Accept, AcceptEncoding: r.AcceptEncoding,
		Offset: r.Offset, Length: r.Length, Only: r.Only, Refresh: r.Refresh, Skip: r.Skip, Via: r.Via,
	}
	if r.Have != nil {
		ask.Conditions = freshness.Conditions(http.Header(r.Have.Header))
	}
	h.count.reads.Add(1)
	resp, err := h.group.Fetch(ctx, ask)
	if err != nil {
		err = classifyHTTP(err)
		h.count.failed(err)
		return Reply{}, err
	}
	if resp.Status == http.StatusRequestedRangeNotSatisfiable || resp.Changed || (r.Offset > 0 || r.Only != "") && resp.Start != r.Offset {
		resp.Close()
		return Reply{}, ErrChanged
	}
	reply := Reply{
		Info:      Info{Size: resp.Size, Validator: resp.Validator},
		Unchanged: r.Have != nil && resp.Status == http.StatusNotModified,
		Response: &freshness.Response{
			Status: resp.Status, Header: resp.Header, RequestTime: resp.RequestTime, ResponseTime: resp.ResponseTime,
		},
		Unframed: resp.Unframed,
		Redirect: resp.Redirect,
	}
	if t, err := http.ParseTime(resp.Header.Get("Last-Modified")); err == nil {
		reply.ModTime = t
	}
	if resp.Body != nil {
		reply.Body = &httpBody{h: h, resp: resp, info: reply.Info}
	}
	return reply, nil
}

// httpBody is the body of a response.
type httpBody struct {
	h    *HTTP
	resp *upstream.Response
	info Info
}

func (b *httpBody) Read(p []byte) (int, error) {
	n, err := b.resp.Body.Read(p)
	b.h.count.readBytes.Add(uint64(n))
	if _, ok := errors.AsType[*upstream.BrokenError](err); ok {
		err = fmt.Errorf("%w: %w", ErrAway, err)
		b.h.count.failed(err)
	}
	return n, err
}

func (b *httpBody) Close() error { return b.resp.Body.Close() }

func (b *httpBody) Info() Info { return b.info }

// classifyHTTP turns an error of an upstream into one of Origin.
func classifyHTTP(err error) error {
	if busy, ok := errors.AsType[*upstream.BusyError](err); ok {
		return fmt.Errorf("%w: %w", &PauseError{Until: busy.Until}, err)
	}
	class := ErrAway
	switch {
	case errors.Is(err, upstream.ErrLoop):
		class = ErrLoop
	case errors.Is(err, upstream.ErrRefused):
		class = ErrRefused
	case errors.Is(err, upstream.ErrChanged):
		class = ErrChanged
	case errors.Is(err, upstream.ErrTarget):
		class = fs.ErrInvalid
	}
	return fmt.Errorf("%w: %w", class, err)
}

// Status tells the state of the upstreams: they are away if all of them are.
func (h *HTTP) Status() Status {
	st := h.count.status()
	st.Origin, st.State = h.name, "away"
	for _, s := range h.group.States() {
		if !s.Away && time.Now().After(s.NotBefore) {
			st.State = "up"
		}
	}
	return st
}

// Interface guards
var (
	_ Origin             = (*HTTP)(nil)
	_ caddy.Provisioner  = (*HTTP)(nil)
	_ caddy.CleanerUpper = (*HTTP)(nil)
	_ Written            = (*HTTP)(nil)
	_ Joiner             = (*HTTP)(nil)
)
