package mirrorcache

import (
	"context"
	"errors"
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
