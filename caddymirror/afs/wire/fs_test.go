package wire

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

var testFID = FID{536870919, 1, 1}

func TestFileRequests(t *testing.T) {
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"FetchStatus", FetchStatusRequest(testFID), "00000084 20000007 00000001 00000001"},
		{
			"FetchData64",
			FetchData64Request(FID{536870919, 2, 3}, 1<<32+5, 1<<20),
			"00010001 20000007 00000002 00000003 00000001 00000005 00000000 00100000",
		},
		{
			"InlineBulkStatus",
			InlineBulkStatusRequest([]FID{testFID, {536870919, 4, 9}}),
			"00010000 00000002 20000007 00000001 00000001 20000007 00000004 00000009",
		},
		{"GetVolumeStatus", GetVolumeStatusRequest(536870919), "00000095 20000007"},
		{"GetTime", GetTimeRequest(), "00000099"},
		{"GetCapabilities", GetCapabilitiesRequest(), "00010004"},
		{"GiveUpAllCallBacks", GiveUpAllCallBacksRequest(), "00010003"},
	} {
		equalBytes(t, c.name, c.got, unhex(t, c.want))
	}
	if n := len(InlineBulkStatusRequest(make([]FID, MaxBulk))); n != 608 {
		t.Errorf("the largest InlineBulkStatus has %d bytes, want 608", n)
	}
}

const (
	testStatus = `
		00000001 00000001 00000002 0000000b  // version, file, links, length
		00000007 00000065 00000066           // data version, author, owner
		00000009 0000007f 000001a4           // access, anonymous, mode 0644
		00000003 00000005 00000001           // parent, residency
		65a0bc00 65a0bc10 00000067           // times, group
		00000000 00000001 00000000 00000002  // sync, version high, locks, length high
		00000000`
	testCallBack = "00000001 00001c20 00000002 "
	testVolSync  = "65a0bd00 " + "00000000 00000000 00000000 00000000 00000000 "
	testReply    = testStatus + "\n" + testCallBack + testVolSync
)

func wantReply() StatusReply {
	return StatusReply{
		Status: Status{
			Type:            File,
			Links:           2,
			Length:          2<<32 + 11,
			DataVersion:     1<<32 + 7,
			Author:          101,
			Owner:           102,
			Group:           103,
			CallerAccess:    AccessRead | AccessLookup,
			AnonymousAccess: 127,
			Mode:            0o644,
			ParentVnode:     3,
			ParentUnique:    5,
			ModTime:         time.Unix(0x65a0bc00, 0),
			ServerModTime:   time.Unix(0x65a0bc10, 0),
		},
		CallBack: CallBack{Expires: 2 * time.Hour, Type: 2},
		VolSync:  VolSync{Creation: 0x65a0bd00},
	}
}

func TestFetchStatus(t *testing.T) {
	b := unhex(t, testReply)
	if len(b) != 120 || FetchStatusReplySize != 120 {
		t.Fatalf("reply is %d and %d bytes, want 120", len(b), FetchStatusReplySize)
	}
	got, err := DecodeFetchStatus(b)
	if err != nil || got != wantReply() {
		t.Errorf("reply is %+v, %v, want %+v", got, err, wantReply())
	}
	cuts(t, b, func(b []byte) error { _, err := DecodeFetchStatus(b); return err })
}

func TestFetchStatusMalformed(t *testing.T) {
	for _, c := range []struct {
		off  int
		word string
		says string
	}{
		{0, "00000002", "version 2"},
		{4, "00000000", "file type 0"},
		{4, "00000004", "file type 4"},
		{76, "80000000", "length of 9223372036854775819"},
	} {
		b := unhex(t, testReply)
		copy(b[c.off:], unhex(t, c.word))
		_, err := DecodeFetchStatus(b)
		malformed(t, err, "FetchStatus reply", c.says)
	}
}

