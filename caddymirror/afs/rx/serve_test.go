package rx

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A rawCaller calls an endpoint the way a file server does, with packets it makes
// itself.
type rawCaller struct {
	*testing.T
	port       *port
	to         netip.AddrPort
	epoch, cid uint32
	service    uint16
	serial     uint32
}

func newRawCaller(t *testing.T, n *network, addr string) *rawCaller {
	return &rawCaller{
		T: t, port: n.listen(addr), to: netip.MustParseAddrPort(clientAddr),
		epoch: 0x80000007, cid: 0x40, service: 1,
	}
}

func (c *rawCaller) send(call, seq uint32, typ, flags byte, body []byte) {
	c.serial++
	b := make([]byte, 28)
	for i, v := range []uint32{c.epoch, c.cid, call, seq, c.serial} {
		binary.BigEndian.PutUint32(b[4*i:], v)
	}
	b[20], b[21] = typ, flags
	binary.BigEndian.PutUint16(b[26:], c.service)
	c.port.net.send(c.port.addr, c.to, slices.Concat(b, body))
}

// ask sends a request of one packet.
func (c *rawCaller) ask(call uint32, body string) { c.send(call, 1, 1, 5, []byte(body)) }

// ack acknowledges the packets before first; flags 2 asks for an answer.
func (c *rawCaller) ack(call, first uint32, reason, flags byte) {
	b := make([]byte, 37)
	binary.BigEndian.PutUint32(b[4:], first)
	b[16] = reason
	c.send(call, 0, 2, 0x21|flags, b)
}

// next returns what arrives within a while: its call, seq, type, flags and body.
func (c *rawCaller) next(within time.Duration) (s string) {
	timer := time.AfterFunc(within, func() { c.port.put(parcel{due: time.Now(), b: []byte("nothing")}) })
	defer timer.Stop()
	b := make([]byte, 2048)
	n, _, err := c.port.ReadFrom(b)
	if err != nil {
		c.Fatal(err)
	}
	if b = b[:n]; n < 28 {
		return string(b)
	}
	if e, cid := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:]); e != c.epoch || cid != c.cid {
		c.Errorf("answer on connection %x %x, want %x %x", e, cid, c.epoch, c.cid)
	}
	body := fmt.Sprintf("%q", b[28:])
	if b[20] == 2 {
		body = fmt.Sprintf("first %d serial %d reason %d", binary.BigEndian.Uint32(b[32:]), binary.BigEndian.Uint32(b[40:]), b[44])
	}
	return fmt.Sprintf("call %d seq %d type %d flags %x %s", binary.BigEndian.Uint32(b[8:]), binary.BigEndian.Uint32(b[12:]), b[20], b[21], body)
}

func (c *rawCaller) want(want string) {
	c.Helper()
	if got := c.next(100 * time.Millisecond); got != want {
		c.Errorf("got %s, want %s", got, want)
	}
}

// newServing returns an endpoint that answers with what handle makes of the
// request.
func newServing(t *testing.T, handle func(Request) ([]byte, int32)) (*Endpoint, *network, *rawCaller) {
	n := newNetwork(1, faults{})
	e, err := Listen("", Options{Conn: n.listen(clientAddr), Handle: handle})
	if err != nil {
		t.Fatal(err)
	}
	c := newRawCaller(t, n, serverAddr)
	t.Cleanup(func() {
		e.Close()
		c.port.Close()
	})
	return e, n, c
}

func callers(e *Endpoint) int {
	e.server.mu.Lock()
	defer e.server.mu.Unlock()
	return len(e.server.callers)
}

func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		e, _, c := newServing(t, func(r Request) ([]byte, int32) {
			runs++
			if r.From != netip.MustParseAddrPort(serverAddr) || r.Service != 1 || r.Epoch != 0x80000007 {
				t.Errorf("request %+v", r)
			}
			switch string(r.Body) {
			case "fail":
				return nil, -455
			case "long":
				return make([]byte, MaxReply+1), 0
			case "void":
				return nil, 0
			}
			return append([]byte("re: "), r.Body...), 0
		})
		const reply = `call 1 seq 1 type 1 flags 4 "re: call"`
		const again = `call 1 seq 1 type 1 flags 6 "re: call"`
		c.ask(1, "call")
		c.want(reply)
		c.ask(1, "call")
		c.want(again)
		c.ack(1, 1, 6, 2)
		c.want("call 1 seq 0 type 2 flags 20 first 2 serial 3 reason 7")
		c.ack(1, 2, 8, 0)
		c.ask(1, "call") // it is over
		c.want("call 1 seq 0 type 2 flags 20 first 2 serial 5 reason 2")
		if runs != 1 {
			t.Errorf("handled %d times", runs)
		}
		c.ask(3, "fail")
		c.want(`call 3 seq 0 type 4 flags 0 "\xff\xff\xfe9"`)
		c.ask(3, "fail")
		c.want(`call 3 seq 0 type 4 flags 0 "\xff\xff\xfe9"`)
		c.ask(2, "late")
		c.want("nothing")
		c.ask(4, "void")
		c.want(`call 4 seq 1 type 1 flags 4 ""`)
		c.send(4, 0, 5, 1, nil) // ACKALL
		c.ask(5, "long")
		c.want(`call 5 seq 0 type 4 flags 0 "\xff\xff\xff\xf8"`)
		c.ask(6, "abc") // no opcode
		c.want(`call 6 seq 0 type 4 flags 0 "\xff\xff\xfe;"`)
		c.send(7, 1, 1, 1, []byte("more to come"))
		c.want(`call 7 seq 0 type 4 flags 0 "\xff\xff\xff\xfb"`)
		c.send(8, 0, 4, 1, []byte{0, 0, 0, 1}) // abort of nothing
		c.send(0, 0, 4, 1, []byte{0, 0, 0, 1}) // of the connection
		c.ack(5, 1, 6, 2)
		c.want("nothing")
		if callers(e) != 0 {
			t.Error("the connection was kept")
		}
		if s := e.Stats(); s.Served != 4 {
			t.Errorf("%+v", s)
		}
	})
}

