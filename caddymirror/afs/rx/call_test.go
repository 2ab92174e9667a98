package rx

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pattern returns n bytes that differ from packet to packet.
func pattern(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8)}).Read(b)
	return b
}

// echoSum replies to a request {reply length, ...} with that much pattern and the
// checksum of the request.
func echoSum(request []byte) fakeReply {
	n := int(binary.BigEndian.Uint32(request))
	return fakeReply{data: binary.BigEndian.AppendUint32(pattern(n), crc32.ChecksumIEEE(request))}
}

func request(replyLen, length int) []byte {
	b := pattern(max(length, 4))
	binary.BigEndian.PutUint32(b, uint32(replyLen))
	return b
}

// check calls p with a request for replyLen bytes.
func check(ctx context.Context, p *Peer, replyLen, length int) error {
	q := request(replyLen, length)
	want := binary.BigEndian.AppendUint32(pattern(replyLen), crc32.ChecksumIEEE(q))
	reply := make([]byte, replyLen+4)
	n, err := p.Call(ctx, q, reply)
	if err != nil {
		return err
	}
	if !bytes.Equal(reply[:n], want) {
		return fmt.Errorf("reply of %d bytes differs from the %d sent", n, len(want))
	}
	return nil
}

func connections(e *Endpoint) int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return len(e.conns)
}

func TestCallLengths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{delay: 100 * time.Microsecond})
		e, _, p := newPair(t, n, Options{}, echoSum)
		for _, length := range []int{4, 5, maxPayload, maxPayload + 1, 2 * maxPayload, 100 * maxPayload, 1<<20 + 3} {
			for _, reply := range []int{0, 1, maxPayload - 4, maxPayload - 3, maxPayload, 5*maxPayload - 4, 1 << 20} {
				if err := check(t.Context(), p, reply, length); err != nil {
					t.Errorf("request %d, reply %d: %v", length, reply, err)
				}
			}
		}
		if s := e.Stats(); s.Resent != 0 || s.Duplicates != 0 || s.Gaps != 0 || s.Stray != 0 || s.InFlight != 0 {
			t.Errorf("on a perfect network: %+v", s)
		}
	})
}

func TestEmptyReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{})
		_, _, p := newPair(t, n, Options{}, func([]byte) fakeReply { return fakeReply{} })
		if n, err := p.Call(t.Context(), request(0, 4), nil); n != 0 || err != nil {
			t.Errorf("Call() = %d, %v", n, err)
		}
	})
}

// TestFaults moves long requests and replies over bad networks, and says how fast
// that was: the fake server recovers from losses as OpenAFS does.
func TestFaults(t *testing.T) {
	const length, rounds = 256 << 10, 6
	for _, tt := range []struct {
		name     string
		faults   faults
		replyMin float64 // KB/s
		sendMin  float64
	}{
		{"clean", faults{delay: 20 * time.Millisecond, spacing: 10 * time.Microsecond}, 500, 500},
		{"loss 1 %", faults{loss: .01, delay: 20 * time.Millisecond, spacing: 10 * time.Microsecond}, 300, 250},
		{"loss 5 %", faults{loss: .05, delay: 20 * time.Millisecond, spacing: 10 * time.Microsecond}, 150, 100},
		{"loss 10 %", faults{loss: .10, delay: 20 * time.Millisecond, spacing: 10 * time.Microsecond}, 100, 40},
		{"reordering", faults{reorder: .1, delay: 5 * time.Millisecond, spacing: 10 * time.Microsecond}, 400, 400},
		{"everything", faults{loss: .03, dup: .05, reorder: .05, delay: 2 * time.Millisecond, spacing: 10 * time.Microsecond}, 300, 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(42, tt.faults)
				e, s, p := newPair(t, n, Options{Dead: 30 * time.Second}, echoSum)
				measure := func(what string, replyLen, requestLen int, least float64) {
					start := time.Now()
					for range rounds {
						if err := check(t.Context(), p, replyLen, requestLen); err != nil {
							t.Fatalf("%s: %v", what, err)
						}
					}
					rate := rounds * length / 1e3 / time.Since(start).Seconds()
					t.Logf("%s: %.0f KB/s", what, rate)
					if rate < least {
						t.Errorf("%s: %.0f KB/s, want %.0f", what, rate, least)
					}
				}
				measure("replies", length, 4, tt.replyMin)
				measure("requests", 0, length, tt.sendMin)
				t.Logf("client %+v; server resent %d", e.Stats(), s.resent)
			})
		})
	}
}

