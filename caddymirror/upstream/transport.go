package upstream

import (
	"net"
	"net/http"
	"time"
)

const (
	connectTimeout = 10 * time.Second
	idleTimeout    = 60 * time.Second
	maxIdle        = 32
)

// NewTransport is a transport that suits an [Upstream]: it refuses private addresses as
// [Control] says, uncompresses nothing, and bounds connecting and the size of headers. An
// Upstream needs a transport of its own: connections are private or not for that upstream.
func NewTransport() *http.Transport {
	dialer := &net.Dialer{Timeout: connectTimeout, ControlContext: Control}
	return &http.Transport{
		DialContext:            Guard(dialer.DialContext),
		ForceAttemptHTTP2:      true,
		DisableCompression:     true,
		TLSHandshakeTimeout:    connectTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    maxIdle,
		MaxResponseHeaderBytes: maxHeader,
	}
}
