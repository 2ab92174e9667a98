package upstream

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
)

// A Group is several upstreams that have the same, the preferred one first. Each has a
// breaker: one that is away is not waited for each time, and asked once a
// second until it answers: for the header of its root, or [Config.HealthTarget]. It is
// safe for concurrent use.
type Group struct {
	members []*member
	watched sync.Once
	stop    chan struct{}
}

type member struct {
	*Upstream

	moved func(u *Upstream, away bool, reason error)
}

// State is what a Group knows of an upstream.
type State struct {
	Upstream  *Upstream
	Away      bool      // it is not asked before it answers its breaker
	NotBefore time.Time // see [Upstream.NotBefore]
}

// NewGroup makes a Group, which is to be closed. moved is called when an upstream is found
// away, and when it is back; it may be nil. Of several Groups whose upstreams share a
// [Health], the newest is told.
func NewGroup(moved func(u *Upstream, away bool, reason error), upstreams ...*Upstream) *Group {
	g := &Group{stop: make(chan struct{})}
	for _, u := range upstreams {
		m := &member{u, moved}
		u.health.join(m)
		g.members = append(g.members, m)
	}
	return g
}

// Close ends what asks in the background, and closes idle connections.
func (g *Group) Close() {
	close(g.stop)
	for _, m := range g.members {
		m.health.leave(m)
		if m.ownHealth {
			m.health.Close()
		}
		m.Close()
	}
}

// States are those of the upstreams, in order.
func (g *Group) States() []State {
	states := make([]State, 0, len(g.members))
	for _, m := range g.members {
		states = append(states, State{m.Upstream, m.health.breaker.Open(), m.NotBefore()})
	}
	return states
}

// watch begins to ask for the health of the upstreams that want it.
func (g *Group) watch() {
	for _, m := range g.members {
		if m.healthTarget != "" {
			go m.watch(g.stop)
		}
	}
}

// ask is Fetch, unless the breaker is open.
func (m *member) ask(ctx context.Context, r Request) (*Response, error) {
	if err := m.health.breaker.Check(); err != nil {
		return nil, err
	}
	resp, err := m.Fetch(ctx, r)
	if err == nil || known(err) && !errors.Is(err, ErrBusy) && !errors.Is(err, ErrTarget) {
		m.health.breaker.Report(err) // else it was not asked, or nobody waited
	}
	return resp, err
}

// known reports whether an error has a class. Otherwise it is that of the caller's context.
func known(err error) bool {
	for _, class := range [...]error{ErrAway, ErrBusy, ErrLoop, ErrRefused, ErrLying, ErrChanged, ErrTarget} {
		if errors.Is(err, class) {
			return true
		}
	}
	return false
}

// Fetch is [Upstream.Fetch] of the first upstream that has an answer. A status of 5xx or
// 429 counts as one only if no other has a better one: then it is the first of these. The
// error is that of the first one, and its text has those of the others, too. A body that
// breaks off goes on from the upstreams behind the one that it came from, if these have the
// same version.
func (g *Group) Fetch(ctx context.Context, r Request) (*Response, error) {
	g.watched.Do(g.watch)
	var poor *Response
	var errs groupError
	for i, m := range g.members {
		if i < r.Skip {
			continue
		}
		resp, err := m.ask(ctx, r)
		switch {
		case err != nil && (!known(err) || errors.Is(err, ErrTarget)):
			if poor != nil {
				poor.Close()
			}
			return nil, err
		case err != nil:
			errs = append(errs, err)
		case !freshness.Failed(resp.Status):
			if poor != nil {
				poor.Close()
			}
			g.follow(ctx, r, resp, i)
			return resp, nil
		case poor == nil:
			poor = resp
		default:
			resp.Close()
		}
	}
	if poor != nil {
		return poor, nil
	}
	if len(errs) == 0 {
		return nil, errors.New("no upstreams")
	}
	return nil, errs
}

// groupError is the errors of all upstreams.
type groupError []error

func (e groupError) Error() string {
	texts := make([]string, 0, len(e))
	for _, err := range e {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

func (e groupError) Unwrap() error { return e[0] }
