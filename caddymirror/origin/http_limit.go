package origin

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// httpLimits are those of an [HTTPLimit]. Its methods work on nil, too.
type httpLimits struct {
	requests  *semaphore.Weighted // nil: any number
	bandwidth *rate.Limiter       // nil: any
}

// Destruct implements [caddy.Destructor].
func (*httpLimits) Destruct() error { return nil }

type httpLimitKey struct {
	name  string
	limit HTTPLimit
}

// shareLimits is nil if there are none.
func (h *HTTP) shareLimits() (*httpLimits, error) {
	if h.Limit == nil || *h.Limit == (HTTPLimit{}) {
		return nil, nil
	}
	key := httpLimitKey{h.name, *h.Limit}
	l, _, err := limits.LoadOrNew(key, func() (caddy.Destructor, error) { return newLimits(*h.Limit), nil })
	if err != nil {
		return nil, err
	}
	h.shared = append(h.shared, func() error { _, err := limits.Delete(key); return err })
	return l.(*httpLimits), nil
}

const (
	// Of the bandwidth, as much may come at once as in burstTime, but at least minBurst
	// bytes: timers are not exact.
	burstTime = 50 * time.Millisecond
	minBurst  = 4 << 10

	// maxPiece is how much is read before the bandwidth is looked at, in bytes.
	maxPiece = 64 << 10
)

func newLimits(c HTTPLimit) *httpLimits {
	l := new(httpLimits)
	if c.Requests > 0 {
		l.requests = semaphore.NewWeighted(c.Requests)
	}
	if c.Bandwidth > 0 {
		burst := max(minBurst, int64(float64(c.Bandwidth)*burstTime.Seconds()))
		l.bandwidth = rate.NewLimiter(rate.Limit(c.Bandwidth), int(min(burst, math.MaxInt32)))
	}
	return l
}

// begin waits until a request may be sent, for patience at most. end is to be called when
// it is over, once or more often.
func (l *httpLimits) begin(ctx context.Context, patience time.Duration) (end func(), err error) {
	if l == nil || l.requests == nil {
		return func() {}, nil
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if l.requests.Acquire(wait, 1) == nil {
		return sync.OnceFunc(func() { l.requests.Release(1) }), nil
	}
	if ctx.Err() != nil {
		return nil, leftInQueue(ctx)
	}
	return nil, fmt.Errorf("%w: no request could begin within %v, for there is a limit", ErrBusy, patience)
}

// piece is how many bytes may be read at a time.
func (l *httpLimits) piece() int {
	if l == nil || l.bandwidth == nil {
		return math.MaxInt
	}
	return min(maxPiece, l.bandwidth.Burst())
}

// wait waits until n bytes that were read fit into the bandwidth.
func (l *httpLimits) wait(ctx context.Context, n int) error {
	if l == nil || l.bandwidth == nil || n <= 0 {
		return nil
	}
	if err := l.bandwidth.WaitN(ctx, n); err != nil {
		return fmt.Errorf("the body was closed: %w", err)
	}
	return nil
}

// defaultHeaderTimeout is that of upstreams.
const defaultHeaderTimeout = 30 * time.Second

// patience is how long a request may wait for others.
func (h *HTTP) patience() time.Duration {
	return cmp.Or(time.Duration(h.HeaderTimeout), defaultHeaderTimeout)
}