func TestParallel(t *testing.T) {
	t.Run("no loss", func(t *testing.T) { testParallel(t, 0, 8) })
	// Connections are opened one at a time: with a packet of that lost, the calls
	// may be through before there are eight.
	t.Run("loss", func(t *testing.T) { testParallel(t, .01, 2) })
}

func testParallel(t *testing.T, loss float64, least int) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(3, faults{loss: loss, delay: time.Millisecond})
		e, s, p := newPair(t, n, Options{Dead: 30 * time.Second}, echoSum)
		s.reach = true
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if err := check(t.Context(), p, i*1000, 100+i*50); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := connections(e); n < least || n > 8 {
			t.Errorf("%d connections, want %d to 8", n, least)
		}
	})
}

// A file server pings before it runs the first call of a client, and does not
// run it without an answer.
func TestReach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{delay: time.Millisecond})
		_, s, p := newPair(t, n, Options{}, echoSum)
		s.reach = true
		start := time.Now()
		if err := check(t.Context(), p, 100, 4); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 5*time.Millisecond {
			t.Errorf("took %v", d)
		}
	})
}

func TestAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{})
		e, _, p := newPair(t, n, Options{}, func([]byte) fakeReply { return fakeReply{code: 106} })
		for range 5 {
			_, err := p.Call(t.Context(), request(0, 4), nil)
			var abort Abort
			var call *CallError
			if !errors.As(err, &abort) || abort != 106 || !errors.As(err, &call) || !call.Heard {
				t.Fatalf("Call() = %v", err)
			}
		}
		if s := p.Stats(); s.Aborts != 5 || s.InFlight != 0 {
			t.Errorf("%+v", s)
		}
		if connections(e) != 1 {
			t.Errorf("%d connections, want 1: an abort frees the channel", connections(e))
		}
	})
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{})
		_, s, p := newPair(t, n, Options{}, echoSum)
		s.busy = 2
		if err := check(t.Context(), p, 10, 4); err != nil {
			t.Fatal(err)
		}
		if s.busy != 0 {
			t.Error("not asked again")
		}
	})
}

func TestDead(t *testing.T) {
	never := func([]byte) fakeReply { return fakeReply{never: true} }
	for _, heard := range []bool{false, true} {
		t.Run(fmt.Sprint("heard ", heard), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(1, faults{delay: time.Millisecond})
				e, s, p := newPair(t, n, Options{}, never)
				if !heard {
					n.set(faults{loss: 1})
				} else {
					time.AfterFunc(5*time.Second, func() { n.set(faults{loss: 1}) })
				}
				start := time.Now()
				_, err := p.Call(t.Context(), request(0, 4), nil)
				var call *CallError
				if !errors.Is(err, ErrDead) || !errors.As(err, &call) || call.Heard != heard {
					t.Errorf("Call() = %v", err)
				}
				least := 10 * time.Second
				if heard {
					least += 3 * time.Second
				}
				if d := time.Since(start); d < least || d > least+5*time.Second {
					t.Errorf("dead after %v", d)
				}
				if connections(e) != 0 {
					t.Error("the connection was kept")
				}
				n.set(faults{})
				s.mu.Lock()
				s.handle = echoSum
				s.mu.Unlock()
				if err := check(t.Context(), p, 10, 4); err != nil {
					t.Errorf("back again: %v", err)
				}
			})
		})
	}
}

