package mirrorcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// object is an object found for a request: where its bytes are, and how that
// came about. One of entry and body is set.
type object struct {
	entry  *diskcache.Entry
	body   *body
	result result
	status string // Cache-Status
	age    time.Duration

	old   *diskcache.Entry // to be served if body has given no byte until then
	until time.Time
}

func (o *object) close() {
	if o.entry != nil {
		o.entry.Close()
	}
	if o.old != nil {
		o.old.Close()
	}
	if o.body != nil {
		o.body.close()
	}
}

// lookup finds the file with this name.
func (m *Mount) lookup(r *http.Request, name string) (object, error) {
	return m.find(r.Context(), treeQuestion(r, name))
}

// errNotCached says that a client wants only what is in the cache (RFC 9111 section
// 5.2.1.7).
var errNotCached = errors.New("not in the cache")

// find finds the object that answers a question.
//
// Its errors are those of an origin: there is no such object, or it cannot be
// had now.
func (m *Mount) find(ctx context.Context, q question) (object, error) {
	c := m.cache.Open()
	var client freshness.RequestDirectives
	if m.web {
		client = m.client(&q)
	}
	if c == nil || m.unstored.has(q.key) {
		if client.OnlyIfCached {
			return object{result: resultError, status: statusOnlyCached}, errNotCached
		}
		o, err := m.bypass(ctx, q)
		if old, ok := m.lastResort(ctx, c, q, o, err); ok {
			return old, nil
		}
		return o, err
	}
	e, ok := m.get(c, &q)
	if !ok {
		if m.unstored.has(q.key) { // as a variant
			return m.bypass(ctx, q)
		}
		if err := m.known(ctx, q.key); err != nil {
			return object{result: resultHit, status: statusHit}, err
		}
		switch {
		case client.OnlyIfCached:
			return object{result: resultError, status: statusOnlyCached}, errNotCached
		case client.NoStore: // others must not wait for what they cannot have
			return m.bypass(ctx, q)
		}
		return m.miss(ctx, c, q, statusMiss)
	}
	use, age := m.use(ctx, e, &q)
	switch use {
	case freshness.MustAsk, freshness.AskOrServe:
	case freshness.Serve:
		return object{entry: e, result: resultHit, status: statusHit, age: age}, nil
	case freshness.ServeAndAsk:
		key := e.Key()
		m.checks.DoChan(m.checkOf(ctx, key.Name, &q), func() (any, error) { return m.check(c, key, q.ask.Authorization), nil })
		return object{entry: e, result: resultHit, status: statusHitStale, age: age}, nil
	case freshness.GatewayTimeout:
		e.Close()
		return object{result: resultError, status: statusOnlyCached}, errNotCached
	}
	return m.stale(ctx, c, e, q, use)
}

// lastResort is an entry for a request that went past the cache, since the upstream's last
// answer was not to be stored, if the upstream fails now. It closes o then.
func (m *Mount) lastResort(ctx context.Context, c *diskcache.Cache, q question, o object, err error) (object, bool) {
	away := errors.Is(err, origin.ErrAway) || err == nil && m.web && freshness.Failed(statusOf(o.meta()))
	if !away || c == nil || !m.web {
		return object{}, false
	}
	e, ok := m.get(c, &q)
	if !ok {
		return object{}, false
	}
	if use, _ := m.use(ctx, e, &q); use == freshness.MustAsk {
		e.Close()
		return object{}, false
	}
	old, ok := m.asItIs(ctx, e)
	if ok && err == nil {
		old.status = strings.Replace(old.status, "origin-away", "origin-status-"+strconv.Itoa(statusOf(o.meta())), 1)
		o.close()
	}
	return old, ok
}

// verdict is what the origin says of a stale entry.
type verdict int

const (
	unknown verdict = iota // the origin is away, or too slow
	unchanged
	older // it stays, though the origin has an older one
	changed
	gone
)

