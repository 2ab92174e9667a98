package mirrorcache

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// allows reports whether requests of a method are answered.
func (m *Mount) allows(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || m.web && slices.Contains(m.Methods, method)
}

// refuseMethod answers a request of a method that the mount does not have.
func (m *Mount) refuseMethod(w http.ResponseWriter, r *http.Request) error {
	m.count(r, resultRejected)
	w.Header().Set("Allow", strings.Join(append([]string{http.MethodGet, http.MethodHead}, m.Methods...), ", "))
	return caddyhttp.Error(http.StatusMethodNotAllowed, fmt.Errorf("method %s", r.Method))
}

// checkMethods refuses methods that cannot be passed on.
func (m *Mount) checkMethods() error {
	for _, method := range m.Methods {
		switch method {
		case http.MethodGet, http.MethodHead:
			return fmt.Errorf("method %s is there in any case", method)
		case http.MethodConnect, http.MethodTrace:
			return fmt.Errorf("method %s cannot be passed on", method)
		}
		if method == "" || strings.ToUpper(method) != method || strings.ContainsAny(method, " \t,") {
			return fmt.Errorf("%q is no method", method)
		}
	}
	return nil
}

// passMethod passes a request on that may have an effect, and its answer back. Nothing of
// it is stored, and what it may have changed is asked for again.
func (m *Mount) passMethod(w http.ResponseWriter, r *http.Request, q question) error {
	p, ok := m.origins[0].upstream.(origin.Passer)
	if !ok {
		return m.refuseMethod(w, r)
	}
	if m.past.Add(1) > maxPast { // before it has an effect
		m.past.Add(-1)
		return m.fail(w, r, object{status: statusBusy}, fmt.Errorf("%w: %d clients read past the cache", origin.ErrBusy, maxPast))
	}
	defer m.past.Add(-1)
	reply, err := p.Pass(r.Context(), origin.PassRequest{
		Method: r.Method, Name: q.ask.Name, Header: r.Header, Authorization: q.ask.Authorization, Via: r.Header["Via"],
		Body: r.Body, Size: r.ContentLength,
	})
	if err != nil {
		return m.failMethod(w, r, err)
	}
	defer reply.Close()
	m.invalidate(r, &q, &reply)
	meta := m.describe(&q, &got{Reply: reply, src: m.origins[0]})
	h := w.Header()
	maps.Copy(h, fieldsIn(&meta))
	if meta.Size >= 0 && reply.Response.Status != http.StatusNoContent {
		h.Set("Content-Length", strconv.FormatInt(meta.Size, 10))
	}
	h.Set("Cache-Status", "mirror; fwd=method; fwd-status="+strconv.Itoa(reply.Response.Status))
	m.count(r, resultBypass)
	w.WriteHeader(reply.Response.Status)
	if reply.Body == nil {
		return nil
	}
	n, err := io.Copy(&client{w: w, r: r}, reply.Body)
	m.metrics.fromOrigin.Add(float64(n))
	m.finish(r.Context(), q.key, err)
	return nil
}

// failMethod answers where there is no answer to pass back.
func (m *Mount) failMethod(w http.ResponseWriter, r *http.Request, err error) error {
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		m.count(r, resultRejected)
		return caddyhttp.Error(http.StatusRequestEntityTooLarge, err)
	}
	return m.fail(w, r, object{status: statusAway}, err)
}

// invalidate drops what a request may have changed (RFC 9111 section 4.4).
func (m *Mount) invalidate(r *http.Request, q *question, reply *origin.Reply) {
	c := m.cache.Open()
	if c == nil {
		return
	}
	// Host and scheme stand for the upstream: only the same ones count.
	target, err := url.Parse("http://upstream/" + q.ask.Name)
	if err != nil {
		return
	}
	resp := *reply.Response
	if reply.Redirect != nil {
		resp.Header = resp.Header.Clone()
		resp.Header.Del("Location")
		if at, ok := m.mountedHere(reply.Redirect); ok {
			resp.Header.Set("Location", at)
		}
	}
	for _, u := range freshness.Invalidated(r.Method, target, resp) {
		key := strings.TrimPrefix(u.EscapedPath(), "/")
		if u.RawQuery != "" && !matchAny(m.IgnoreQuery, m.nameOf(key)) {
			key += "?" + u.RawQuery
		}
		_, _ = c.PurgeKey(m.key(key)) // of several variants the first, and with it all
		m.unstored.forget(key)
	}
}

// mountedHere is the target at the upstream that a URL is of.
func (m *Mount) mountedHere(u *url.URL) (target string, ok bool) {
	s, ok := m.origins[0].upstream.(origin.Servers)
	if !ok {
		return "", false
	}
	return s.Below(u)
}
