package wire

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
)

// UUID identifies a file server, or one run of a client, in the byte order of
// RFC 9562.
type UUID [16]byte

// NewUUID returns a random UUID (RFC 9562, version 4). A client takes a fresh
// one whenever it starts: file servers that meet a known UUID at another port
// look for it at the old one first, which can take ten seconds.
func NewUUID() UUID {
	var u UUID
	_, _ = rand.Read(u[:]) // never fails
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// IsZero says whether it is the UUID of nobody.
func (u UUID) IsZero() bool { return u == UUID{} }

const uuidSize = 11 * 4

// appendUUID writes the afsUUID: a word for each of the three times, and one for
// each byte after them, as a char with its sign.
func appendUUID(b []byte, u UUID) []byte {
	b = appendWords(b,
		binary.BigEndian.Uint32(u[0:]),
		uint32(binary.BigEndian.Uint16(u[4:])),
		uint32(binary.BigEndian.Uint16(u[6:])))
	for _, c := range u[8:] {
		b = appendWords(b, uint32(int8(c)))
	}
	return b
}

// uuid reads an afsUUID. Signs are cut off, some senders extend them.
func (d *decoder) uuid() (u UUID) {
	binary.BigEndian.PutUint32(u[0:], d.u32())
	binary.BigEndian.PutUint16(u[4:], uint16(d.u32()))
	binary.BigEndian.PutUint16(u[6:], uint16(d.u32()))
	for i := 8; i < len(u); i++ {
		u[i] = byte(d.u32())
	}
	return u
}