// stale answers with an entry that is not fresh: after the origin has been
// asked for it, but not without end. The entry is better than an error until
// the first byte of what replaces it has come.
func (m *Mount) stale(ctx context.Context, c *diskcache.Cache, e *diskcache.Entry, q question, use freshness.Use) (object, error) {
	waiting, cancel := ctx, context.CancelFunc(func() {})
	if use != freshness.MustAsk || !m.web {
		waiting, cancel = m.patience(ctx, e)
	}
	defer cancel()
	q.since = time.Now()
	found := m.revalidate(waiting, c, e, &q)
	err := found.err
	switch found.verdict {
	case unchanged, older:
		if found.entry != e {
			// It was replaced meanwhile, and what has been looked at is the new one.
			e.Close()
			return m.find(ctx, q)
		}
		age := time.Duration(0)
		if m.web {
			_, age = m.use(ctx, e, &q)
		}
		status := statusRevalidated
		if found.verdict == older {
			status = statusGuarded
		}
		return object{entry: e, result: resultRevalidated, status: status, age: age}, nil
	case gone:
		e.Close()
		return object{result: resultMiss, status: statusGone}, err
	case changed:
		if use == freshness.MustAsk {
			e.Close()
			return m.miss(ctx, c, q, statusChanged)
		}
		var o object
		o, err = m.miss(waiting, c, q, statusChanged)
		switch {
		case err == nil && o.body != nil:
			o.old = e
			o.until, _ = waiting.Deadline()
			return o, nil
		case err == nil || !errors.Is(err, origin.ErrAway):
			e.Close()
			return o, err
		}
	case unknown:
		m.waitedInVain(ctx, waiting)
	}
	if use != freshness.MustAsk || !m.web {
		if o, ok := m.asItIs(ctx, e); ok {
			if f, failed := isFailure(err); failed {
				o.status = strings.Replace(o.status, "origin-away", "origin-status-"+strconv.Itoa(f.status), 1)
			}
			return o, nil
		}
	} else {
		e.Close()
	}
	return object{result: resultError, status: statusFailed(err)}, err
}

// patience is how long a request for a stale entry waits: for RevalidateTimeout,
// not at all if somebody has waited in vain just now, and longer if there is a
// newer release and the origin may be turning to another server: then the old
// entry is the last resort.
func (m *Mount) patience(ctx context.Context, e *diskcache.Entry) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, m.waits(m.released(ctx, e)))
}

// waits is how long a request that has something old waits for the origin. If there
// is a newer release, the origin may be turning to another server.
func (m *Mount) waits(released bool) time.Duration {
	d := time.Duration(m.RevalidateTimeout)
	switch {
	case released && m.failover > 0:
		return max(d, m.failover)
	case m.slow.Load():
		return 0
	}
	return d
}

// waitedInVain notes that the origin has let a request wait for too long, unless
// it was the client that did not wait.
func (m *Mount) waitedInVain(ctx, waiting context.Context) {
	if waiting.Err() != nil && ctx.Err() == nil {
		m.slow.Store(true)
	}
}

// asItIs answers with an entry that the origin cannot be asked about, if it is
// not too old for that. Else it closes it.
func (m *Mount) asItIs(ctx context.Context, e *diskcache.Entry) (object, bool) {
	age, ok := m.usable(ctx, e)
	if !ok {
		e.Close()
		return object{}, false
	}
	since := age
	switch {
	case m.web:
		since = -m.entryFields(e, representation{name: m.nameOf(e.Key().Name)}).life.TTL(time.Now())
	case e.Fresh().Release == 0:
		since -= time.Duration(m.TTL)
	}
	return object{entry: e, result: resultStale, status: staleStatus(since), age: age}, true
}

// staleStatus says that an entry is served though it has been stale for d.
func staleStatus(d time.Duration) string {
	return "mirror; hit; ttl=" + strconv.Itoa(-max(1, int(d/time.Second))) + "; detail=origin-away"
}

// checked is what a check has found of an entry.
type checked struct {
	verdict verdict
	entry   *diskcache.Entry // to be compared only: it may be closed
	err     error
}

// revalidate asks the origin whether an entry is current, once for all that
// want to know, and waits until ctx ends. What is found out later is noted all
// the same.
func (m *Mount) revalidate(ctx context.Context, c *diskcache.Cache, e *diskcache.Entry, q *question) checked {
	key, authorization := e.Key(), q.ask.Authorization
	ch := m.checks.DoChan(m.checkOf(ctx, key.Name, q), func() (any, error) {
		return m.check(c, key, authorization), nil
	})
	select {
	case res := <-ch:
		return res.Val.(checked)
	case <-ctx.Done():
		return checked{verdict: unknown, err: origin.ErrAway}
	}
}

// checkOf names a check of an entry, for those who want to share what it finds: what an
// upstream says to one user is for no other.
func (m *Mount) checkOf(ctx context.Context, key string, q *question) string {
	name := m.now(ctx, key)
	if q.ask.Authorization != "" {
		name += variantMark + q.ask.Authorization
	}
	return name
}

// released reports whether an entry is of another release than its origin is in.
func (m *Mount) released(ctx context.Context, e *diskcache.Entry) bool {
	f := e.Fresh()
	return f.Release != 0 && f.Release != m.state(ctx).hash
}

