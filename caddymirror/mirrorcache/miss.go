package mirrorcache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

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
