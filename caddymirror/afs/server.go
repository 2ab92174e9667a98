package afs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/rx"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

const (
	// helloPatience is how long the first call to a file server may take: a
	// millisecond, but 112 s where its calls do not reach us.
	helloPatience = 5 * time.Second

	// probeEvery is the pause between two probes of a server that is down, and
	// blockedEvery of one that cannot call us: each of those occupies one of its
	// threads for two minutes.
	probeEvery   = time.Second
	blockedEvery = 20 * time.Second
)

// errDown says that a server has not been asked, since it does not answer.
var errDown = errors.New("file server is down")

// errBlocked says that a server's calls to us go astray.
var errBlocked = errors.New("file server answers, but its own calls do not reach us")

// server is a file server, at all of its addresses.
//
// It is new until a first call, made by one of those who want something of it,
// was answered: then the server knows us. It is down from a call in vain until a
// probe is answered.
type server struct {
	c *Client

	running atomic.Int32 // calls
	called  atomic.Int64 // when it last called us, in nanoseconds since 1970

	mu      sync.Mutex // guards what follows
	addrs   []netip.AddrPort
	current int                     // index of the address that answers
	hello   chan struct{}           // closed when the first call has ended; nil: it was not begun
	known   bool                    // the first call was answered
	down    error                   // nil: it is not
	since   time.Time               // when that last changed
	up      context.Context         //nolint:containedctx // ends when it goes down, and what waits for it with it
	fall    context.CancelCauseFunc // of up
	rtt     time.Duration           // smoothed, of calls with small replies
}

func newServer(c *Client, addrs []netip.AddrPort) *server {
	s := &server{c: c, addrs: addrs}
	s.up, s.fall = context.WithCancelCause(c.ctx)
	return s
}

func (s *server) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addrs[s.current].Addr().String()
}

func (s *server) setAddrs(addrs []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.addrs, addrs) {
		s.addrs, s.current = addrs, 0
	}
}

func (s *server) has(addr netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.addrs, func(a netip.AddrPort) bool { return a.Addr() == addr })
}

func (s *server) calledUs() { s.called.Store(time.Now().UnixNano()) }

func (s *server) peer() *rx.Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.c.ep.Peer(s.addrs[s.current], wire.ServiceFile)
}

// isDown returns why the server is not asked, or nil.
func (s *server) isDown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down == nil {
		return nil
	}
	return fmt.Errorf("%w for %v: %w", errDown, time.Since(s.since).Round(time.Second), s.down)
}

// latency is what a short call to the server takes.
func (s *server) latency() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rtt
}

// call makes a call to the server. Its error is a [wire.Code] if the server said
// so itself.
func (s *server) call(ctx context.Context, request, reply []byte) (n int, err error) {
	if err := s.isDown(); err != nil {
		return 0, err
	}
	if err := s.introduce(ctx); err != nil {
		return 0, err
	}
	s.running.Add(1)
	defer s.running.Add(-1)
	start := time.Now()
	ctx, done := s.whileUp(ctx)
	defer done()
	n, err = s.peer().CallWithin(ctx, callPatience, request, reply)
	if err == nil {
		if n < 1<<10 {
			s.timed(time.Since(start))
		}
		return n, nil
	}
	if errors.Is(context.Cause(ctx), errDown) {
		return 0, cmp.Or(s.isDown(), errDown)
	}
	if errors.Is(err, rx.ErrBusy) {
		return 0, fmt.Errorf("%w: %w", ErrBusy, err) // says nothing of the server
	}
	if failed, ok := errors.AsType[*rx.CallError](err); ok && errors.Is(err, context.DeadlineExceeded) && failed.Took > helloPatience {
		// It is there and gets nowhere, as when its calls do not reach us any more:
		// the next first call will tell.
		s.forgotten()
	}
	return 0, s.failed(err)
}

