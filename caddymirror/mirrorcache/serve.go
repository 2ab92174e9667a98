package mirrorcache

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"path"
	"strconv"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/encode"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// serve answers a request for what the mount calls rest: "" for the mount's
// prefix without a slash, else a path that begins with one.
func (m *Mount) serve(w http.ResponseWriter, r *http.Request, rest string) error {
	// In all of the path, and not what is left of it: `..` may have taken it.
	if strings.ContainsFunc(r.URL.Path, unicode.IsControl) {
		m.count(r, resultRejected)
		return caddyhttp.Error(http.StatusBadRequest, errors.New("path holds control characters"))
	}
	if !m.allows(r.Method) {
		return m.refuseMethod(w, r)
	}
	if rest == "" {
		return m.redirect(w, r, statusHit, true)
	}
	if len(m.Hide) > 0 && m.hidden(strings.TrimSuffix(rest[1:], "/")) {
		return m.fail(w, r, object{result: resultHit, status: statusHit}, fs.ErrNotExist)
	}
	if m.web {
		return m.serveWeb(w, r, rest)
	}
	if m.plans != nil {
		if p := m.plans.of(r, rest[1:]); p != nil {
			return m.servePlan(w, r, rest, p)
		}
	}
	return m.serveTree(w, r, rest)
}

// serveTree answers as in a tree of which nothing is known.
func (m *Mount) serveTree(w http.ResponseWriter, r *http.Request, rest string) error {
	if name, isDir := strings.CutSuffix(rest[1:], "/"); isDir || rest == "/" {
		return m.serveDir(w, r, name)
	}
	return m.serveFile(w, r, rest[1:])
}

func (m *Mount) serveFile(w http.ResponseWriter, r *http.Request, name string) error {
	m.vary(w)
	if m.precompressors != nil {
		done, err := m.servePrecompressed(w, r, r, representation{name: name})
		switch {
		case done:
			return err
		case err != nil:
			if o, ok := m.cached(r, name); ok {
				return m.respond(w, r, &o, representation{name: name})
			}
			return m.fail(w, r, object{status: statusAway}, err)
		}
	}
	if !possible(name) {
		return m.fail(w, r, object{status: statusNotFound}, fs.ErrNotExist)
	}
	o, err := m.lookup(r, name)
	if errors.Is(err, origin.ErrIsDir) || errors.Is(err, origin.ErrAway) && m.wasDir(name) {
		return m.redirect(w, r, o.status, true)
	}
	if err != nil {
		return m.fail(w, r, o, err)
	}
	return m.respond(w, r, &o, representation{name: name})
}

// serveDir answers a request for a directory: with an index file, or with a
// listing.
func (m *Mount) serveDir(w http.ResponseWriter, r *http.Request, name string) error {
	if !possible(name) {
		return m.fail(w, r, object{status: statusNotFound}, fs.ErrNotExist)
	}
	if len(m.IndexNames) > 0 {
		m.vary(w)
	}
	var lacking error
	for _, index := range m.IndexNames {
		file := path.Join(name, index)
		if len(m.Hide) > 0 && m.hidden(file) {
			continue
		}
		done, err := m.serveIndex(w, r, name, file)
		if done {
			return err
		}
		lacking = cmp.Or(err, lacking)
	}
	switch {
	case m.Browse:
		return m.serveListing(w, r, name)
	case lacking != nil:
		return m.fail(w, r, object{status: statusAway}, lacking)
	}
	return m.serveNoIndex(w, r, name)
}

// serveIndex answers with an index file of a directory, and reports whether there
// was an answer: if the origin is away, there is one, too, unless a fall-back may have
// another index or a listing. err is errLacking then.
func (m *Mount) serveIndex(w http.ResponseWriter, r *http.Request, dir, file string) (done bool, err error) {
	done, o, err := m.serveOne(w, r, r, representation{name: file})
	switch {
	case done || err == nil:
		return done, err
	case errors.Is(err, origin.ErrAway) && m.serveOldListing(w, r, dir):
		return true, nil // there was no index when it was read
	case errors.Is(err, errLacking):
		return false, err
	}
	return true, m.fail(w, r, o, err)
}