// A server that is at work answers pings for as long as it takes.
func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{delay: time.Millisecond})
		_, s, p := newPair(t, n, Options{}, func(b []byte) fakeReply {
			r := echoSum(b)
			r.delay = 5 * time.Minute
			return r
		})
		if err := check(t.Context(), p, 5000, 4); err != nil {
			t.Fatal(err)
		}
		if s.pings < 100 || s.pings > 160 {
			t.Errorf("%d pings in 5 minutes, want one every 2 s", s.pings)
		}
		if len(s.seen) != 1 || s.seen[string(request(5000, 4))] != 1 {
			t.Errorf("calls run: %v", s.seen)
		}
		if rtt := p.Stats().RTT; rtt < time.Millisecond || rtt > 20*time.Millisecond {
			t.Errorf("RTT %v, want about 2ms", rtt)
		}
	})
}

// It does so too where nobody has the patience to wait for a ping of the usual
// interval, and some get lost.
func TestKeepAliveImpatient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{delay: time.Millisecond, loss: 0.1})
		_, s, p := newPair(t, n, Options{Dead: time.Second}, func(b []byte) fakeReply {
			r := echoSum(b)
			r.delay = 20 * time.Second
			return r
		})
		if err := check(t.Context(), p, 100, 4); err != nil {
			t.Fatal(err)
		}
		if s.pings < 60 {
			t.Errorf("%d pings in 20 s", s.pings)
		}
	})
}

func TestTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{})
		_, s, p := newPair(t, n, Options{}, echoSum)
		for _, short := range []int{1, 100, 5000} {
			reply := make([]byte, 10004)
			got, err := p.Call(t.Context(), request(10000, 4), reply[:10004-short])
			if !errors.Is(err, ErrTooLong) || got != 0 {
				t.Errorf("%d short: Call() = %d, %v", short, got, err)
			}
			if !bytes.Equal(reply[10004-short:], make([]byte, short)) {
				t.Error("written beyond the buffer")
			}
		}
		synctest.Wait()
		if s.aborted != 3 {
			t.Errorf("server saw %d aborts, want 3", s.aborted)
		}
	})
}

// A call whose context has ended does not touch its buffers any more (the race
// detector sees), tells the server, and its channel rests.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(5, faults{delay: time.Millisecond, spacing: 20 * time.Microsecond})
		e, s, p := newPair(t, n, Options{}, echoSum)
		reply, zero := make([]byte, 1<<20), make([]byte, 1<<20)
		for i := range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+i)*time.Millisecond)
			_, err := p.Call(ctx, request(1<<20-4, 4), reply)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Call() = %v", err)
			}
			clear(reply)
			time.Sleep(3 * time.Millisecond)
			if !bytes.Equal(reply, zero) {
				t.Fatal("the reply was written to after Call returned")
			}
		}
		time.Sleep(time.Second)
		synctest.Wait()
		s.mu.Lock()
		for _, c := range s.calls {
			if c.sending {
				t.Error("the server still sends")
			}
		}
		s.mu.Unlock()
		if n := connections(e); n > 8 {
			t.Errorf("%d connections after 50 calls given up", n)
		}
		if err := check(t.Context(), p, 1000, 4); err != nil {
			t.Error(err)
		}
	})
}