func TestFetchData64(t *testing.T) {
	for _, data := range []string{"", "x", "hello world", "hello world!"} {
		b := appendInt64(nil, int64(len(data)))
		b = append(append(b, data...), unhex(t, testReply)...)
		if len(b) != FetchData64ReplySize(len(data)) {
			t.Errorf("reply with %d bytes is of %d, want %d", len(data), len(b), FetchData64ReplySize(len(data)))
		}
		r, err := DecodeFetchData64(b)
		if err != nil || string(r.Data) != data || r.StatusReply != wantReply() {
			t.Errorf("reply with %q is %+v, %v", data, r, err)
		}
		if len(data) > 0 && &r.Data[0] != &b[8] {
			t.Error("data was copied")
		}
		cuts(t, b, func(b []byte) error { _, err := DecodeFetchData64(b); return err })
	}
	if n := FetchData64ReplySize(11); n != 139 {
		t.Errorf("reply with 11 bytes takes %d, want 139", n)
	}
}

func TestFetchData64Length(t *testing.T) {
	trailer := unhex(t, testReply)
	for _, length := range []int64{10, 12, 11 + 120, 1 << 31, 1 << 32, 1<<63 - 1, -1, -1 << 63} {
		b := append(appendInt64(nil, length), "hello world"...)
		_, err := DecodeFetchData64(append(b, trailer...))
		malformed(t, err, "FetchData64 reply", "11 are there")
	}
}

func TestInlineBulkStatus(t *testing.T) {
	b := unhex(t, "00000003"+testStatus+"\n"+
		"00000001"+words(19)+"00000066"+ // VNOVNODE
		"00000000"+words(19)+"0000006a"+ // VOFFLINE, of an old server
		"00000003"+testCallBack+words(3)+words(3)+
		testVolSync)
	if len(b) != 320 || InlineBulkStatusReplySize(3) != 320 || InlineBulkStatusReplySize(50) != 4832 {
		t.Fatalf("reply is %d and %d bytes", len(b), InlineBulkStatusReplySize(3))
	}
	got, err := DecodeInlineBulkStatus(b, 3)
	want := BulkReply{
		Statuses:  []Status{wantReply().Status, {Err: VNoVnode}, {Err: VOffline}},
		CallBacks: []CallBack{wantReply().CallBack, {}, {}},
		VolSync:   wantReply().VolSync,
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("reply is %+v, %v", got, err)
	}
	cuts(t, b, func(b []byte) error { _, err := DecodeInlineBulkStatus(b, 3); return err })

	_, err = DecodeInlineBulkStatus(b, 4)
	malformed(t, err, "3 entries, 4 were asked for")
	_, err = DecodeInlineBulkStatus(unhex(t, "00000033"), 51)
	malformed(t, err, "51 elements", "at most 50")
	_, err = DecodeInlineBulkStatus(unhex(t, "00000032"), 50)
	malformed(t, err, "50 elements, 0 bytes left")

	fewer := slices.Concat(b[:4+3*84], unhex(t, "00000002"), b[4+3*84+4+12:])
	_, err = DecodeInlineBulkStatus(fewer, 3)
	malformed(t, err, "2 entries")
}

func TestGetVolumeStatus(t *testing.T) {
	b := unhex(t, `
		20000008 20000007 00000001 00000001 00000001 00000000 00000000
		00000000 00001388 00000002 00100000 00200000
		00000003 77656200  00000000  00000002 68690000`)
	got, err := DecodeGetVolumeStatus(b)
	want := VolumeStatus{
		ID: 536870920, Parent: 536870919, Online: true, InService: true, Blessed: true, ReadOnly: true,
		MaxQuota: 5000, Used: 2, PartitionFree: 1 << 20, PartitionBlocks: 1 << 21,
		Name: "web", Motd: "hi",
	}
	if err != nil || got != want {
		t.Errorf("reply is %+v, %v", got, err)
	}
	cuts(t, b, func(b []byte) error { _, err := DecodeGetVolumeStatus(b); return err })

	rw := slices.Clone(b)
	rw[27] = 1
	if v, err := DecodeGetVolumeStatus(rw); err != nil || v.ReadOnly {
		t.Errorf("reply is %+v, %v, want a read-write volume", v, err)
	}
}