// The reply is sent again until it is acknowledged, but not for ever.
func TestServeResends(t *testing.T) {
	for _, acked := range []bool{false, true} {
		t.Run(fmt.Sprint("acked ", acked), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, _, c := newServing(t, func(Request) ([]byte, int32) { return []byte("yes"), 0 })
				c.ask(1, "call")
				c.want(`call 1 seq 1 type 1 flags 4 "yes"`)
				if acked {
					c.ack(1, 2, 8, 0)
				}
				copies := 0
				for c.next(time.Minute) != "nothing" {
					copies++
				}
				if want := map[bool]int{false: maxSends - 1, true: 0}[acked]; copies != want {
					t.Errorf("%d more copies, want %d", copies, want)
				}
			})
		})
	}
}

func TestServeWhileHandling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, c := newServing(t, func(Request) ([]byte, int32) {
			time.Sleep(time.Second)
			return []byte("yes"), 0
		})
		c.send(1, 1, 1, 7, []byte("call"))
		c.want("call 1 seq 0 type 2 flags 20 first 2 serial 1 reason 1")
		c.ask(1, "call")
		c.want("call 1 seq 0 type 2 flags 20 first 2 serial 2 reason 2")
		c.ack(1, 1, 6, 2)
		c.want("call 1 seq 0 type 2 flags 20 first 2 serial 3 reason 7")
		c.ask(2, "next")
		c.want(`call 2 seq 0 type 3 flags 0 ""`)
		if got := c.next(2 * time.Second); got != `call 1 seq 1 type 1 flags 4 "yes"` {
			t.Error(got)
		}
	})
}

func TestServeNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, _, c := newServing(t, nil)
		c.ask(1, "call")
		c.want(`call 1 seq 0 type 4 flags 0 "\xff\xff\xff\xfe"`)
		c.send(1, 0, 4, 1, []byte{0, 0, 0, 1})
		c.want("nothing") // an abort is not answered
		if callers(e) != 0 {
			t.Error("a caller is remembered")
		}
	})
}

// A flood of calls costs what the bounds allow.
func TestServeFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most, total atomic.Int64
		gate := make(chan struct{})
		e, _, c := newServing(t, func(r Request) ([]byte, int32) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			total.Add(1)
			<-gate
			return r.Body, 0
		})
		flood := func() {
			for i := range 5000 {
				c.cid = uint32(i) << 2
				c.ask(1, "flood")
				if i%32 == 0 {
					synctest.Wait()
				}
			}
			synctest.Wait()
		}
		flood()
		if n := runtime.NumGoroutine(); n > maxHandlers+30 {
			t.Errorf("%d goroutines", n)
		}
		if total.Load() != maxHandlers {
			t.Errorf("%d handlers ran, want %d", total.Load(), maxHandlers)
		}
		close(gate)
		synctest.Wait()
		flood()
		if most.Load() != maxHandlers {
			t.Errorf("%d handlers at once, want %d", most.Load(), maxHandlers)
		}
		if n := callers(e); n != maxCallers {
			t.Errorf("%d callers are remembered, want %d", n, maxCallers)
		}
		if s := e.Stats(); s.Served+s.Refused != 10000-maxHandlers { // the first 64 are known the second time
			t.Errorf("%d served, %d refused", s.Served, s.Refused)
		}
	})
}

// Two endpoints call each other on their one socket, over a bad network.
func TestBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(9, faults{loss: .1, dup: .1, reorder: .1, delay: time.Millisecond})
		var ends [2]*Endpoint
		for i, addr := range []string{clientAddr, serverAddr} {
			var err error
			ends[i], err = Listen("", Options{
				Conn:   n.listen(addr),
				Dead:   time.Minute,
				Handle: func(r Request) ([]byte, int32) { return bytes.ToUpper(r.Body), 0 },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer ends[i].Close()
		}
		var wg sync.WaitGroup
		for i := range 200 {
			wg.Go(func() {
				from, to := ends[i%2], ends[1-i%2]
				reply := make([]byte, 100)
				ask := fmt.Sprintf("call %d", i)
				n, err := from.Peer(to.LocalAddr(), 1).Call(t.Context(), []byte(ask), reply)
				if want := fmt.Sprintf("CALL %d", i); err != nil || string(reply[:n]) != want {
					t.Errorf("Call() = %q, %v; want %q", reply[:n], err, want)
				}
			})
		}
		wg.Wait()
	})
}
