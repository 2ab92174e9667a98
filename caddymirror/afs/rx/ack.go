package rx

import "encoding/binary"

// Reasons for an ack.
const (
	reasonRequested  = 1 // a packet asked for it
	reasonDuplicate  = 2
	reasonOutOfOrder = 3 // a packet is missing before the one received
	reasonWindow     = 4 // beyond the window, dropped
	reasonPing       = 6
	reasonPingReply  = 7
	reasonDelay      = 8 // nothing else came for a while
	reasonIdle       = 9
)

const (
	ackFixed   = 18 // before the soft acks
	ackPadding = 3  // after them, always
	ackTrailer = 16
	maxAck     = headerSize + ackFixed + 255 + ackPadding + ackTrailer
)

// An ack is the payload of an ack packet. Every packet before first is
// acknowledged for good; soft[i]&1 tells whether packet first+i was received.
type ack struct {
	first  uint32
	prev   uint32 // highest packet received: never falls
	serial uint32 // of the packet that prompted the ack, or 0
	reason uint8
	soft   []byte
	// The trailer; zero where the sender left it out.
	maxMTU, ifMTU, window, jumbo uint32
}

// parseAck reads an ack. Its soft acks point into b. What follows the trailer is
// padding that probes the path's MTU.
func parseAck(b []byte) (a ack, ok bool) {
	if len(b) < ackFixed {
		return a, false
	}
	n := int(b[17])
	if len(b) < ackFixed+n {
		return a, false
	}
	a = ack{
		first:  binary.BigEndian.Uint32(b[4:]),
		prev:   binary.BigEndian.Uint32(b[8:]),
		serial: binary.BigEndian.Uint32(b[12:]),
		reason: b[16],
		soft:   b[ackFixed : ackFixed+n],
	}
	b = b[ackFixed+n:]
	for i, field := range []*uint32{&a.maxMTU, &a.ifMTU, &a.window, &a.jumbo} {
		if at := ackPadding + 4*i; len(b) >= at+4 {
			*field = binary.BigEndian.Uint32(b[at:])
		}
	}
	return a, true
}

// append appends a to b.
func (a *ack) append(b []byte) []byte {
	b = append(b, 0, 0, 0, 0) // bufferSpace and maxSkew are of the past
	b = binary.BigEndian.AppendUint32(b, a.first)
	b = binary.BigEndian.AppendUint32(b, a.prev)
	b = binary.BigEndian.AppendUint32(b, a.serial)
	b = append(b, a.reason, uint8(len(a.soft)))
	b = append(b, a.soft...)
	b = append(b, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, a.maxMTU)
	b = binary.BigEndian.AppendUint32(b, a.ifMTU)
	b = binary.BigEndian.AppendUint32(b, a.window)
	return binary.BigEndian.AppendUint32(b, a.jumbo)
}

// newAck returns an ack that says what this package always says of itself: no
// jumbograms, packets of maxPacket.
func newAck(reason uint8, serial uint32, window int) ack {
	return ack{
		reason: reason, serial: serial,
		maxMTU: maxPacket, ifMTU: maxPacket, window: uint32(window), jumbo: 1,
	}
}
