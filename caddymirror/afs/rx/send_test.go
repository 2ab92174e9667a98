package rx

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func seqs(out []outgoing) (s []uint32) {
	for _, o := range out {
		s = append(s, o.seq)
	}
	return s
}

// A sendTest drives a sender with a clock of its own.
type sendTest struct {
	*testing.T
	sender
	now    time.Time
	serial atomic.Uint32
	acks   uint32
}

func newSendTest(t *testing.T, packets int) *sendTest {
	return &sendTest{T: t, sender: newSender(packets*10, 10), now: time.Now()}
}

func (t *sendTest) sends(want ...uint32) []outgoing {
	t.Helper()
	ready := t.ready()
	out := t.burst(t.now, &t.serial, nil)
	if ready != (len(out) > 0) {
		t.Errorf("ready() = %v before a burst of %d", ready, len(out))
	}
	if !slices.Equal(seqs(out), want) {
		t.Errorf("sent %v, want %v", seqs(out), want)
	}
	return out
}

func (t *sendTest) gets(first, serial uint32, soft ...byte) time.Duration {
	t.acks++
	return t.ack(ack{first: first, serial: serial, reason: reasonRequested, soft: soft}, t.acks, t.now)
}

func TestSenderSlowStart(tt *testing.T) {
	t := newSendTest(tt, 40)
	out := t.sends(1, 2, 3, 4)
	if out[0].flags != flagClient || out[3].flags != flagClient|flagRequest {
		t.Errorf("flags %+v", out)
	}
	t.gets(5, 4)
	t.sends(5, 6, 7, 8, 9, 10, 11, 12)
	t.gets(13, 12)
	t.sends(13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28) // the peer's first window
	t.ack(ack{first: 29, window: 5}, 100, t.now)
	t.sends(29, 30, 31, 32, 33)
	t.ack(ack{first: 34, window: 1000}, 101, t.now)
	out = t.sends(34, 35, 36, 37, 38, 39, 40)
	if last := out[len(out)-1]; last.flags != flagClient|flagLast {
		t.Errorf("flags of the last packet: %x", last.flags)
	}
	t.gets(41, 0)
	if !t.done() || t.ready() {
		t.Error("not done")
	}
}

func TestSenderFastRetransmit(tt *testing.T) {
	t := newSendTest(tt, 20)
	t.sends(1, 2, 3, 4)
	t.gets(1, 2, 0, 1)
	t.gets(1, 3, 0, 1, 1)
	t.gets(1, 3, 0, 1, 1) // 5, 6, ... are not sent in this test
	if n := t.slot(1).nacks; n != 3 || !t.slot(1).lost {
		t.Fatalf("%d nacks, lost %v", n, t.slot(1).lost)
	}
	out := t.burst(t.now, &t.serial, nil)
	if out[0].seq != 1 || out[0].flags != flagClient|flagRequest || !out[0].again || out[0].serial != 5 {
		t.Errorf("resent %+v", out[0])
	}
	// What was sent before says nothing of the second copy.
	for range 5 {
		t.gets(1, 4, 0, 1, 1, 1)
	}
	if t.slot(1).lost {
		t.Error("the second copy was given up for acks of packets sent before it")
	}
}

func TestSenderTimeout(tt *testing.T) {
	const rto = time.Second
	t := newSendTest(tt, 10)
	t.sends(1, 2, 3, 4)
	if d := t.deadline(rto, 3*rto).Sub(t.now); d != rto {
		t.Errorf("deadline in %v", d)
	}
	t.now = t.now.Add(rto)
	t.expire()
	t.sends(1)
	if d := t.deadline(rto, 3*rto).Sub(t.now); d != 2*rto {
		t.Errorf("second deadline in %v", d)
	}
	t.now = t.now.Add(2 * rto)
	t.expire()
	t.sends(1)
	if d := t.deadline(rto, 3*rto).Sub(t.now); d != 3*rto {
		t.Errorf("third deadline in %v, want the limit", d)
	}
	t.gets(2, 0)
	t.sends(2, 3)
	if d := t.deadline(rto, 3*rto).Sub(t.now); d != rto {
		t.Errorf("deadline after an ack in %v", d)
	}
}

func TestSenderIgnores(tt *testing.T) {
	t := newSendTest(tt, 10)
	t.sends(1, 2, 3, 4)
	before := t.sender
	for _, a := range []ack{
		{first: 0},
		{first: 6, soft: []byte{1}}, // never sent
		{first: 1<<32 - 1},
	} {
		t.ack(a, 50, t.now)
		if t.sender != before {
			t.Errorf("%+v changed the sender", a)
		}
	}
	t.ack(ack{first: 2, soft: []byte{0, 1}}, 60, t.now)
	before = t.sender
	t.ack(ack{first: 2, soft: []byte{0, 0}}, 59, t.now) // overtaken
	t.ack(ack{first: 1, soft: []byte{1, 1, 1, 1}}, 61, t.now)
	if t.sender != before {
		t.Error("an old ack changed the sender")
	}
	t.ack(ack{first: 2, soft: make([]byte, 255)}, 62, t.now)
	if t.slot(3).acked {
		t.Error("the peer may take a soft ack back")
	}
}

func TestSenderRoundTrip(tt *testing.T) {
	t := newSendTest(tt, 1)
	t.sends(1)
	t.now = t.now.Add(time.Second)
	t.expire()
	t.sends(1)
	t.now = t.now.Add(30 * time.Millisecond)
	if d := t.gets(1, 2, 1); d != 30*time.Millisecond {
		t.Errorf("round trip %v, want that of the copy that was acknowledged", d)
	}
	if d := t.gets(1, 77, 1); d != 0 {
		t.Errorf("round trip %v of a packet never sent", d)
	}
}

func TestRTT(t *testing.T) {
	var r rtt
	if d := r.timeout(); d != time.Second {
		t.Errorf("first time-out %v", d)
	}
	for range 50 {
		r.sample(40 * time.Millisecond)
	}
	if d := r.timeout(); d < 240*time.Millisecond || d > 250*time.Millisecond {
		t.Errorf("time-out %v at a steady 40 ms", d)
	}
	for range 50 {
		r.sample(time.Minute)
	}
	if d := r.timeout(); d != maxRTO {
		t.Errorf("time-out %v, want at most %v", d, maxRTO)
	}
}
