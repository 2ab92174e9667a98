package rx

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The datagrams of real exchanges.
const (
	fetchStatus = "894fa3b0 7e5efb24 00000001 00000001 00000001 01050000 00000001" +
		"00000084 20000007 00000001 00000001"
	gapAck    = "0000 0000 00000005 00000007 00000008 03 03 00 01 01 000000 000005a4 000005a4 00000020 00000001"
	reachPing = "0000 0000 00000001 00000001 00000000 06 01 01 000000 000005a4 000005a4 00000010 00000001"
	pingReply = "0000 0000 00000001 00000000 00000001 07 00 000000 000005a4 000005a4 00000020 00000001"
)

func TestHeader(t *testing.T) {
	b := unhex(t, fetchStatus)
	want := header{
		epoch: 0x894fa3b0, cid: 0x7e5efb24, call: 1, seq: 1, serial: 1,
		typ: typeData, flags: flagClient | flagLast, service: 1,
	}
	h, ok := parseHeader(b)
	if !ok || h != want {
		t.Errorf("parseHeader() = %+v, want %+v", h, want)
	}
	if got := h.append(nil); !bytes.Equal(got, b[:headerSize]) {
		t.Errorf("append() = %x", got)
	}
	if _, ok := parseHeader(b[:headerSize-1]); ok {
		t.Error("a short header was parsed")
	}
}

func TestAck(t *testing.T) {
	for _, tt := range []struct {
		wire string
		want ack
	}{
		{gapAck, ack{5, 7, 8, reasonOutOfOrder, []byte{0, 1, 1}, 1444, 1444, 32, 1}},
		{reachPing, ack{1, 1, 0, reasonPing, []byte{1}, 1444, 1444, 16, 1}},
		{pingReply, ack{1, 0, 1, reasonPingReply, []byte{}, 1444, 1444, 32, 1}},
	} {
		b := unhex(t, tt.wire)
		a, ok := parseAck(b)
		if !ok || !reflect.DeepEqual(a, tt.want) {
			t.Errorf("parseAck(%x) = %+v, want %+v", b, a, tt.want)
		}
		if got := a.append(nil); !bytes.Equal(got, b) {
			t.Errorf("append() = %x, want %x", got, b)
		}
		if a, ok := parseAck(append(b, make([]byte, 500)...)); !ok || !reflect.DeepEqual(a, tt.want) {
			t.Errorf("padded to probe the MTU: %+v", a)
		}
		for n := range b {
			a, ok := parseAck(b[:n])
			if least := ackFixed + len(tt.want.soft); ok != (n >= least) {
				t.Errorf("%d bytes: %+v, %v", n, a, ok)
			}
		}
	}
}

// TestFirstDatagrams looks at the very bytes a call sends: its request, the
// answer to the ping of a file server, and the last ack.
func TestFirstDatagrams(t *testing.T) {
	e, sock := recorded(t, Options{})
	e.epoch, e.cid = 0x894fa3b0, 0x7e5efb24
	p := e.Peer(sock.peer, 1)
	done := make(chan error, 1)
	reply := make([]byte, 120)
	go func() {
		_, err := p.Call(t.Context(), unhex(t, fetchStatus)[headerSize:], reply)
		done <- err
	}()
	sock.want(t, fetchStatus)
	sock.feed(t, "894fa3b0 7e5efb24 00000001 00000000 00000001 02220000 00000001"+reachPing)
	sock.want(t, "894fa3b0 7e5efb24 00000001 00000000 00000002 02210000 00000001"+pingReply)
	sock.feed(t, "894fa3b0 7e5efb24 00000001 00000001 00000002 01040000 00000001"+strings.Repeat("ab", 120))
	sock.want(t, "894fa3b0 7e5efb24 00000001 00000000 00000003 02210000 00000001"+
		"0000 0000 00000002 00000001 00000002 09 00 000000 000005a4 000005a4 00000020 00000001")
	if err := <-done; err != nil || !bytes.Equal(reply, bytes.Repeat([]byte{0xab}, 120)) {
		t.Errorf("Call: %v, reply %x", err, reply)
	}
}

// TestGapDatagram is the reference's example: 1 to 4 consumed, 5 missing, 6 and 7
// held, serial 8.
func TestGapDatagram(t *testing.T) {
	e, sock := recorded(t, Options{})
	e.epoch, e.cid = 0x80000001, 0x10
	go e.Peer(sock.peer, 1).Call(t.Context(), []byte{0, 0, 0, 1}, make([]byte, 100)) // Close ends it
	<-sock.out
	for i, seq := range []string{"01", "02", "03", "04", "06", "07"} {
		serial := hex.EncodeToString([]byte{byte(i + 1)})
		if seq == "07" {
			serial = "08"
		}
		sock.feed(t, "80000001 00000010 00000001 000000"+seq+"000000"+serial+"01000000 00000001 aa")
	}
	for {
		got := <-sock.out
		if a, ok := parseAck(got[headerSize:]); ok && a.serial == 8 {
			if want := unhex(t, gapAck); !bytes.Equal(got[headerSize:], want) {
				t.Errorf("ack %x, want %x", got[headerSize:], want)
			}
			return
		}
	}
}

func FuzzAck(f *testing.F) {
	for _, s := range []string{gapAck, reachPing, pingReply} {
		b, _ := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := parseAck(b)
		if !ok {
			return
		}
		again, ok := parseAck(a.append(nil))
		if !ok || !reflect.DeepEqual(a, again) {
			t.Errorf("%+v became %+v", a, again)
		}
	})
}

func FuzzHeader(f *testing.F) {
	f.Add(make([]byte, headerSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseHeader(b)
		if ok != (len(b) >= headerSize) {
			t.Fatal(ok)
		}
		if again, _ := parseHeader(h.append(nil)); ok && again != h {
			t.Errorf("%+v became %+v", h, again)
		}
	})
}
