package mirrorcache

import (
	"context"
	"errors"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

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