// check compares an entry with what the origin has. It belongs to no request.
func (m *Mount) check(c *diskcache.Cache, key diskcache.Key, authorization string) (found checked) {
	defer origin.Recover(m.log, "revalidation", &found.err)
	e, ok := c.Get(key)
	if !ok {
		return checked{verdict: changed}
	}
	defer e.Close()
	start := time.Now()
	g, err := m.fetchAgain(context.Background(), key.Name, e.Meta(), authorization)
	if time.Since(start) < time.Duration(m.RevalidateTimeout) {
		m.slow.Store(false)
	}
	if err == nil && g.Response != nil && freshness.Failed(g.Response.Status) {
		err = newFailure(g)
		g.Close()
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrInvalid), errors.Is(err, origin.ErrIsDir):
		e.Remove()
		m.facts.learn(key.Name, err, g.rel.hash)
		return checked{gone, e, err}
	case err != nil:
		return checked{unknown, e, err}
	case !g.Unchanged || !m.inspected(e) || !m.confirm(e, g):
		if g = m.guard(context.Background(), e, g); g == nil {
			m.keepGuarded(e)
			return checked{older, e, nil}
		}
		// Here and not where the verdict is heard: perhaps nobody waits for it
		// any more.
		m.replace(c, e, g)
		return checked{changed, e, nil}
	}
	return checked{unchanged, e, nil}
}

// confirm notes that an entry is what the origin has. It reports false if the response that
// says so makes it one that is not to be stored, or another variant.
func (m *Mount) confirm(e *diskcache.Entry, g *got) bool {
	if g.Response != nil {
		return m.update(e, g)
	}
	// What another check has found in a newer release stays.
	if now := m.newer(context.Background(), g.rel); now == 0 || e.Fresh().Release != now {
		e.Refresh(diskcache.Freshness{At: time.Now(), Release: g.rel.hash})
	}
	return true
}

// replace begins to fill what has replaced an entry. It closes g.
func (m *Mount) replace(c *diskcache.Cache, e *diskcache.Entry, g *got) {
	key := e.Key()
	m.dates.note(key.Name, e.Meta(), time.Now())
	q := question{name: m.nameOf(key.Name), key: key.Name, ask: origin.Request{Name: key.Name}}
	if m.web {
		q.ask = again(key.Name, e.Meta(), g.ask.Authorization)
	}
	f, begun := c.Fill(key)
	defer f.Leave()
	if !begun || g.Body == nil {
		g.Close()
		g = nil
	}
	if begun {
		f.Run(func() { m.fill(f, q, g) })
	}
}

// miss answers with an object that the cache does not have, or only an old
// version of. It waits until ctx ends.
func (m *Mount) miss(ctx context.Context, c *diskcache.Cache, q question, status string) (object, error) {
	waited := m.web && !q.since.IsZero()
	if q.head && !waited { // what a check has found is under way
		return m.head(ctx, q, status)
	}
	if !m.web {
		if o, done, err := m.part(ctx, q, status); done {
			return o, err
		}
	}
	q.again = m.web && q.part && m.parts.again(q.key)
	f, begun := c.Fill(m.key(q.key))
	res, asked := resultCollapsed, status
	if begun {
		if o, ok := m.overtaken(ctx, c, q); ok {
			f.Fail(errOvertaken)
			f.Leave()
			if status != statusMiss { // the request has waited for it
				o.result, o.status = resultCollapsed, status
			}
			return o, nil
		}
		if waited {
			if g, ok := m.takeChecked(&q); ok {
				f.Fail(errOvertaken)
				f.Leave()
				return m.passTaken(q, g, errPass)
			}
		}
		if q.head {
			f.Fail(errOvertaken)
			f.Leave()
			return m.head(ctx, q, status)
		}
		res = resultMiss
		if !q.part {
			m.parts.note(q.key) // parts of it follow this fill
		}
		f.Run(func() { m.fill(f, q, nil) })
	} else if status == statusMiss {
		status = statusCollapsed
	}
	meta, err := begin(ctx, f)
	if err == nil && !begun {
		switch err = m.stillCurrent(ctx, q, f, &meta); {
		case errors.Is(err, errOutdated):
			f.Discard()
			f.Leave()
			return m.miss(ctx, c, q, asked)
		case errors.Is(err, errVariant):
			f.Leave()
			q.key = q.variantKey(&meta)
			return m.miss(ctx, c, q, asked)
		case errors.Is(err, origin.ErrAway): // an old version is better than none
			status += "; detail=origin-away"
			err = nil
		}
	}
	if err != nil {
		taken, ok := m.takeOver(f, &q)
		f.Leave()
		switch {
		case ok:
			return m.passTaken(q, taken, err)
		case errors.Is(err, errPart) && !q.part:
			return m.miss(ctx, c, q, asked)
		case errors.Is(err, errOvertaken):
			return m.find(ctx, q)
		case errors.Is(err, diskcache.ErrBypass):
			return m.bypass(ctx, q)
		}
		return object{result: res, status: statusFailed(err)}, err
	}
	if m.web {
		status = withStatus(status, &meta)
	}
	return object{
		body:   &body{m: m, key: q.key, meta: meta, fill: f, authorization: q.ask.Authorization},
		result: res, status: status,
	}, nil
}