// serveOne answers with one of several files that may answer, if it is there, and
// reports whether it has answered. If not, an error says that this cannot be found
// out, or that the file cannot be had; o is as fail wants it. It is looked for as
// ask has it: r, with patience.
func (m *Mount) serveOne(w http.ResponseWriter, r, ask *http.Request, as representation) (done bool, o object, err error) {
	if m.precompressors != nil {
		if done, err = m.servePrecompressed(w, r, ask, as); done {
			return true, object{}, err
		}
	}
	if err == nil {
		o, err = m.lookup(ask, as.name)
	} else if old, ok := m.cached(r, as.name); ok {
		o, err = old, nil
	} else {
		o.status = statusAway
	}
	switch {
	case err == nil:
		return true, object{}, m.respond(w, r, &o, as)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, origin.ErrIsDir):
		return false, o, nil
	}
	return false, o, err
}

// serveNoIndex answers a path that ends in a slash and has no index file: with 404 for
// a directory, and with a redirect to the path without the slash for a file.
func (m *Mount) serveNoIndex(w http.ResponseWriter, r *http.Request, name string) error {
	ctx := r.Context()
	o := object{result: resultHit, status: statusHit}
	err := m.known(ctx, name)
	if err == nil {
		o = object{result: resultMiss, status: statusNotFound}
		err = m.learnKind(ctx, name)
	}
	if err == nil {
		return m.redirect(w, r, statusHead, false)
	}
	return m.fail(w, r, o, err)
}

// learnKind asks the origin what a name is: nil stands for a file.
func (m *Mount) learnKind(ctx context.Context, name string) error {
	info, _, rel, err := m.stat(ctx, cmp.Or(name, "."))
	switch {
	case err != nil:
	case info.Dir:
		err = origin.ErrIsDir
	default:
		m.facts.learn(name, errIsFile, rel.hash)
		return nil
	}
	m.facts.learn(name, err, rel.hash)
	return err
}

// vary says that the answer may depend on the encodings that a client accepts. It is
// called once for each request.
func (m *Mount) vary(w http.ResponseWriter) {
	if m.precompressors != nil {
		w.Header().Add("Vary", "Accept-Encoding")
	}
}

// servePrecompressed answers with the file that lies beside name in an
// encoding that the client accepts, and reports whether there was one. If there was
// none, an error says that the origin is away. ask is as for serveOne.
func (m *Mount) servePrecompressed(w http.ResponseWriter, r, ask *http.Request, as representation) (done bool, err error) {
	name := as.name
	for _, encoding := range encode.AcceptedEncodings(r, m.PrecompressedOrder) {
		p, ok := m.precompressors[encoding]
		if !ok {
			continue
		}
		side := name + p.Suffix()
		if !possible(side) || m.hidden(side) {
			continue
		}
		o, err := m.lookup(ask, side)
		switch {
		case err == nil && m.hasFile(r.Context(), name):
			as.encoding = encoding
			return true, m.respond(w, r, &o, as)
		case err == nil: // left over from a file that is gone
			o.close()
		case errors.Is(err, errLacking): // the file itself may be there
		case errors.Is(err, origin.ErrAway):
			// To ask it for the next would cost its time-out again.
			return false, err
		}
	}
	return false, nil
}

// cached is the entry of an object as it is, if it is not too old, for a request
// that the origin was away for already.
func (m *Mount) cached(r *http.Request, name string) (object, bool) {
	if c := m.cache.Open(); c != nil {
		if e, ok := c.Get(m.key(name)); ok {
			return m.asItIs(r.Context(), e)
		}
	}
	return object{}, false
}

// possible reports whether a file can have this name. Others are not worth
// asking for, nor remembering.
func possible(name string) bool {
	const pathMax, nameMax = 4096, 255
	if len(name) >= pathMax {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if len(part) > nameMax {
			return false
		}
	}
	return true
}