func TestGetCapabilities(t *testing.T) {
	b := unhex(t, "00000001 00000007")
	c, err := DecodeGetCapabilities(b)
	if want := CapErrorTranslation | Cap64BitFiles | CapWriteLockACL; err != nil || c != want {
		t.Errorf("capabilities are %x, %v", c, err)
	}
	cuts(t, b, func(b []byte) error { _, err := DecodeGetCapabilities(b); return err })

	if c, err := DecodeGetCapabilities(unhex(t, "00000002 00000001 ffffffff")); c != 1 || err != nil {
		t.Errorf("of two words, capabilities are %x, %v", c, err)
	}
	if c, err := DecodeGetCapabilities(unhex(t, "00000000")); c != 0 || err != nil {
		t.Errorf("of no words, capabilities are %x, %v", c, err)
	}
	_, err = DecodeGetCapabilities(unhex(t, "000000c5"+words(197)))
	malformed(t, err, "197")
}

func TestGetTime(t *testing.T) {
	b := unhex(t, "65a0bd00 0007a120")
	got, err := DecodeGetTime(b)
	if err != nil || !got.Equal(time.Unix(0x65a0bd00, 5e8)) {
		t.Errorf("time is %v, %v", got, err)
	}
	cuts(t, b, func(b []byte) error { _, err := DecodeGetTime(b); return err })
	_, err = DecodeGetTime(unhex(t, "65a0bd00 000f4240"))
	malformed(t, err, "1000000 microseconds")
}

func TestIsMountPoint(t *testing.T) {
	for _, c := range []struct {
		s    Status
		want bool
	}{
		{Status{Type: Symlink, Mode: 0o644}, true},
		{Status{Type: Symlink, Mode: 0o755}, false},
		{Status{Type: Symlink, Mode: 0o777}, false},
		{Status{Type: Symlink, Mode: 0o645}, false},
		{Status{Type: File, Mode: 0o644}, false},
		{Status{Type: Directory, Mode: 0o644}, false},
	} {
		if got := c.s.IsMountPoint(); got != c.want {
			t.Errorf("%v of mode %o is a mount point: %v", c.s.Type, c.s.Mode, got)
		}
	}
}

func TestFileStrings(t *testing.T) {
	for got, want := range map[string]string{
		Root(536870919).String():                 "536870919.1.1",
		Access(127).String():                     "rlidwka",
		(AccessRead | AccessLookup).String():     "rl",
		Access(0).String():                       "",
		Symlink.String():                         "symlink",
		FileType(9).String():                     "file type 9",
		VolSync{}.Time().Format(time.DateOnly):   "0001-01-01",
		VolSync{1}.Time().UTC().Format("2006-1"): "1970-1",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func FuzzFileReplies(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(unhex(f, testReply))
	f.Add(slices.Concat(appendInt64(nil, 11), []byte("hello world"), unhex(f, testReply)))
	f.Add(unhex(f, "00000001"+testStatus+"\n00000001"+testCallBack+testVolSync))
	f.Add(unhex(f, "00000001 00000007"))
	f.Add(unhex(f, words(12)+"00000003 77656200 00000000 00000002 68690000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeFetchStatus(b); err == nil && (len(b) != 120 || r.Status.Length < 0) {
			t.Errorf("status of %d bytes: %+v", len(b), r)
		}
		if r, err := DecodeFetchData64(b); err == nil && FetchData64ReplySize(len(r.Data)) != len(b) {
			t.Errorf("data of %d bytes: %+v", len(b), r)
		}
		for _, n := range []int{1, 3, MaxBulk} {
			r, err := DecodeInlineBulkStatus(b, n)
			if err == nil && (len(r.Statuses) != n || len(r.CallBacks) != n || len(b) != InlineBulkStatusReplySize(n)) {
				t.Errorf("bulk of %d bytes: %+v", len(b), r)
			}
		}
		if _, err := DecodeGetVolumeStatus(b); err == nil && len(b) > GetVolumeStatusReplySize {
			t.Errorf("volume status of %d bytes", len(b))
		}
		if _, err := DecodeGetCapabilities(b); err == nil && len(b) > GetCapabilitiesReplySize {
			t.Errorf("capabilities of %d bytes", len(b))
		}
		if _, err := DecodeGetTime(b); err == nil && len(b) != GetTimeReplySize {
			t.Errorf("time of %d bytes", len(b))
		}
	})
}