// turnPatience is how long a request waits for its fill's turn.
const turnPatience = 30 * time.Second

// begin waits until it is known what the object of a fill is.
func begin(ctx context.Context, f *diskcache.Fill) (diskcache.Meta, error) {
	turn, cancel := context.WithTimeout(ctx, turnPatience)
	defer cancel()
	if err := f.Await(turn); err != nil {
		return diskcache.Meta{}, fmt.Errorf("%w: %w", origin.ErrAway, err)
	}
	meta, err := f.Meta(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", origin.ErrAway, err)
	}
	return meta, err
}

// errOvertaken ends a fill whose object has come into the cache just before it
// began.
var errOvertaken = errors.New("object is in the cache")

// overtaken looks once more for a fresh entry, now that no fill but the
// caller's can bring one: another may have ended since the caller looked.
func (m *Mount) overtaken(ctx context.Context, c *diskcache.Cache, q question) (object, bool) {
	e, ok := c.Get(m.key(q.key))
	if !ok {
		return object{}, false
	}
	use, age := m.use(ctx, e, &q)
	if m.web && !q.since.IsZero() && !e.Fresh().At.Before(q.since) {
		use = freshness.Serve // it is what the upstream was asked for by this request
	}
	if use == freshness.Serve && (!m.web || answers(e.Meta(), &q)) {
		return object{entry: e, result: resultHit, status: statusHit, age: age}, true
	}
	e.Close()
	return object{}, false
}

// head answers without a body: to ask for that is no reason to fetch it.
func (m *Mount) head(ctx context.Context, q question, status string) (object, error) {
	q.ask.Head = true
	if m.web {
		q.ask.AcceptEncoding = ""
	}
	g, err := m.fetch(ctx, q.ask)
	if err == nil {
		g.Close()
		err = m.headFailed(g)
	}
	if err != nil {
		m.facts.learn(q.key, err, g.rel.hash)
		return object{result: resultMiss, status: statusFailed(err)}, err
	}
	meta := m.describe(&q, g)
	if m.inspects(q.name) {
		if err := m.inspectAt(ctx, q.name, &meta); err != nil {
			return object{result: resultMiss, status: statusFailed(err)}, err
		}
	}
	status = strings.TrimSuffix(status, "; stored")
	if m.web {
		status = withStatus(status, &meta)
	}
	return object{body: &body{m: m, key: q.key, meta: meta}, result: resultMiss, status: status}, nil
}

// headFailed is why the answer to a HEAD is none.
func (m *Mount) headFailed(g *got) error {
	if g.Response != nil && freshness.Failed(g.Response.Status) {
		return newFailure(g)
	}
	return nil
}

// bypass answers from the origin, past the cache.
func (m *Mount) bypass(ctx context.Context, q question) (object, error) {
	if err := m.known(ctx, q.key); err != nil {
		return object{result: resultHit, status: statusHit}, err
	}
	q.ask.Head = m.web && q.head
	g, err := m.fetchPast(ctx, q.ask)
	if err != nil {
		m.facts.learn(q.key, err, g.rel.hash)
		return object{result: resultBypass, status: statusBypass}, err
	}
	o := m.pass(q, g)
	if m.inspects(q.name) {
		if err := m.inspectAt(ctx, q.name, &o.body.meta); err != nil {
			o.close()
			return object{result: resultBypass, status: statusBypass}, err
		}
	}
	return o, nil
}

// passTaken is pass, of an answer that is not stored for the reason that err is.
func (m *Mount) passTaken(q question, g *got, err error) (object, error) {
	if g.Body != nil {
		b, busy := m.enter(func() (origin.Body, error) { return g.Body, nil })
		if busy != nil {
			g.Close()
			return object{result: resultBypass, status: statusBypass}, busy
		}
		g.Body = b
	}
	o := m.pass(q, g)
	if errors.Is(err, errPart) {
		o.status = statusPart
	}
	return o, nil
}

// pass answers with what the origin has given, past the cache.
func (m *Mount) pass(q question, g *got) object {
	status := statusBypass
	if g.Passing {
		status = statusUnfinished
	}
	meta := m.describe(&q, g)
	if m.web {
		status = withStatus(status, &meta)
		if !freshness.Failed(g.Response.Status) && m.verify(&q, g) == nil {
			m.unstored.forget(q.key)
		}
	}
	return object{
		body:   &body{m: m, key: q.key, meta: meta, remote: g.Body, authorization: q.ask.Authorization},
		result: resultBypass, status: status,
	}
}
