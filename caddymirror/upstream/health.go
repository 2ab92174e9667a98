package upstream

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/breaker"
	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

// Health is what is known of a server: whether it is away, and until when it, and those
// that it redirects to, want no requests. Upstreams that ask the same server in the same
// way may share it, at the same time or one after the other, so that it outlives a
// configuration. It is safe for concurrent use.
type Health struct {
	pauses  pauses
	breaker breaker.Breaker
	stop    chan struct{}

	mu      sync.Mutex
	members []*member // of groups that are open, the newest last
	closed  bool
}

// NewHealth makes a Health of a server that nothing is known of. It is to be closed.
func NewHealth() *Health {
	h := &Health{stop: make(chan struct{})}
	h.breaker = breaker.Breaker{Away: ErrAway, Probe: h.probe, Stop: h.stop, Moved: h.moved}
	return h
}

// Close ends what asks in the background.
func (h *Health) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.stop)
	}
}

func (h *Health) join(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members = append(h.members, m)
}

func (h *Health) leave(m *member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.members = slices.DeleteFunc(h.members, func(o *member) bool { return o == m })
}

// newest is the member that probes, and is told. It is nil if there is none any more.
func (h *Health) newest() *member {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.members) == 0 || h.closed {
		return nil
	}
	return h.members[len(h.members)-1]
}

func (h *Health) probe() error {
	m := h.newest()
	if m == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-h.stop:
			cancel()
		case <-ended:
		}
	}()
	return m.probe(ctx)
}

func (h *Health) moved(away bool, reason error) {
	if m := h.newest(); m != nil && m.moved != nil {
		m.moved(m.Upstream, away, reason)
	}
}

// defaultHealthEvery is the default of [Config.HealthInterval].
const defaultHealthEvery = 30 * time.Second

// probe asks whether the upstream is there: any answer says so, unless there is a target
// to tell its health by.
func (u *Upstream) probe(ctx context.Context) error {
	if u.healthTarget == "" {
		resp, err := u.Fetch(ctx, Request{Target: "/", Head: true})
		if errors.Is(err, ErrAway) {
			return err
		}
		if err == nil {
			resp.Close()
		}
		return nil
	}
	resp, err := u.Fetch(ctx, Request{Target: u.healthTarget, Refresh: true})
	switch {
	case errors.Is(err, ErrBusy), ctx.Err() != nil:
		return nil // not asked
	case err != nil:
		return u.fail(ErrAway, nil, "health check: %v", err)
	}
	defer resp.Close()
	if resp.Status >= http.StatusBadRequest {
		return u.fail(ErrAway, nil, "health check: status %d", resp.Status)
	}
	return nil
}

// watch asks for the health of the upstream until stop is closed. One that is away is
// asked by its breaker.
func (m *member) watch(stop <-chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	every := time.NewTicker(m.healthEvery)
	defer every.Stop()
	for {
		select {
		case <-stop:
			return
		case <-every.C:
		}
		if m.health.breaker.Open() {
			continue
		}
		if err := m.check(ctx); err != nil {
			m.health.breaker.Trip(err)
		}
	}
}

// check is probe, with a panic as an error.
func (m *member) check(ctx context.Context) (err error) {
	defer panics.Recover(nil, "health check", &err)
	return m.probe(ctx)
}
