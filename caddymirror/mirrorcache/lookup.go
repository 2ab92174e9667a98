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

// lookup finds the object with this name.
//
// Its errors are those of an origin: there is no such object, or it cannot be
// had now.
func (m *Mount) lookup(r *http.Request, name string) (object, error) {
	class := m.format.Class(name)
	key := m.key(name)
	c := m.cache.Open()
	if c == nil {
		return m.bypass(r.Context(), name)
	}
	e, ok := c.Get(key)
	if !ok {
		if err := m.known(r.Context(), name); err != nil {
			return object{result: resultHit, status: statusHit}, err
		}
		return m.miss(r.Context(), r, c, key, statusMiss)
	}
	if age, fresh := m.fresh(r.Context(), e, class); fresh {
		return object{entry: e, result: resultHit, status: statusHit, age: age}, nil
	}
	return m.stale(r, c, e)
}

// verdict is what the origin says of a stale entry.
type verdict int

const (
	unknown verdict = iota // the origin is away, or too slow
	unchanged
	changed
	gone
)

// stale answers with an entry that is not fresh: after the origin has been
// asked for it, but not without end. The entry is better than an error until
// the first byte of what replaces it has come.
func (m *Mount) stale(r *http.Request, c *diskcache.Cache, e *diskcache.Entry) (object, error) {
	ctx := r.Context()
	waiting, cancel := m.patience(ctx, e)
	defer cancel()
	found := m.revalidate(waiting, c, e)
	err := found.err
	switch found.verdict {
	case unchanged:
		if found.validator != e.Meta().Validator {
			// It was replaced meanwhile, and what has been looked at is the new one.
			e.Close()
			return m.lookup(r, e.Key().Name)
		}
		return object{entry: e, result: resultRevalidated, status: statusRevalidated}, nil
	case gone:
		e.Close()
		return object{result: resultMiss, status: statusGone}, err
	case changed:
		if _, ok := m.usable(ctx, e); !ok {
			e.Close()
			return m.miss(ctx, r, c, e.Key(), statusChanged)
		}
		var o object
		o, err = m.miss(waiting, r, c, e.Key(), statusChanged)
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
	if o, ok := m.asItIs(ctx, e); ok {
		return o, nil
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
	if e.Fresh().Release == 0 {
		since -= time.Duration(m.TTL)
	}
	return object{entry: e, result: resultStale, status: staleStatus(since), age: age}, true
}

// usable reports whether an entry may be served while the origin is away, and how
// long ago it was known to be current.
func (m *Mount) usable(ctx context.Context, e *diskcache.Entry) (age time.Duration, ok bool) {
	f := e.Fresh()
	age = max(0, time.Since(f.At))
	if f.Release != 0 {
		if rel := m.state(ctx); f.Release == rel.hash {
			age = min(age, max(0, time.Since(rel.Seen)))
		}
	}
	return age, m.MaxStale == 0 || age <= time.Duration(m.MaxStale)
}

// staleStatus says that an entry is served though it has been stale for d.
func staleStatus(d time.Duration) string {
	return "mirror; hit; ttl=" + strconv.Itoa(-max(1, int(d/time.Second))) + "; detail=origin-away"
}

// checked is what a check has found, of the entry with this validator.
type checked struct {
	verdict   verdict
	validator string
	err       error
}

// revalidate asks the origin whether an entry is current, once for all that
// want to know, and waits until ctx ends. What is found out later is noted all
// the same.
func (m *Mount) revalidate(ctx context.Context, c *diskcache.Cache, e *diskcache.Entry) checked {
	key := e.Key()
	ch := m.checks.DoChan(m.now(ctx, key.Name), func() (any, error) {
		return m.check(c, key), nil
	})
	select {
	case res := <-ch:
		return res.Val.(checked)
	case <-ctx.Done():
		return checked{verdict: unknown, err: origin.ErrAway}
	}
}

// released reports whether an entry is of another release than its origin is in.
func (m *Mount) released(ctx context.Context, e *diskcache.Entry) bool {
	f := e.Fresh()
	return f.Release != 0 && f.Release != m.state(ctx).hash
}

// check compares an entry with what the origin has. It belongs to no request.
func (m *Mount) check(c *diskcache.Cache, key diskcache.Key) (found checked) {
	defer origin.Recover(m.log, "revalidation", &found.err)
	e, ok := c.Get(key)
	if !ok {
		return checked{verdict: changed}
	}
	defer e.Close()
	ctx := context.Background()
	was := e.Meta().Validator
	start := time.Now()
	info, src, rel, err := m.statFor(ctx, key.Name, e.Meta())
	if time.Since(start) < time.Duration(m.RevalidateTimeout) {
		m.slow.Store(false)
	}
	switch {
	case err == nil && info.Dir:
		err = origin.ErrIsDir
		fallthrough
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrInvalid):
		e.Remove()
		m.facts.learn(key.Name, err, rel.hash)
		return checked{gone, was, err}
	case err != nil:
		return checked{unknown, was, err}
	case src.validator(info) == "" || src.validator(info) != was, !m.inspected(e):
		// Here and not where the verdict is heard: perhaps nobody waits for it
		// any more.
		m.dates.note(key.Name, e.Meta(), time.Now())
		f, begun := c.Fill(key)
		if begun {
			f.Run(func() { m.fill(f, key.Name) })
		}
		f.Leave()
		return checked{changed, was, nil}
	}
	// What another check has found in a newer release stays.
	if now := m.newer(ctx, rel); now == 0 || e.Fresh().Release != now {
		e.Refresh(diskcache.Freshness{At: time.Now(), Release: rel.hash})
	}
	return checked{unchanged, was, nil}
}

// miss answers with an object that the cache does not have, or only an old
// version of. It waits until ctx ends.
func (m *Mount) miss(ctx context.Context, r *http.Request, c *diskcache.Cache, key diskcache.Key, status string) (object, error) {
	if r.Method == http.MethodHead {
		return m.head(ctx, key.Name, status)
	}
	if o, done, err := m.part(ctx, r, key.Name, status); done {
		return o, err
	}
	f, begun := c.Fill(key)
	res, asked := resultCollapsed, status
	if begun {
		if o, ok := m.overtaken(ctx, c, key); ok {
			f.Fail(errOvertaken)
			f.Leave()
			if status != statusMiss { // the request has waited for it
				o.result, o.status = resultCollapsed, status
			}
			return o, nil
		}
		res = resultMiss
		m.parts.note(key.Name) // parts of it follow this fill
		f.Run(func() { m.fill(f, key.Name) })
	} else if status == statusMiss {
		status = statusCollapsed
	}
	meta, err := begin(ctx, f)
	if err == nil && !begun {
		switch err = m.stillCurrent(ctx, key.Name, f, &meta); {
		case errors.Is(err, errOutdated):
			f.Discard()
			f.Leave()
			return m.miss(ctx, r, c, key, asked)
		case errors.Is(err, origin.ErrAway): // an old version is better than none
			status += "; detail=origin-away"
			err = nil
		}
	}
	if err != nil {
		f.Leave()
		switch {
		case errors.Is(err, errOvertaken):
			return m.lookup(r, key.Name)
		case errors.Is(err, diskcache.ErrBypass):
			return m.bypass(ctx, key.Name)
		}
		return object{result: res, status: statusFailed(err)}, err
	}
	return object{
		body:   &body{m: m, name: key.Name, meta: meta, fill: f},
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
func (m *Mount) overtaken(ctx context.Context, c *diskcache.Cache, key diskcache.Key) (object, bool) {
	e, ok := c.Get(key)
	if !ok {
		return object{}, false
	}
	age, fresh := m.fresh(ctx, e, m.format.Class(key.Name))
	if !fresh {
		e.Close()
		return object{}, false
	}
	return object{entry: e, result: resultHit, status: statusHit, age: age}, true
}

// head answers without a body: to ask for that is no reason to fetch it.
func (m *Mount) head(ctx context.Context, name, status string) (object, error) {
	info, src, rel, err := m.stat(ctx, name)
	if err == nil && info.Dir {
		err = origin.ErrIsDir
	}
	if err != nil {
		m.facts.learn(name, err, rel.hash)
		return object{result: resultMiss, status: statusFailed(err)}, err
	}
	meta := m.describe(name, src, info)
	if m.inspects(name) {
		if err := m.inspectAt(ctx, name, &meta); err != nil {
			return object{result: resultMiss, status: statusFailed(err)}, err
		}
	}
	return object{body: &body{m: m, name: name, meta: meta}, result: resultMiss, status: strings.TrimSuffix(status, "; stored")}, nil
}

// bypass answers from the origin, past the cache.
func (m *Mount) bypass(ctx context.Context, name string) (object, error) {
	if err := m.known(ctx, name); err != nil {
		return object{result: resultHit, status: statusHit}, err
	}
	var src source
	var rel release
	remote, err := m.enter(func() (b origin.Body, err error) {
		b, src, rel, err = m.open(ctx, name)
		return b, err
	})
	if err != nil {
		m.facts.learn(name, err, rel.hash)
		return object{result: resultBypass, status: statusBypass}, err
	}
	meta := m.describe(name, src, remote.Info())
	if m.inspects(name) {
		if err := m.inspectAt(ctx, name, &meta); err != nil {
			remote.Close()
			return object{result: resultBypass, status: statusBypass}, err
		}
	}
	status := statusBypass
	if remote.Info().Passing {
		status = statusUnfinished
	}
	return object{
		body:   &body{m: m, name: name, meta: meta, remote: remote},
		result: resultBypass, status: status,
	}, nil
}
