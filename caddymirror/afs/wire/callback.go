package wire

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// CallbackOp is what a file server wants of its clients, who serve
// [ServiceCallback] where they call from.
type CallbackOp uint32

// Opcodes of the callback service. A client replies to TellMeAboutYourself,
// WhoAreYou and InitCallBackState2 as the functions here say; to CallBack, Probe,
// InitCallBackState and InitCallBackState3 with an empty reply; to ProbeUUID with
// an empty reply if the UUID is its own, or else with code 1; and to all others
// with [RXGENOpcode]. Until it has done so, file servers make its calls wait.
const (
	OpCallBack            CallbackOp = 204
	OpInitCallBackState   CallbackOp = 205
	OpProbe               CallbackOp = 206
	OpInitCallBackState2  CallbackOp = 211
	OpWhoAreYou           CallbackOp = 212
	OpInitCallBackState3  CallbackOp = 213
	OpProbeUUID           CallbackOp = 214
	OpTellMeAboutYourself CallbackOp = 65538
)

func (op CallbackOp) String() string {
	switch op {
	case OpCallBack:
		return "CallBack"
	case OpInitCallBackState:
		return "InitCallBackState"
	case OpProbe:
		return "Probe"
	case OpInitCallBackState2:
		return "InitCallBackState2"
	case OpWhoAreYou:
		return "WhoAreYou"
	case OpInitCallBackState3:
		return "InitCallBackState3"
	case OpProbeUUID:
		return "ProbeUuid"
	case OpTellMeAboutYourself:
		return "TellMeAboutYourself"
	}
	return "callback opcode " + strconv.FormatUint(uint64(op), 10)
}

// ReadCallbackOp is what a request to the callback service wants, 0 if it is too
// short to say so.
func ReadCallbackOp(request []byte) CallbackOp {
	if len(request) < 4 {
		return 0
	}
	return CallbackOp(binary.BigEndian.Uint32(request))
}

// DecodeCallBack reads a CallBack request: the files and volumes ([FID.IsVolume])
// that changed, or may have.
func DecodeCallBack(request []byte) ([]FID, error) {
	d := decoder{what: "CallBack request", b: request}
	d.op(OpCallBack)
	fids := make([]FID, d.count(MaxBulk, 3*4))
	for i := range fids {
		fids[i] = d.fid()
	}
	// Whatever the promises that come along say, they are not kept any longer.
	if n := d.count(MaxBulk, callBackSize); n != 0 && n != len(fids) {
		d.fail("%d promises for %d files", n, len(fids))
	} else {
		d.skip(n * callBackSize)
	}
	return fids, d.end()
}

// DecodeInitCallBackState3 reads an InitCallBackState3 request: the file server
// with this UUID keeps no promise it made before.
func DecodeInitCallBackState3(request []byte) (UUID, error) {
	return decodeUUID("InitCallBackState3 request", OpInitCallBackState3, request)
}

// DecodeProbeUUID reads a ProbeUuid request: a file server asks whether the client
// with this UUID is here.
func DecodeProbeUUID(request []byte) (UUID, error) {
	return decodeUUID("ProbeUuid request", OpProbeUUID, request)
}

func decodeUUID(what string, op CallbackOp, request []byte) (UUID, error) {
	d := decoder{what: what, b: request}
	d.op(op)
	u := d.uuid()
	return u, d.end()
}

func (d *decoder) op(want CallbackOp) {
	if op := CallbackOp(d.u32()); d.err == nil && op != want {
		d.fail("opcode of %v", op)
	}
}

const maxInterfaces = 32

// WhoAreYouReply is the reply to WhoAreYou and to InitCallBackState2: the UUID and
// the IPv4 addresses of the client, of which 32 have room.
func WhoAreYouReply(u UUID, addrs ...netip.Addr) []byte {
	const (
		hostMask = 0xffffffff
		mtu      = 1500
	)
	var addr, mask, mtus [maxInterfaces]uint32
	n := 0
	for _, a := range addrs {
		if a = a.Unmap(); !a.Is4() || n == maxInterfaces {
			continue
		}
		b := a.As4()
		addr[n], mask[n], mtus[n] = binary.BigEndian.Uint32(b[:]), hostMask, mtu
		n++
	}

	b := make([]byte, 0, 4+uuidSize+3*4*maxInterfaces+2*4)
	b = appendUUID(appendWords(b, uint32(n)), u)
	b = appendWords(b, addr[:]...)
	b = appendWords(b, mask[:]...)
	return appendWords(b, mtus[:]...)
}

// TellMeAboutYourselfReply is the reply to TellMeAboutYourself: that to WhoAreYou,
// and that the client understands universal error numbers.
func TellMeAboutYourselfReply(u UUID, addrs ...netip.Addr) []byte {
	return appendWords(WhoAreYouReply(u, addrs...), 1, uint32(CapErrorTranslation))
}