// A connection gets no second call, and no other is opened, before its first call
// was answered.
func TestOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{delay: time.Millisecond})
		answered := map[uint32]bool{} // by cid
		n.drop = func(_, to netip.AddrPort, b []byte) bool {
			cid := binary.BigEndian.Uint32(b[4:]) &^ 3
			if known, seen := answered[cid]; b[20] == 1 && to == netip.MustParseAddrPort(serverAddr) {
				for other, ok := range answered {
					if !known && !ok && (seen || other != cid) {
						t.Errorf("a call on %x while the first on %x is open", cid, other)
					}
				}
				answered[cid] = known
			} else if b[20] == 1 {
				answered[cid] = true
			}
			return false
		}
		_, _, p := newPair(t, n, Options{}, func(b []byte) fakeReply {
			r := echoSum(b)
			r.delay = 100 * time.Millisecond
			return r
		})
		p.rtt.sample(time.Millisecond)
		start := time.Now()
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				if err := check(t.Context(), p, 10, 4); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if d := time.Since(start); d > time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// A server forgets connections that are idle for long.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, s, p := newPair(t, newNetwork(1, faults{}), Options{}, echoSum)
		for _, pause := range []time.Duration{0, 9 * time.Minute, 11 * time.Minute} {
			time.Sleep(pause)
			if err := check(t.Context(), p, 10, 4); err != nil {
				t.Fatal(err)
			}
		}
		if len(s.calls) != 2 || connections(e) != 1 {
			t.Errorf("%d connections used, %d kept; want 2, 1", len(s.calls), connections(e))
		}
	})
}

// Lost acks do not make the server wait for its time-out.
func TestLostAcks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{delay: time.Millisecond})
		client := netip.MustParseAddrPort(clientAddr)
		n.drop = func(from, _ netip.AddrPort, b []byte) bool {
			return from == client && b[20] == 2 && n.rnd.IntN(3) == 0
		}
		_, s, p := newPair(t, n, Options{}, echoSum)
		start := time.Now()
		if err := check(t.Context(), p, 1<<20, 4); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > 500*time.Millisecond || s.resent > 5 {
			t.Errorf("took %v, %d packets resent", d, s.resent)
		}
	})
}

// The server goes on sending if it misses the abort, so it is told again.
func TestLostAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(5, faults{delay: time.Millisecond})
		aborts := 0
		n.drop = func(_, _ netip.AddrPort, b []byte) bool {
			if b[20] == 4 {
				aborts++
			}
			return b[20] == 4 && aborts == 1
		}
		_, s, p := newPair(t, n, Options{}, echoSum)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := p.Call(ctx, request(1<<20, 4), make([]byte, 2<<20)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.aborted != 1 {
			t.Errorf("server saw %d aborts, want 1", s.aborted)
		}
	})
}

// The server sends the end again until it is told that it arrived.
func TestLostFinalAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(5, faults{delay: time.Millisecond})
		_, s, p := newPair(t, n, Options{}, echoSum)
		client := netip.MustParseAddrPort(clientAddr)
		n.drop = func(from, _ netip.AddrPort, b []byte) bool { return from == client && b[20] == 2 }
		if err := check(t.Context(), p, 100, 4); err != nil {
			t.Fatal(err)
		}
		n.mu.Lock()
		n.drop = nil
		n.mu.Unlock()
		time.Sleep(3 * time.Second)
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, c := range s.calls {
			if c.sending {
				t.Error("the server still sends")
			}
		}
		if d := p.Stats().Duplicates; d == 0 {
			t.Error("no duplicates: nothing was tested")
		}
	})
}

func TestChannelsExhausted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{})
		_, _, p := newPair(t, n, Options{MaxConns: 1}, func(b []byte) fakeReply {
			r := echoSum(b)
			r.delay = 3 * time.Second
			return r
		})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := check(t.Context(), p, 10, 4); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(1500 * time.Millisecond) // the others begin when the first was not answered for a second
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := check(ctx, p, 10, 4); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("fifth call: %v", err)
		}
		start := time.Now()
		if err := check(t.Context(), p, 10, 4); err != nil {
			t.Error(err)
		}
		if d := time.Since(start); d < 4*time.Second || d > 5*time.Second {
			t.Errorf("sixth call took %v: it should have waited for a channel", d)
		}
		wg.Wait()
	})
}

