package mirrorcache

import (
	"context"
	"errors"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/format"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// Once somebody was given an object of a release, nobody who asks later is given
// anything of an older one, while the origin is there. So a request may share the
// answer to a question only with those who have asked in the same release: what was
// asked in an older one may be answered from that. And what was found out in an
// older release never replaces what is known of the current one.

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
	if m.web {
		return release{} // an upstream has no releases
	}
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
	if !m.inspected(e) {
		return age, false
	}
	if class == format.Immutable {
		return age, true
	}
	rel := m.state(ctx)
	if m.timed(f, e.Meta(), rel) {
		return age, age < time.Duration(m.TTL)
	}
	if f.Release != rel.hash {
		return age, false
	}
	// While the token stays, every look at it validates all entries.
	age = min(age, max(0, time.Since(rel.Seen)))
	return age, m.MaxStale == 0 || age <= time.Duration(m.MaxStale)
}

func hashToken(tag, token string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(tag))
	h.Write([]byte(token))
	return max(1, h.Sum64())
}

// timed reports whether an object has to do with no release, and is fresh for the
// TTL: the origin has none, or it is from a fall-back. What the first origin gave
// before its release was known has to be looked up once.
func (m *Mount) timed(f diskcache.Freshness, meta *diskcache.Meta, rel release) bool {
	return rel.hash == 0 || f.Release == 0 && m.fromFallback(meta)
}

// now names a question about an object in the current release, for those who want
// to share the answer.
func (m *Mount) now(ctx context.Context, name string) string {
	return strconv.FormatUint(m.state(ctx).hash, 36) + " " + name
}

// newer is the current release, if that is another than an answer belongs to.
func (m *Mount) newer(ctx context.Context, rel release) uint64 {
	if now := m.state(ctx).hash; now != rel.hash {
		return now
	}
	return 0
}

// errVariant says that a fill is of another variant than the one that answers.
var errVariant = errors.New("fill is of another variant")

// errOutdated says that a fill is of a version that the origin no longer has.
var errOutdated = errors.New("fill is of an older release")

// stillCurrent looks whether the object of a fill that has begun before the request
// is what the origin has now. A fill of the current release, or of what never
// changes, is; of any other the origin is asked, for as long as for a stale entry.
// Its error is errOutdated, or the origin's.
func (m *Mount) stillCurrent(ctx context.Context, q question, f *diskcache.Fill, meta *diskcache.Meta) error {
	if m.web {
		if !answers(meta, &q) {
			return errVariant
		}
		return nil
	}
	name := q.key
	if m.format.Class(name) == format.Immutable {
		return nil
	}
	fresh, rel := f.Fresh(), m.state(ctx)
	if fresh.Release == rel.hash || m.timed(fresh, meta, rel) {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, m.waits(true))
	defer cancel()
	ch := m.looks.DoChan(m.now(ctx, name), func() (any, error) { return m.look(name) })
	select {
	case res := <-ch:
		if res.Err == nil && (meta.Validator == "" || res.Val.(string) != meta.Validator) {
			return errOutdated
		}
		return res.Err
	case <-waiting.Done():
		m.waitedInVain(ctx, waiting)
		return origin.ErrAway
	}
}

// look asks the origin for the validator of a file. It belongs to no request.
func (m *Mount) look(name string) (validator string, err error) {
	defer origin.Recover(m.log, "revalidation", &err)
	g, err := m.fetch(context.Background(), origin.Request{Name: name, Head: true})
	if err != nil {
		m.facts.learn(name, err, g.rel.hash)
		return "", err
	}
	return g.src.validator(g.Info), nil
}
