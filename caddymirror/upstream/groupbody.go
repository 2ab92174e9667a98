package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// groupBody is a body that other upstreams go on with where it breaks off.
type groupBody struct {
	r      Request // what was asked for first
	header http.Header
	start  int64
	rest   []*member // that may go on
	from   *member   // where it comes from
	life   context.Context
	end    context.CancelFunc

	mu     sync.Mutex // guards the following
	body   io.ReadCloser
	closed bool
}

// follow lets the body of a response, of the i-th upstream, go on elsewhere.
func (g *Group) follow(ctx context.Context, r Request, resp *Response, i int) {
	if resp.Body == nil || resp.Validator == "" || i == len(g.members)-1 {
		return
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	resp.Body = &groupBody{
		r: r, header: resp.Header, start: resp.Start, rest: g.members[i+1:], from: g.members[i],
		life: life, end: end, body: resp.Body,
	}
}

// Read implements [io.Reader].
func (b *groupBody) Read(p []byte) (int, error) {
	for {
		n, err := b.body.Read(p) // only Read itself changes it
		var broken *BrokenError
		if n > 0 || !errors.As(err, &broken) {
			return n, err
		}
		if b.life.Err() == nil && errors.Is(err, ErrAway) {
			b.from.health.breaker.Report(err)
		}
		if broken.Validator == "" || errors.Is(err, ErrLying) || !b.goOn(broken) {
			return 0, err
		}
	}
}

// goOn takes the body up at the next upstream that has the same version.
func (b *groupBody) goOn(broken *BrokenError) bool {
	for len(b.rest) > 0 && b.life.Err() == nil {
		m := b.rest[0]
		b.rest = b.rest[1:]
		r := b.r
		r.Conditions, r.Offset, r.Only = nil, broken.Offset, broken.Validator
		if r.Length > 0 {
			r.Length -= broken.Offset - b.start
		}
		resp, err := m.ask(b.life, r)
		if err != nil {
			continue
		}
		if !b.same(resp, broken) || !b.swap(resp.Body, m) {
			resp.Close()
			continue
		}
		return true
	}
	return false
}

// same reports whether a response is the rest of the body. Tags of two servers may be
// equal by chance, so what else says something of the version must be, too.
func (b *groupBody) same(resp *Response, broken *BrokenError) bool {
	if resp.Status != http.StatusOK && resp.Status != http.StatusPartialContent ||
		resp.Validator != broken.Validator || resp.Start != broken.Offset || resp.Size != broken.Size && broken.Size >= 0 {
		return false
	}
	for _, name := range [...]string{"Content-Encoding", "Last-Modified"} {
		if resp.Header.Get(name) != b.header.Get(name) {
			return false
		}
	}
	return true
}

func (b *groupBody) swap(body io.ReadCloser, m *member) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.body.Close()
	b.body, b.from = body, m
	return true
}

// Close ends the body, also while a Read is under way.
func (b *groupBody) Close() error {
	b.end()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return b.body.Close()
}