// whileUp returns a context that ends with the other, and when the server is found
// to be down: not everybody has to find that out.
func (s *server) whileUp(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	up := s.up
	s.mu.Unlock()
	stop := context.AfterFunc(up, func() { cancel(errDown) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

func (s *server) timed(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rtt == 0 {
		s.rtt = d
	}
	s.rtt += (d - s.rtt) / 8
}

// failed notes what an error says of the server, and returns what it says of the
// call.
func (s *server) failed(err error) error {
	if abort, ok := errors.AsType[rx.Abort](err); ok {
		code := wire.Code(abort)
		if code == wire.RXCallDead || code == wire.RXCallTimeout {
			// It gave up on us, not the other way round: next time from the start.
			s.forgotten()
		}
		return code
	}
	if errors.Is(err, rx.ErrDead) {
		s.fell(err)
	}
	return err
}

func (s *server) forgotten() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.hello = false, nil
}

// introduce makes the first call to the server, or waits for whoever makes it. A
// file server that is asked by many whom it does not know is busy at once.
func (s *server) introduce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	for {
		s.mu.Lock()
		known, down, hello := s.known, s.down, s.hello
		if !known && down == nil && hello == nil {
			hello = make(chan struct{})
			s.hello = hello
			s.c.run(func() {
				defer close(hello)
				s.greet()
			})
		}
		s.mu.Unlock()
		switch {
		case known:
			return nil
		case down != nil:
			return s.isDown()
		}
		select {
		case <-hello:
		case <-ctx.Done():
			if err := ctx.Err(); !errors.Is(err, context.Canceled) && s.peer().Full() {
				return fmt.Errorf("%w: %w", ErrBusy, err)
			}
			return ctx.Err()
		case <-s.c.ctx.Done():
			return rx.ErrClosed
		}
	}
}

// greet makes the first call and notes how it went.
func (s *server) greet() {
	err := s.c.contained("afs first call", func() error { return s.tryAll(s.firstCall) })
	s.mu.Lock()
	s.hello = nil
	s.known = err == nil
	s.mu.Unlock()
	if err != nil && !errors.Is(err, rx.ErrBusy) {
		s.fell(err)
	}
}

// tryAll tries f with the addresses of the server until one answers.
func (s *server) tryAll(f func() error) error {
	s.mu.Lock()
	n := len(s.addrs)
	s.mu.Unlock()
	var err error
	for range n {
		if err = f(); err == nil || errors.Is(err, errBlocked) || s.c.ctx.Err() != nil {
			return err
		}
		s.mu.Lock()
		s.current = (s.current + 1) % len(s.addrs)
		s.mu.Unlock()
	}
	return err
}

func (s *server) firstCall() error {
	ctx, cancel := context.WithTimeout(s.c.ctx, 2*helloPatience)
	defer cancel()
	start := time.Now()
	for n := 0; ; n++ {
		reply := make([]byte, wire.GetCapabilitiesReplySize)
		_, err := s.peer().CallWithin(ctx, helloPatience, wire.GetCapabilitiesRequest(), reply)
		abort, aborted := errors.AsType[rx.Abort](err)
		code := wire.Code(abort)
		switch {
		case err == nil, aborted && code == wire.RXGENOpcode:
			return nil
		case !aborted:
			return s.blocked(err, start)
		case code != wire.VBusy:
			return code
		case n < busyTries:
		case s.called.Load() < start.Add(-helloPatience).UnixNano():
			return errBlocked // it is still asking us who we are, for another call
		default:
			return nil
		}
		select {
		case <-time.After(jitter(busyPause)):
		case <-ctx.Done():
			return code
		}
	}
}

// blocked tells whether a first call failed because the server's own calls do not
// reach us.
func (s *server) blocked(err error, start time.Time) error {
	failed, ok := errors.AsType[*rx.CallError](err)
	if ok && failed.Heard && errors.Is(err, context.DeadlineExceeded) && s.c.ctx.Err() == nil && s.called.Load() < start.UnixNano() {
		return errBlocked
	}
	return err
}

// fell notes that the server does not answer, and has it probed until it does.
func (s *server) fell(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil || s.c.ctx.Err() != nil {
		return
	}
	s.down, s.since = err, time.Now()
	s.known, s.hello = false, nil
	s.fall(errDown)
	addr := s.addrs[s.current].Addr()
	if errors.Is(err, errBlocked) {
		s.c.log.Error("AFS file server answers, but its own calls do not reach us: let UDP from its port through to ours",
			zap.Stringer("server", addr), zap.Int("from_port", wire.PortFile), zap.Uint16("to_port", s.c.Addr().Port()))
	} else {
		s.c.log.Warn("AFS file server does not answer", zap.Stringer("server", addr), zap.Error(err))
	}
	s.c.run(s.watch)
}

// watch probes a server that is down.
func (s *server) watch() {
	for first := true; ; first = false {
		pause := probeEvery
		switch {
		case errors.Is(s.isDown(), errBlocked):
			pause = blockedEvery
		case first:
			pause = 0 // perhaps it was only slow
		}
		select {
		case <-time.After(pause):
		case <-s.c.ctx.Done():
			return
		}
		err := s.c.contained("afs probe", func() error { return s.tryAll(s.probe) })
		if err == nil {
			s.rose()
			return
		}
		s.mu.Lock()
		s.down = err
		s.mu.Unlock()
	}
}

// probe asks what needs no state at the server, then what does.
func (s *server) probe() error {
	ctx, cancel := context.WithTimeout(s.c.ctx, silence)
	defer cancel()
	p := s.peer()
	if _, err := p.Version(ctx); err != nil {
		return err
	}
	p.Reset()
	return s.firstCall()
}

// rose notes that the server is back. Its volumes are looked at anew: see
// volume.alarm.
func (s *server) rose() {
	s.mu.Lock()
	was := time.Since(s.since)
	s.down, s.since, s.known = nil, time.Now(), true
	s.up, s.fall = context.WithCancelCause(s.c.ctx)
	addr := s.addrs[s.current].Addr()
	s.mu.Unlock()
	s.c.log.Info("AFS file server is back", zap.Stringer("server", addr), zap.Duration("after", was.Round(time.Millisecond)))
	s.c.eachVolume(func(v *volume) { v.alarm(func(at *site) bool { return at.server == s }) })
}

// farewell tells the server that its promises are not needed any more.
func (s *server) farewell(ctx context.Context) {
	s.mu.Lock()
	known := s.known && s.down == nil
	s.mu.Unlock()
	if known {
		_, _ = s.peer().Call(ctx, wire.GiveUpAllCallBacksRequest(), nil)
	}
}
