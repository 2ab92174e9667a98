package wire

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
)

func TestDecodeCallBack(t *testing.T) {
	for _, c := range []struct {
		name, request string
		want          []FID
	}{
		// As a release sends it: the volume, and no promise.
		{"release", "000000cc 00000001 20000007 00000000 00000000 00000000", []FID{{536870919, 0, 0}}},
		{
			"delayed",
			`000000cc 00000002 20000007 00000004 00000005 20000007 00000006 00000007
			 00000002 00000001 00000000 00000003 00000001 00000000 00000003`,
			[]FID{{536870919, 4, 5}, {536870919, 6, 7}},
		},
		{"nothing", "000000cc 00000000 00000000", nil},
	} {
		b := unhex(t, c.request)
		if op := ReadCallbackOp(b); op != OpCallBack {
			t.Errorf("%s: opcode of %v", c.name, op)
		}
		fids, err := DecodeCallBack(b)
		if err != nil || !slices.Equal(fids, c.want) {
			t.Errorf("%s: %v, %v, want %v", c.name, fids, err, c.want)
		}
		cuts(t, b, func(b []byte) error { _, err := DecodeCallBack(b); return err })
	}
	if !(FID{5, 0, 0}).IsVolume() || (FID{5, 1, 1}).IsVolume() {
		t.Error("volumes are not told from files")
	}
}

func TestDecodeCallBackMalformed(t *testing.T) {
	most := unhex(t, "000000cc 00000032"+words(50*3)+"00000000")
	if fids, err := DecodeCallBack(most); err != nil || len(fids) != 50 {
		t.Errorf("50 files are %d, %v", len(fids), err)
	}
	for request, says := range map[string]string{
		"000000cc 00000033" + words(51*3) + "00000000":         "51 elements",
		"000000cc ffffffff":                                    "4294967295 elements",
		"000000cd 00000000 00000000":                           "InitCallBackState",
		"000000cc 00000001" + words(3) + "00000002" + words(6): "2 promises for 1 files",
	} {
		_, err := DecodeCallBack(unhex(t, request))
		malformed(t, err, "CallBack request", says)
	}
}

func TestDecodeCallbackUUID(t *testing.T) {
	const encoded = "00112233 00004455 00004677 ffffff83 ffffff99 ffffffaa 0000007b ffffffcc 0000000d ffffffee ffffffff"
	want := UUID(unhex(t, "00112233 4455 4677 83 99 aa 7b cc 0d ee ff"))
	for _, c := range []struct {
		op     string
		want   CallbackOp
		decode func([]byte) (UUID, error)
	}{
		{"000000d5", OpInitCallBackState3, DecodeInitCallBackState3},
		{"000000d6", OpProbeUUID, DecodeProbeUUID},
	} {
		b := unhex(t, c.op+encoded)
		if op := ReadCallbackOp(b); op != c.want || len(b) != 48 {
			t.Errorf("opcode of %v, %d bytes", op, len(b))
		}
		if got, err := c.decode(b); err != nil || got != want {
			t.Errorf("UUID of %v is %v, %v", c.want, got, err)
		}
		cuts(t, b, func(b []byte) error { _, err := c.decode(b); return err })
		b[3]++
		_, err := c.decode(b)
		malformed(t, err, c.want.String()+" request", "opcode of")
	}
	if op := ReadCallbackOp([]byte{0, 0, 1}); op != 0 {
		t.Errorf("opcode of three bytes is %v", op)
	}
}

func TestTellMeAboutYourself(t *testing.T) {
	u := UUID(unhex(t, "00112233 4455 4677 83 99 aa 7b cc 0d ee ff"))
	who := WhoAreYouReply(u, netip.MustParseAddr("10.77.0.20"))
	want := slices.Concat(
		unhex(t, `00000001
			00112233 00004455 00004677 ffffff83 ffffff99 ffffffaa 0000007b ffffffcc 0000000d ffffffee ffffffff`),
		unhex(t, "0a4d0014"+words(31)),
		unhex(t, "ffffffff"+words(31)),
		unhex(t, "000005dc"+words(31)))
	equalBytes(t, "reply to WhoAreYou", who, want)

	tell := TellMeAboutYourselfReply(u, netip.MustParseAddr("10.77.0.20"))
	equalBytes(t, "reply to TellMeAboutYourself", tell, append(want, 0, 0, 0, 1, 0, 0, 0, 1))
	if len(who) != 432 || len(tell) != 440 {
		t.Errorf("replies have %d and %d bytes, want 432 and 440", len(who), len(tell))
	}
}

func TestWhoAreYouAddrs(t *testing.T) {
	addrs := []netip.Addr{
		{},
		netip.MustParseAddr("2001:db8::1"),
		netip.MustParseAddr("::ffff:10.0.0.1"),
	}
	b := WhoAreYouReply(UUID{}, addrs...)
	if !bytes.Equal(b[:4], []byte{0, 0, 0, 1}) || !bytes.Equal(b[48:56], []byte{10, 0, 0, 1, 0, 0, 0, 0}) {
		t.Errorf("one IPv4 address is %x, %x", b[:4], b[48:56])
	}

	addrs = nil
	for i := range 40 {
		addrs = append(addrs, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	b = WhoAreYouReply(UUID{}, addrs...)
	if len(b) != 432 || b[3] != 32 || b[48+31*4+3] != 31 {
		t.Errorf("40 addresses become %d, in %d bytes", b[3], len(b))
	}
	if b = WhoAreYouReply(UUID{}); len(b) != 432 || b[3] != 0 {
		t.Errorf("no addresses become %d, in %d bytes", b[3], len(b))
	}
}

func FuzzCallbackRequests(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(unhex(f, "000000cc 00000001 20000007 00000000 00000000 00000000"))
	f.Add(unhex(f, "000000cc 00000001"+words(3)+"00000001"+words(3)))
	f.Add(unhex(f, "000000d5"+words(11)))
	f.Add(unhex(f, "000000d6"+words(11)))
	f.Fuzz(func(t *testing.T, b []byte) {
		op := ReadCallbackOp(b)
		if fids, err := DecodeCallBack(b); err == nil && (op != OpCallBack || len(fids) > 50) {
			t.Errorf("%v of %v", op, fids)
		}
		if u, err := DecodeProbeUUID(b); err == nil && (op != OpProbeUUID || len(b) != 48) {
			t.Errorf("%v of %v", op, u)
		}
		if u, err := DecodeInitCallBackState3(b); err == nil && (op != OpInitCallBackState3 || len(b) != 48) {
			t.Errorf("%v of %v", op, u)
		}
	})
}
