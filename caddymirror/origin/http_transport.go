package origin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/unifiedmirrors/mirror/caddymirror/upstream"
)

const (
	handshakeTimeout = 10 * time.Second
	maxHeaderBytes   = 256 << 10

	// A connection of HTTP/2 over which nothing comes any more would take all later requests,
	// too: it is asked, and given up.
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second
)

// loadTransport makes a transport as it is configured. It takes TransportRaw away.
func (h *HTTP) loadTransport(ctx caddy.Context) (http.RoundTripper, error) {
	if h.TransportRaw == nil {
		h.TransportRaw = json.RawMessage(`{"protocol":"http"}`)
	}
	mod, err := ctx.LoadModule(h, "TransportRaw")
	if err != nil {
		return nil, err
	}
	switch t := mod.(type) {
	case *reverseproxy.HTTPTransport:
		return guardTransport(t)
	case http.RoundTripper:
		return proxied{t}, nil
	}
	return nil, fmt.Errorf("%T is not one", mod)
}

// guardTransport sees to it that a transport of Caddy's does what package upstream needs:
// all connections go through its guard, and bodies stay as they are.
func guardTransport(t *reverseproxy.HTTPTransport) (http.RoundTripper, error) {
	if t.ProxyProtocol != "" {
		return nil, errors.New("proxy_protocol would tell the upstream who the client is")
	}
	rt := t.Transport
	rt.DialContext = upstream.Guard(rt.DialContext)
	rt.DisableCompression = true
	rt.TLSHandshakeTimeout = cmp.Or(rt.TLSHandshakeTimeout, handshakeTimeout)
	rt.MaxResponseHeaderBytes = cmp.Or(rt.MaxResponseHeaderBytes, maxHeaderBytes)
	if rt.HTTP2 == nil {
		rt.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	}
	if rt.DialTLSContext != nil {
		// It is there for a server name with placeholders, which are those of a client's
		// request otherwise.
		name, err := caddy.NewReplacer().ReplaceOrErr(t.TLS.ServerName, true, true)
		if err != nil {
			return nil, fmt.Errorf("server name: %w", err)
		}
		rt.TLSClientConfig.ServerName, rt.DialTLSContext = name, nil
	}
	if slices.Equal(t.Versions, []string{"3"}) {
		return proxied{t}, nil
	}
	return rt, nil
}

// proxied is a transport that expects what `reverse_proxy` puts into the context of a
// request.
type proxied struct{ http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (p proxied) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer())
	ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, map[string]any{})
	return p.RoundTripper.RoundTrip(r.WithContext(ctx))
}

// CloseIdleConnections closes those of the transport, if it can.
func (p proxied) CloseIdleConnections() {
	if c, ok := p.RoundTripper.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
