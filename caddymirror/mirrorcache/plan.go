package mirrorcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/format"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// plans are what the format has said of requests, so many of them.
type plans struct {
	planner format.Planner
	hidden  func(name string) bool
	kept    *lru.Cache[format.Request, *plan]
}

const (
	maxPlans   = 4 << 10
	maxPlanKey = 1 << 10 // of a longer request no plan is kept
)

func newPlans(planner format.Planner, hidden func(string) bool) *plans {
	kept, err := lru.New[format.Request, *plan](maxPlans)
	if err != nil {
		panic(err) // the size is a constant
	}
	return &plans{planner, hidden, kept}
}

// A plan is how a request is answered, and what is known of its candidates.
type plan struct {
	format.Plan
	absent atomic.Pointer[absence]
}

// An absence is the fact that, in a release, none of the candidates before this one
// is there. It spares a look at each of them where a tree has the last one only.
type absence struct {
	before  int
	release uint64
}

// of is the plan for a request, or nil if the format has none.
func (p *plans) of(r *http.Request, path string) *plan {
	req := format.Request{Path: path, Query: r.URL.RawQuery}
	switch lines := r.Header["Accept"]; len(lines) {
	case 0:
	case 1:
		req.Accept = lines[0]
	default:
		req.Accept = strings.Join(lines, ", ")
	}
	if found, ok := p.kept.Get(req); ok {
		return found
	}
	return p.make(req)
}

func (p *plans) make(req format.Request) *plan {
	made, ok := p.planner.Plan(req)
	if !ok {
		return nil
	}
	hidden := func(c format.Candidate) bool { return p.hidden(c.Name) || !possible(c.Name) }
	made.Candidates = slices.DeleteFunc(slices.Clone(made.Candidates), hidden)
	made.Others = slices.DeleteFunc(slices.Clone(made.Others), hidden)
	if !possible(made.Redirect) {
		made.Redirect = ""
	}
	found := &plan{Plan: made}
	if len(req.Path)+len(req.Query)+len(req.Accept) <= maxPlanKey {
		p.kept.Add(req, found)
	}
	return found
}

// names are the files that may answer requests for a path.
func (p *plans) names(path string) (names []string) {
	made, _ := p.planner.Plan(format.Request{Path: path})
	for _, c := range append(slices.Clone(made.Candidates), made.Others...) {
		names = append(names, c.Name)
	}
	return names
}

// first is the candidate to begin with.
func (p *plan) first(rel release) int {
	if a := p.absent.Load(); a != nil && a.release == rel.hash {
		return a.before
	}
	return 0
}

// servePlan answers as the format has it. rest is as for serve.
func (m *Mount) servePlan(w http.ResponseWriter, r *http.Request, rest string, p *plan) error {
	if to := cmp.Or(p.Redirect, rest[1:]); p.Redirect != "" || !strings.HasSuffix(r.URL.Path, rest) {
		if done, err := m.redirectTo(w, r, rest, to); done || p.Redirect != "" {
			return err
		}
	}
	h := w.Header()
	h["Vary"] = append(h["Vary"], p.Vary...)
	m.vary(w)
	rel := m.state(r.Context())
	first := p.first(rel)
	if first < len(p.Candidates) && m.precompressors == nil {
		c := &p.Candidates[first]
		if o, ok := m.hit(r.Context(), c.Name); ok {
			return m.respond(w, r, &o, representation{name: c.Name, mediaType: c.MediaType})
		}
	}
	return m.serveCandidate(w, r, rest, rel, p, first)
}

// serveCandidate answers with the first candidate that is there, of those from first on:
// the others are not there in that release.
func (m *Mount) serveCandidate(w http.ResponseWriter, r *http.Request, rest string, rel release, p *plan, first int) error {
	failed := object{result: resultHit, status: statusHit}
	var lacking error
	for i := first; i < len(p.Candidates); i++ {
		c := p.Candidates[i]
		as := representation{name: c.Name, mediaType: c.MediaType}
		ask, cancel := m.askFor(r, p.Candidates[i:])
		done, o, err := m.serveOne(w, r, ask, as)
		if ask != r && errors.Is(err, origin.ErrAway) {
			m.waitedInVain(r.Context(), ask.Context())
		}
		cancel()
		switch {
		case done:
			if i > first && lacking == nil && rel.hash != 0 && m.state(r.Context()).hash == rel.hash {
				p.absent.Store(&absence{i, rel.hash})
			}
			return err
		case errors.Is(err, errLacking):
			lacking = err
		case errors.Is(err, origin.ErrAway):
			return m.serveLater(w, r, p.Candidates[i+1:], o, err)
		case err != nil:
			return m.fail(w, r, o, err)
		}
		failed = o
	}
	if lacking != nil {
		return m.fail(w, r, failed, lacking)
	}
	if first > 0 { // what was there is gone: the others may be there again
		p.absent.Store(nil)
		return m.serveCandidate(w, r, rest, rel, p, 0)
	}
	return m.serveNone(w, r, rest, p, failed)
}

