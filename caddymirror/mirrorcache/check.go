package mirrorcache

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

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
		name += variantMark + variantMark + q.ask.Authorization // no key has two in a row
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
		q.ask = m.again(key.Name, e.Meta(), g.ask.Authorization)
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
