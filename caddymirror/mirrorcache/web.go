package mirrorcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// serveWeb answers a request for what an HTTP upstream has. rest is as for serve.
func (m *Mount) serveWeb(w http.ResponseWriter, r *http.Request, rest string) error {
	if m.looped(r.Header["Via"]) {
		return m.fail(w, r, object{status: statusAway}, fmt.Errorf("%w: the request has been here before", origin.ErrLoop))
	}
	q, ok := m.webQuestion(r, rest)
	if !ok {
		m.count(r, resultRejected)
		return caddyhttp.Error(http.StatusBadRequest, errors.New("path has dot elements"))
	}
	if len(q.ask.Name) > maxTarget {
		m.count(r, resultRejected)
		return caddyhttp.Error(http.StatusRequestURITooLong, fmt.Errorf("path and query of %d bytes", len(q.ask.Name)))
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return m.passMethod(w, r, q)
	}
	o, err := m.find(r.Context(), q)
	if err != nil {
		return m.fail(w, r, o, err)
	}
	if m.tooYoung(&q, &o) {
		o.close()
		return m.fail(w, r, object{result: resultHit, status: statusCooldown}, fs.ErrNotExist)
	}
	return m.respond(w, r, &o, representation{name: q.name})
}

// looped reports whether a request comes from an origin of the mount.
func (m *Mount) looped(via []string) bool {
	if len(via) == 0 {
		return false
	}
	for _, src := range m.origins {
		if s, ok := src.upstream.(origin.Servers); ok && s.Looped(via) {
			return true
		}
	}
	return false
}

// tooYoung reports whether an object is of a version that is not offered yet.
func (m *Mount) tooYoung(q *question, o *object) bool {
	if m.dated == nil {
		return false
	}
	at, ok := m.dated.Published(q.name, o.meta().Header)
	return ok && time.Since(at) < time.Duration(m.Cooldown)
}

// webFailed is the status for an error of an upstream that has given no answer.
func webFailed(h http.Header, err error) int {
	var pause *origin.PauseError
	switch {
	case errors.As(err, &pause):
		seconds := math.Ceil(max(1, time.Until(pause.Until).Seconds()))
		h.Set("Retry-After", strconv.Itoa(int(seconds)))
		return http.StatusServiceUnavailable
	case isBusy(err):
		return http.StatusServiceUnavailable
	case errors.Is(err, errNotCached), errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	case errors.Is(err, origin.ErrLoop):
		return http.StatusLoopDetected
	case errors.Is(err, fs.ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound
	}
	return http.StatusBadGateway
}
