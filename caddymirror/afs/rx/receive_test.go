package rx

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// Whatever the order, what arrives within the window makes the reply.
func TestReceiverOrders(t *testing.T) {
	const packets, size = 100, 10
	want := pattern(packets * size)
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		buf := make([]byte, len(want))
		in := newReceiver(buf, maxWindow)
		for step := 0; !in.done(); step++ {
			if step > 100000 {
				t.Fatal("no end")
			}
			seq := in.next + uint32(r.IntN(maxWindow+8)) - 4
			if seq == 0 || seq > packets {
				continue
			}
			had := seq < in.next || in.held[seq%maxWindow].data != nil && seq < in.next+maxWindow
			v := in.add(seq, seq == packets, want[(seq-1)*size:][:size])
			switch {
			case (v == duplicate) != had, (v == outOfRange) != (seq >= in.next+maxWindow && v != consumed && v != filledGap):
				t.Fatalf("seed %d: packet %d of next %d is %d", seed, seq, in.next, v)
			}
			soft := in.soft(nil)
			if len(soft) > maxWindow || len(soft) > 0 && (soft[0] != 0 || soft[len(soft)-1] != 1) {
				t.Fatalf("soft acks %v", soft)
			}
		}
		if in.n != len(want) || !bytes.Equal(buf, want) {
			t.Fatalf("seed %d: wrong reply", seed)
		}
	}
}

func TestReceiverVerdicts(t *testing.T) {
	in := newReceiver(make([]byte, 6), 4)
	defer in.drop()
	for i, step := range []struct {
		seq     uint32
		last    bool
		payload string
		want    verdict
	}{
		{0, false, "", nonsense},
		{1, false, "a", consumed},
		{1, false, "a", duplicate},
		{6, false, "f", outOfRange},
		{1<<32 - 1, true, "z", outOfRange},
		{5, false, "e", heldBack},
		{5, false, "e", duplicate},
		{4, true, "d", nonsense}, // the end before what came already
		{3, false, "c", heldBack},
		{2, false, "b", filledGap},
		{4, false, "dd", filledGap},
		{6, true, "ff", overflowed},
	} {
		if got := in.add(step.seq, step.last, []byte(step.payload)); got != step.want {
			t.Errorf("step %d: add(%d) = %d, want %d", i, step.seq, got, step.want)
		}
	}
	if string(in.buf) != "abcdde" {
		t.Errorf("reply %q", in.buf)
	}
}