// redirect sends the client to the canonical form of its URL, which ends in a
// slash for directories only.
func (m *Mount) redirect(w http.ResponseWriter, r *http.Request, status string, slash bool) error {
	// The client knows the URL that it has sent, and not what it was rewritten
	// to. Where the last element was rewritten, it was on purpose.
	p := r.URL.Path
	if orig, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		if path.Base(orig.URL.Path) != path.Base(p) && p != "" {
			return m.fail(w, r, object{result: resultMiss, status: statusNotFound}, fs.ErrNotExist)
		}
		p = orig.URL.Path
	}
	to := *r.URL
	to.Scheme, to.Host, to.User, to.Opaque, to.RawPath = "", "", nil, "", ""
	// Two slashes in front would name another host.
	to.Path = "/" + strings.Trim(p, "/")
	if slash && to.Path != "/" {
		to.Path += "/"
	}
	m.count(r, resultRedirect)
	w.Header().Set("Cache-Status", status)
	w.Header().Set("Cache-Control", ccVolatile) // what is a directory may be a file tomorrow
	http.Redirect(w, r, to.String(), http.StatusPermanentRedirect)
	return nil
}

// fail answers with the error of an origin.
func (m *Mount) fail(w http.ResponseWriter, r *http.Request, o object, err error) error {
	h := w.Header()
	if o.status != "" {
		h.Set("Cache-Status", o.status)
	}
	status := http.StatusServiceUnavailable
	if f, ok := isFailure(err); ok && r.Context().Err() == nil {
		m.count(r, resultError)
		h.Set("Cache-Status", strings.Replace(cmp.Or(o.status, statusAway), "503", strconv.Itoa(f.status), 1))
		f.respond(w, r)
		return nil
	}
	switch {
	case m.web:
		status = webFailed(h, err)
		if o.status == statusAway {
			h.Set("Cache-Status", statusNoAnswer)
		}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, origin.ErrIsDir):
		status = http.StatusNotFound
	case errors.Is(err, fs.ErrPermission):
		status = http.StatusForbidden
	case errors.Is(err, fs.ErrInvalid):
		status = http.StatusBadRequest
	}
	if status >= http.StatusInternalServerError {
		res := resultError
		switch {
		case r.Context().Err() != nil: // the client has left, and been the reason
			res = resultAborted
		case isBusy(err):
			res = resultBusy
		}
		m.count(r, res)
		h.Set("Cache-Control", ccError)
		if h["Retry-After"] == nil {
			// Not all clients at once.
			h.Set("Retry-After", strconv.Itoa(2+rand.IntN(4))) //nolint:gosec // no secret
		}
		if c := m.log.Check(zap.DebugLevel, "origin is away, and nothing is cached"); c != nil {
			c.Write(zap.String("path", r.URL.Path), zap.Error(err))
		}
		if !hasErrorRoutes(r) {
			// Caddy would answer the same, and log an error for each request; that
			// the origin is away was logged when it went.
			w.WriteHeader(status)
			return nil
		}
	} else {
		m.count(r, resultNotFound)
		h.Set("Cache-Control", ccNegative)
	}
	return caddyhttp.Error(status, err)
}

// hasErrorRoutes reports whether the server has its own idea of error pages
// (handle_errors).
func hasErrorRoutes(r *http.Request) bool {
	srv, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server)
	return ok && srv.Errors != nil && len(srv.Errors.Routes) > 0
}

// count notes what became of a request: in metrics, for access logs, and for
// other handlers.
func (m *Mount) count(r *http.Request, res result) {
	m.metrics.requests[res].Inc()
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set("http.mirror_cache.mount", m.Prefix)
		repl.Set("http.mirror_cache.result", res.String())
	}
	// Fields cost something: only where there is a log to have them.
	if srv, ok := r.Context().Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); !ok || srv.Logs == nil {
		return
	}
	if extra, ok := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields); ok {
		extra.Add(zap.String("mirror_mount", m.Prefix))
		extra.Add(zap.String("mirror_cache", res.String()))
	}
}
