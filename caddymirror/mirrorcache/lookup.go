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
	"github.com/unifiedmirrors/mirror/caddymirror/format"
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

// release is the state of the first origin, and what stands for it in entries.
type release struct {
	origin.Release
	hash uint64
}

// errSlow says that the origin has used up the mount's patience.
var errSlow = errors.New("origin is slow")

// state is the current release of the first origin. The first time it waits
// for that, but not for long: as long as it is not known, entries are fresh for
// the TTL.
func (m *Mount) state(ctx context.Context) release {
	if !m.looked.Load() {
		patience := time.Duration(m.RevalidateTimeout)
		if m.slow.Load() {
			patience = 0
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, patience, errSlow)
		defer cancel()
	}
	rel := m.origins[0].Release(ctx)
	switch {
	case !rel.Seen.IsZero():
		m.looked.Store(true)
	case context.Cause(ctx) == errSlow: // and not a client that has left
		m.slow.Store(true)
	}
	if rel.Token == "" {
		return release{Release: rel}
	}
	if cur := m.current.Load(); cur != nil && cur.Token == rel.Token {
		return release{rel, cur.hash}
	}
	cur := release{rel, hashToken(m.origins[0].tag, rel.Token)}
	m.current.Store(&cur)
	return cur
}

// fresh reports whether an entry may be served without asking the origin, and
// how long ago it was known to be current.
func (m *Mount) fresh(ctx context.Context, e *diskcache.Entry, class format.Class) (age time.Duration, ok bool) {
	f := e.Fresh()
	age = max(0, time.Since(f.At))
	if class == format.Immutable {
		return age, true
	}
	rel := m.state(ctx)
	// What a fall-back gave has no release; what the first origin gave before
	// its release was known has to be looked up once.
	if rel.hash == 0 || f.Release == 0 && m.fromFallback(e.Meta()) {
		return age, age < time.Duration(m.TTL)
	}
	if f.Release != rel.hash {
		return age, false
	}
	// While the token stays, every look at it validates all entries.
	age = min(age, max(0, time.Since(rel.Seen)))
	return age, m.MaxStale == 0 || age <= time.Duration(m.MaxStale)
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
	v, err := m.revalidate(waiting, c, e)
	switch v {
	case unchanged:
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
	d := time.Duration(m.RevalidateTimeout)
	if m.released(ctx, e) {
		d = max(d, m.failover)
	} else if m.slow.Load() {
		d = 0
	}
	return context.WithTimeout(ctx, d)
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

type checked struct {
	verdict verdict
	err     error
}

// revalidate asks the origin whether an entry is current, once for all that
// want to know, and waits until ctx ends. What is found out later is noted all
// the same.
func (m *Mount) revalidate(ctx context.Context, c *diskcache.Cache, e *diskcache.Entry) (verdict, error) {
	key := e.Key()
	ch := m.checks.DoChan(key.Name, func() (any, error) {
		v, err := m.check(c, key)
		return checked{v, err}, nil
	})
	select {
	case res := <-ch:
		v := res.Val.(checked)
		return v.verdict, v.err
	case <-ctx.Done():
		return unknown, origin.ErrAway
	}
}

// released reports whether an entry is of another release than its origin is in, and
// that origin may take a while to answer although it is there.
func (m *Mount) released(ctx context.Context, e *diskcache.Entry) bool {
	f := e.Fresh()
	return m.failover > 0 && f.Release != 0 && f.Release != m.state(ctx).hash
}

// check compares an entry with what the origin has. It belongs to no request.
func (m *Mount) check(c *diskcache.Cache, key diskcache.Key) (v verdict, err error) {
	defer origin.Recover(m.log, "revalidation", &err)
	e, ok := c.Get(key)
	if !ok {
		return changed, nil
	}
	defer e.Close()
	start := time.Now()
	info, src, rel, err := m.statFor(context.Background(), key.Name, e.Meta())
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
		return gone, err
	case err != nil:
		return unknown, err
	case src.validator(info) == "" || src.validator(info) != e.Meta().Validator:
		// Here and not where the verdict is heard: perhaps nobody waits for it
		// any more.
		m.dates.note(key.Name, e.Meta(), time.Now())
		f, begun := c.Fill(key)
		if begun {
			f.Run(func() { m.fill(f, key.Name) })
		}
		f.Leave()
		return changed, nil
	}
	e.Refresh(diskcache.Freshness{At: time.Now(), Release: rel.hash})
	return unchanged, nil
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
	res := resultCollapsed
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
	return object{body: &body{m: m, name: name, meta: m.describe(name, src, info)}, result: resultMiss, status: strings.TrimSuffix(status, "; stored")}, nil
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
	return object{
		body:   &body{m: m, name: name, meta: m.describe(name, src, remote.Info()), remote: remote},
		result: resultBypass, status: statusBypass,
	}, nil
}