func TestConnectionAbort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{})
		e, s, p := newPair(t, n, Options{}, func([]byte) fakeReply { return fakeReply{never: true} })
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				_, err := p.Call(t.Context(), request(0, 4), nil)
				if abort := Abort(0); !errors.As(err, &abort) || abort != ProtocolError {
					t.Errorf("Call() = %v", err)
				}
			})
		}
		time.Sleep(3 * time.Second) // the first call is not answered, so others wait a second
		s.mu.Lock()
		for _, c := range s.calls {
			s.emit(&fakeCall{from: c.from, epoch: c.epoch, cid: c.cid, service: c.service}, 4, 0, 0, []byte{0xff, 0xff, 0xff, 0xfb})
			break
		}
		s.handle = echoSum
		s.mu.Unlock()
		wg.Wait()
		if connections(e) != 0 {
			t.Error("the connection was kept")
		}
		if err := check(t.Context(), p, 10, 4); err != nil {
			t.Error(err)
		}
	})
}

func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{})
		_, s, p := newPair(t, n, Options{}, echoSum)
		for range 3 {
			if err := check(t.Context(), p, 10, 4); err != nil {
				t.Fatal(err)
			}
			p.Reset()
		}
		if len(s.calls) != 3 {
			t.Errorf("%d connections used, want 3", len(s.calls))
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{})
		e, s, p := newPair(t, n, Options{MaxConns: 1}, func([]byte) fakeReply { return fakeReply{never: true} })
		var wg sync.WaitGroup
		for range 6 { // two of them wait for a channel
			wg.Go(func() {
				if _, err := p.Call(t.Context(), request(0, 4), nil); !errors.Is(err, ErrClosed) {
					t.Errorf("Call() = %v", err)
				}
			})
		}
		time.Sleep(3 * time.Second)
		e.Close()
		e.Close()
		wg.Wait()
		if _, err := p.Call(t.Context(), request(0, 4), nil); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: Call() = %v", err)
		}
		if _, err := p.Version(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: Version() = %v", err)
		}
		synctest.Wait()
		if s.aborted != 4 {
			t.Errorf("server saw %d aborts, want 4", s.aborted)
		}
	})
}

// A socket closed under the endpoint is like Close.
func TestSocketClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{})
		_, _, p := newPair(t, n, Options{}, func([]byte) fakeReply { return fakeReply{never: true} })
		time.AfterFunc(time.Second, func() { n.ports[netip.MustParseAddrPort(clientAddr)].Close() })
		if _, err := p.Call(t.Context(), request(0, 4), nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Call() = %v", err)
		}
	})
}

func TestVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{})
		e, _, p := newPair(t, n, Options{}, echoSum)
		if v, err := p.Version(t.Context()); v != "fake 1.0" || err != nil {
			t.Errorf("Version() = %q, %v", v, err)
		}
		n.set(faults{loss: 1})
		if _, err := p.Version(t.Context()); !errors.Is(err, ErrDead) {
			t.Errorf("Version() = %v, want ErrDead", err)
		}
		e.mu.RLock()
		defer e.mu.RUnlock()
		if len(e.probes) != 0 {
			t.Error("probes are left")
		}
	})
}

// Only the peer's own address is listened to.
func TestStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(1, faults{delay: time.Millisecond})
		e, s, p := newPair(t, n, Options{}, func(b []byte) fakeReply {
			r := echoSum(b)
			r.delay = time.Second
			return r
		})
		stranger := n.listen("192.0.2.66:7000")
		time.AfterFunc(100*time.Millisecond, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			own := s.out
			s.out = stranger
			for _, c := range s.calls {
				s.emit(c, 4, 0, 0, []byte{0, 0, 0, 1})
				s.emit(c, 1, 4, 1, []byte("wrong"))
			}
			s.out = own
			for _, c := range s.calls { // the right one, but of another service
				other := *c
				other.service++
				s.emit(&other, 4, 0, 0, []byte{0, 0, 0, 1})
			}
		})
		if err := check(t.Context(), p, 10, 4); err != nil {
			t.Error(err)
		}
		if s := e.Stats(); s.Stray != 3 {
			t.Errorf("%d stray packets, want 3", s.Stray)
		}
	})
}
