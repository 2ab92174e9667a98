package rx

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// fuzzEndpoint returns an endpoint with a long and a short call in flight, both on
// the connection 80000001/10, channels 0 and 1, to the recorder's peer.
func fuzzEndpoint(t *testing.T) (*Endpoint, *recorder, []byte) {
	e, sock := recorded(t, Options{Handle: func(r Request) ([]byte, int32) { return r.Body, int32(r.Body[0]) }})
	e.mu.Lock()
	e.epoch, e.cid = 0x80000001, 0x10
	e.mu.Unlock()
	p := e.Peer(sock.peer, 1)
	ctx, cancel := context.WithCancel(t.Context())
	reply := make([]byte, 5000)
	done := make(chan struct{})
	for i, length := range []int{100000, 4} {
		go func() {
			p.Call(ctx, make([]byte, length), reply[:4096]) // any end will do
			done <- struct{}{}
		}()
		for h := (header{}); h.epoch == 0 || int(h.cid&channelMask) != i; { // until its request was sent
			h, _ = parseHeader(<-sock.out)
		}
		p.mu.Lock()
		p.opened(p.opening) // the next one need not wait
		p.mu.Unlock()
	}
	t.Cleanup(func() {
		cancel()
		<-done
		<-done
	})
	return e, sock, reply
}

// FuzzPackets feeds datagrams to an endpoint: those of data, each with its length
// before it. Nothing may panic, be kept without bound, or be written beyond a
// reply's end.
func FuzzPackets(f *testing.F) {
	add := func(wire ...string) {
		var b []byte
		for _, w := range wire {
			d, err := hex.DecodeString(strings.ReplaceAll(w, " ", ""))
			if err != nil {
				f.Fatal(err)
			}
			b = binary.BigEndian.AppendUint16(b, uint16(len(d)))
			b = append(b, d...)
		}
		f.Add(b)
	}
	const (
		zero   = "80000001 00000010 00000001 " // the long call
		one    = "80000001 00000011 00000001 " // the short one
		served = "80000099 00000020 00000001 "
	)
	add(zero+"00000001 00000001 01000000 00000001 aabb", zero+"00000003 00000002 01040000 00000001 cc", zero+"00000002 00000003 01020000 00000001 cc")
	add(one+"00000001 00000001 01040000 00000001 aabb", one+"00000001 00000001 01040000 00000001 aabb")
	add(zero+"ffffffff 00000001 01040000 00000001", zero+"00000020 00000001 01040000 00000001", zero+"00000021 00000001 01040000 00000001")
	add(zero+"00000000 00000001 02220000 00000001"+reachPing, zero+"00000000 00000002 02000000 00000001"+gapAck)
	add(zero+"00000000 00000001 02000000 00000001"+pingReply, zero+"00000000 00000003 03000000 00000001", zero+"00000000 00000002 05000000 00000001")
	add(zero+"00000000 00000001 04000000 00000001 ffffffff", zero+"00000000 00000001 04000000 00000001 ffffffff")
	add("80000001 00000010 00000000 00000000 00000001 04000000 00000001 ffffffff", "80000001 00000010 00000000 00000000 00000001 0d000000 00000001 4141")
	add(served+"00000001 00000001 01050000 00000001 00000001", served+"00000000 00000002 02030000 00000001"+pingReply, served+"00000001 00000001 01050000 00000001 00000001")
	add(served+"00000001 00000001 01050000 00000001 01000001", served+"00000000 00000002 04010000 00000001 00000001", served+"00000000 00000002 05010000 00000001")
	add("80", fetchStatus)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, sock, reply := fuzzEndpoint(t)
		for len(data) >= 2 {
			n := min(int(binary.BigEndian.Uint16(data)), len(data)-2, bufferSize)
			sock.in <- parcel{from: sock.peer, b: data[2 : 2+n]}
			data = data[2+n:]
		}
		sock.in <- parcel{from: netip.MustParseAddrPort(clientAddr), b: nil} // the last one was worked on
		bounded(t, e)
		for i, b := range reply[4096:] {
			if b != 0 {
				t.Fatalf("byte %d beyond the reply was written", i)
			}
		}
	})
}

// bounded checks the invariants of an endpoint.
func bounded(t *testing.T, e *Endpoint) {
	t.Helper()
	e.mu.RLock()
	defer e.mu.RUnlock()
	if len(e.conns) > 1 || len(e.peers) != 1 {
		t.Fatalf("%d connections, %d peers", len(e.conns), len(e.peers))
	}
	for _, c := range e.conns {
		for i := range c.calls {
			k := &c.calls[i]
			k.mu.Lock()
			in, out := &k.in, &k.out
			if in.next > in.highest+1 || in.highest >= in.next+maxWindow {
				t.Errorf("receiver: next %d, highest %d", in.next, in.highest)
			}
			if out.first > out.next || out.next-out.first > maxWindow || out.next > out.total+1 {
				t.Errorf("sender: first %d, next %d of %d", out.first, out.next, out.total)
			}
			if !k.running && in.buf != nil {
				t.Error("a call that has ended keeps its buffer")
			}
			k.mu.Unlock()
		}
	}
	s := &e.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.callers) > maxCallers || len(s.callers) != s.recent.Len() {
		t.Errorf("%d callers, %d in the list", len(s.callers), s.recent.Len())
	}
}

// TestRandomPackets feeds packets that are nearly right, as fuzzing takes long to
// find them.
func TestRandomPackets(t *testing.T) {
	for seed := range uint64(30) {
		n := newNetwork(seed, faults{}).rnd
		e, sock, _ := fuzzEndpoint(t)
		pick := func(v ...uint32) uint32 { return v[n.IntN(len(v))] }
		for range 1000 {
			h := header{
				epoch: pick(0x80000001, 0x80000001, 0x80000001, 7), cid: pick(0x10, 0x11, 0x12, 0x20, 0x24),
				call: pick(0, 1, 1, 1, 1, 2), seq: pick(0, 1, 2, 3, n.Uint32N(40), n.Uint32()), serial: n.Uint32N(50),
				typ: uint8(pick(1, 1, 1, 2, 2, 2, 3, 5, 6, 7, 8, 13, 14)), flags: uint8(pick(0, 0, 1, 2, 4, 5, 7, 0x20, n.Uint32())),
				service: uint16(pick(1, 1, 1, 1, 2)),
			}
			if n.IntN(200) == 0 {
				h.typ = typeAbort
			}
			b := h.append(nil)
			if h.typ == typeAck {
				a := newAck(uint8(n.IntN(11)), n.Uint32N(50), int(n.Uint32()))
				a.first, a.prev = pick(0, 1, 2, n.Uint32N(100), n.Uint32()), n.Uint32N(100)
				a.soft = make([]byte, n.IntN(256))
				for i := range a.soft {
					a.soft[i] = byte(n.IntN(4))
				}
				b = a.append(b)
			} else {
				b = append(b, make([]byte, pick(0, 1, 4, 1000, 1416, 1800))...)
			}
			sock.in <- parcel{from: sock.peer, b: b[:len(b)-int(pick(0, 0, 0, n.Uint32N(uint32(len(b)))))]}
		}
		bounded(t, e)
		e.Close()
	}
}
