package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// classify is the error of a request or a body, with its class. ctx is that of the request:
// what ended it goes before what followed from that.
func (u *Upstream) classify(ctx context.Context, at *url.URL, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	var private *privateError
	var protocol protocolError
	switch {
	case errors.Is(err, errSlowHeader):
		return u.fail(ErrAway, at, "no answer within %v", u.headerTimeout)
	case errors.Is(err, errStalled):
		return u.fail(ErrAway, at, "nothing more of the body came for %v", u.readTimeout)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		// The caller's decision, which says nothing of the upstream.
		return fmt.Errorf("%s: %w", at.Host, err)
	case errors.As(err, &private):
		return u.fail(ErrRefused, at, "%v", private)
	case errors.As(err, &protocol), brokenRules(err):
		return u.fail(ErrLying, at, "%v", err)
	}
	return u.fail(ErrAway, at, "%v", err)
}

// rules are what errors of net/http say that are about a response, and not about the way
// that it came: they have no types. What is not among them counts as away, with which a
// caller does nearly the same.
var rules = []string{
	"malformed", "headers exceeded", "header list larger", "Content-Length", "content-length", "transfer encoding",
	"chunk length", "chunked encoding", "chunked line", "invalid header", "PROTOCOL_ERROR",
	"response too large", "header too large", "invalid HTTP",
}

func brokenRules(err error) bool {
	text := err.Error()
	// What HTTP/2's peer says of us, and a header that is cut within a line.
	if strings.Contains(text, "received from peer") || strings.Contains(text, "missing colon") {
		return false
	}
	for _, rule := range rules {
		if strings.Contains(text, rule) {
			return true
		}
	}
	return false
}