// askFor is how the first of candidates is asked for: not for longer than a stale
// entry would be kept waiting if another is in the cache.
func (m *Mount) askFor(r *http.Request, candidates []format.Candidate) (ask *http.Request, done context.CancelFunc) {
	ctx, c := r.Context(), m.cache.Open()
	if c == nil || m.fact(ctx, candidates[0].Name) != nil {
		return r, func() {}
	}
	for i := range candidates {
		e, ok := c.Get(m.key(candidates[i].Name))
		if !ok {
			continue
		}
		defer e.Close()
		if i == 0 {
			break // and waited for as any entry
		}
		waiting, cancel := m.patience(ctx, e)
		return r.WithContext(waiting), cancel
	}
	return r, func() {}
}

// serveLater answers with the first of candidates that is in the cache, since the
// origin is away.
func (m *Mount) serveLater(w http.ResponseWriter, r *http.Request, candidates []format.Candidate, failed object, err error) error {
	for _, c := range candidates {
		if o, ok := m.cached(r, c.Name); ok {
			return m.respond(w, r, &o, representation{name: c.Name, mediaType: c.MediaType})
		}
	}
	return m.fail(w, r, failed, err)
}

// serveNone answers where there is no candidate: with the list of what the request
// does not accept, if there is any of that, or as in a tree of which nothing is known.
func (m *Mount) serveNone(w http.ResponseWriter, r *http.Request, rest string, p *plan, failed object) error {
	var there []string
	var away error
	for _, c := range p.Others {
		switch err := m.hasNow(r, c.Name); {
		case err == nil:
			if !slices.Contains(there, c.MediaType) {
				there = append(there, c.MediaType)
			}
		case errors.Is(err, origin.ErrAway):
			away = err
		}
	}
	switch {
	case len(there) > 0:
		return m.notAcceptable(w, r, there)
	case away != nil:
		return m.fail(w, r, object{result: resultError, status: statusFailed(away)}, away)
	case p.Tree:
		if h := w.Header(); m.precompressors != nil { // it is said again
			h["Vary"] = h["Vary"][:len(h["Vary"])-1]
		}
		return m.serveTree(w, r, rest)
	}
	return m.fail(w, r, failed, fs.ErrNotExist)
}

// hasNow is why there is no file of this name, nil if there is one: also while the
// origin is away, if the cache has it.
func (m *Mount) hasNow(r *http.Request, name string) error {
	if o, ok := m.hit(r.Context(), name); ok {
		o.close()
		return nil
	}
	err := m.fact(r.Context(), name)
	if err == nil {
		err = m.learnKind(r.Context(), name)
	}
	if errors.Is(err, origin.ErrAway) {
		if o, ok := m.cached(r, name); ok {
			o.close()
			return nil
		}
	}
	if errors.Is(err, errIsFile) {
		return nil
	}
	return err
}

// notAcceptable says which media types there are (RFC 9110 section 15.5.7).
func (m *Mount) notAcceptable(w http.ResponseWriter, r *http.Request, types []string) error {
	m.count(r, resultRejected)
	h := w.Header()
	h.Set("Cache-Status", statusHit)
	h.Set("Cache-Control", ccNegative)
	if hasErrorRoutes(r) {
		return caddyhttp.Error(http.StatusNotAcceptable, fmt.Errorf("there is only %s", strings.Join(types, ", ")))
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusNotAcceptable)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, "Available media types:\n"+strings.Join(types, "\n")+"\n")
	}
	return nil
}

// hit is the object of this name, if the cache has it fresh.
func (m *Mount) hit(ctx context.Context, name string) (object, bool) {
	c := m.cache.Open()
	if c == nil {
		return object{}, false
	}
	e, ok := c.Get(m.key(name))
	if !ok {
		return object{}, false
	}
	age, fresh := m.fresh(ctx, e, m.format.Class(name))
	if !fresh {
		e.Close()
		return object{}, false
	}
	return object{entry: e, result: resultHit, status: statusHit, age: age}, true
}

// redirectTo sends the client to another path of the mount, with the query as it is.
// It reports false if that is where the client comes from; something in front of the
// mount changes URLs then. It is 301, which clients have known for longer than 308.
func (m *Mount) redirectTo(w http.ResponseWriter, r *http.Request, rest, to string) (done bool, err error) {
	from := *r.URL
	if orig, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		from = *orig.URL
	}
	target, ok := outside(from.Path, cleanPath(r.URL.Path), rest, to)
	if !ok {
		return true, m.fail(w, r, object{result: resultMiss, status: statusNotFound}, fs.ErrNotExist)
	}
	if target == from.Path {
		return false, nil
	}
	m.count(r, resultRedirect)
	h := w.Header()
	h.Set("Cache-Status", statusHit)
	h.Set("Cache-Control", ccVolatile)
	http.Redirect(w, r, (&url.URL{Path: target, RawQuery: from.RawQuery}).String(), http.StatusMovedPermanently)
	return true, nil
}

// outside is a path of the mount as the client knows it. from is what the client has
// asked for, and inside, which ends in rest, what that was rewritten to: what both end
// in was left as it is, and what is before that is put back.
func outside(from, inside, rest, to string) (string, bool) {
	target := strings.TrimSuffix(inside, rest) + "/" + to
	from = cleanPath(from)
	n := 0
	for i := 1; i <= min(len(from), len(inside)) && from[len(from)-i] == inside[len(inside)-i]; i++ {
		if from[len(from)-i] == '/' {
			n = i
		}
	}
	target, ok := strings.CutPrefix(target, inside[:len(inside)-n])
	if !ok || !strings.HasPrefix(target, "/") {
		return "", false
	}
	return from[:len(from)-n] + target, true
}
