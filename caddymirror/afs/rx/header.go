package rx

import "encoding/binary"

const (
	headerSize = 28
	// maxPacket is the longest Rx packet sent or asked for, with its header:
	// what Ethernet carries after the largest headers below Rx.
	maxPacket  = 1444
	maxPayload = maxPacket - headerSize
	minPacket  = 520 // what every peer takes

	// The low bits of a cid are the channel.
	channels    = 4
	channelMask = channels - 1

	// maxWindow is the most packets Rx keeps in flight in one call.
	maxWindow = 32
)

// Packet types.
const (
	typeData    = 1
	typeAck     = 2
	typeBusy    = 3
	typeAbort   = 4
	typeAckAll  = 5
	typeVersion = 13
)

// Header flags. 0x20 is another flag on data than on acks.
const (
	flagClient  = 0x01 // the sender opened the connection
	flagRequest = 0x02 // asks for an ack at once
	flagLast    = 0x04
	flagJumbo   = 0x20 // data: more packets follow in the datagram
	flagSlow    = 0x20 // ack: slow start is understood
)

// A header starts every packet. All fields are big-endian.
type header struct {
	epoch, cid, call, seq, serial uint32
	typ, flags                    uint8
	security                      uint8
	service                       uint16
}

// parseHeader reads the header that starts b; ok is false if b is too short.
func parseHeader(b []byte) (h header, ok bool) {
	if len(b) < headerSize {
		return h, false
	}
	return header{
		epoch:    binary.BigEndian.Uint32(b[0:]),
		cid:      binary.BigEndian.Uint32(b[4:]),
		call:     binary.BigEndian.Uint32(b[8:]),
		seq:      binary.BigEndian.Uint32(b[12:]),
		serial:   binary.BigEndian.Uint32(b[16:]),
		typ:      b[20],
		flags:    b[21],
		security: b[23],
		service:  binary.BigEndian.Uint16(b[26:]),
	}, true
}

// append appends h to b. userStatus and the checksum are zero without security.
func (h *header) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, h.epoch)
	b = binary.BigEndian.AppendUint32(b, h.cid)
	b = binary.BigEndian.AppendUint32(b, h.call)
	b = binary.BigEndian.AppendUint32(b, h.seq)
	b = binary.BigEndian.AppendUint32(b, h.serial)
	b = append(b, h.typ, h.flags, 0, h.security, 0, 0)
	return binary.BigEndian.AppendUint16(b, h.service)
}

// appendAbort appends an abort of h's call with code.
func (h header) appendAbort(b []byte, code Abort) []byte {
	h.typ, h.seq = typeAbort, 0
	h.flags &= flagClient
	return binary.BigEndian.AppendUint32(h.append(b), uint32(code))
}

// abortCode reads the payload of an abort packet.
func abortCode(body []byte) (Abort, bool) {
	if len(body) < 4 {
		return 0, false
	}
	return Abort(binary.BigEndian.Uint32(body)), true
}
