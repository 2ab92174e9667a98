package wire

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// chars is a name as the database servers send it, a word for each of n characters.
func chars(name string, n int) []byte {
	b := make([]byte, 4*n)
	for i := range name {
		b[4*i+3] = name[i]
	}
	return b
}

func TestLocationRequests(t *testing.T) {
	u := UUID(unhex(t, "00112233 4455 4677 83 99 aa 7b cc 0d ee ff"))
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"GetEntryByNameU", GetEntryByNameURequest("web"), "0000020f 00000003 77656200"},
		{"GetEntryByNameN", GetEntryByNameNRequest("web.readonly"), "00000207 0000000c 7765622e 72656164 6f6e6c79"},
		{"ProbeServer", ProbeServerRequest(), "00000202"},
		{
			"GetAddrsU", GetAddrsURequest(u),
			`00000215 00000004 00000000 00000000 00000000
			 00112233 00004455 00004677 ffffff83 ffffff99 ffffffaa 0000007b ffffffcc 0000000d ffffffee ffffffff`,
		},
		{"ListOneVolume", ListOneVolumeRequest(1, 536870919), "00000079 00000001 20000007"},
	} {
		equalBytes(t, c.name, c.got, unhex(t, c.want))
	}
	if n := len(GetAddrsURequest(u)); n != 64 {
		t.Errorf("GetAddrsU has %d bytes, want 64", n)
	}
}

// testEntryU is of a volume that is being released: the one site is new, the
// other, of a server that has no UUID yet, is old.
func testEntryU(t testing.TB) []byte {
	b := chars("web", 65)
	b = append(b, unhex(t, "00000003"+ // sites
		"00112233 00004455 00004677 ffffff83 ffffff99 ffffffaa 0000007b ffffffcc 0000000d ffffffee ffffffff"+
		"00112233 00004455 00004677 ffffff83 ffffff99 ffffffaa 0000007b ffffffcc 0000000d ffffffee ffffffff"+
		"0a4d000b"+words(10)+
		words(10*11)+
		"00000005 00000005 00000000"+words(10)+ // unique
		"00000000 00000000 0000001b"+words(10)+ // partitions
		"00000015 00000013 00000022"+words(10)+ // flags
		"20000007 20000008 00000000"+ // volumes
		"20000008 00003020"+ // clone, flags
		words(9))...)
	return b
}

func TestGetEntryByNameU(t *testing.T) {
	b := testEntryU(t)
	if len(b) != 1048 || GetEntryByNameUReplySize != 1048 {
		t.Fatalf("entry is %d and %d bytes, want 1048", len(b), GetEntryByNameUReplySize)
	}
	e, err := DecodeGetEntryByNameU(b)
	u := UUID(unhex(t, "00112233 4455 4677 83 99 aa 7b cc 0d ee ff"))
	want := Entry{
		Name:    "web",
		IDs:     [3]uint32{536870919, 536870920, 0},
		CloneID: 536870920,
		Flags:   ExistsRW | ExistsRO | LockedForRelease,
		Sites: []Site{
			{UUID: u, Unique: 5, Flags: SiteRW | SiteNewRelease | SiteUUID},
			{UUID: u, Unique: 5, Flags: SiteRO | SiteNewRelease | SiteUUID},
			{Addr: netip.MustParseAddr("10.77.0.11"), Partition: 27, Flags: SiteRO | SiteDontUse},
		},
	}
	if err != nil || !reflect.DeepEqual(e, want) {
		t.Errorf("entry is %+v, %v, want %+v", e, err, want)
	}
	if !e.Flags.Locked() || !e.Flags.Releasing() || (ExistsRW | ExistsRO).Locked() {
		t.Errorf("flags %x are locked: %v", e.Flags, e.Flags.Locked())
	}
	if f := e.Sites[2].Flags; !f.Has(ReadOnly) || f.Has(ReadWrite) || f.Has(Backup) || !f.DontUse() || f.NewRelease() {
		t.Errorf("flags %x are misread", f)
	}
	cuts(t, b, func(b []byte) error { _, err := DecodeGetEntryByNameU(b); return err })

	b[263] = 14
	_, err = DecodeGetEntryByNameU(b)
	malformed(t, err, "GetEntryByNameU reply", "14 sites", "13")
	b[260] = 0xff
	_, err = DecodeGetEntryByNameU(b)
	malformed(t, err, "sites")
}

func TestEntryName(t *testing.T) {
	for _, name := range []string{"", "a/b", "a b", "a:b", "a\x01", strings.Repeat("x", 65)} {
		b := testEntryU(t)
		copy(b, chars(name, 65))
		_, err := DecodeGetEntryByNameU(b)
		malformed(t, err, "name")
	}
	b := testEntryU(t)
	name := strings.Repeat("x", 64)
	copy(b, chars(name, 65))
	if e, err := DecodeGetEntryByNameU(b); err != nil || e.Name != name {
		t.Errorf("name is %q, %v", e.Name, err)
	}
}

func TestGetEntryByNameN(t *testing.T) {
	b := append(chars("root.cell", 65), unhex(t,
		"00000002 0a4d000b 0a4d000c"+words(11)+
			"00000000 00000001"+words(11)+
			"00000004 00000002"+words(11)+
			"20000001 20000002 20000003 00000000 00007000"+words(9))...)
	if len(b) != 476 || GetEntryByNameNReplySize != 476 {
		t.Fatalf("entry is %d and %d bytes, want 476", len(b), GetEntryByNameNReplySize)
	}
	e, err := DecodeGetEntryByNameN(b)
	want := Entry{
		Name:  "root.cell",
		IDs:   [3]uint32{536870913, 536870914, 536870915},
		Flags: ExistsRW | ExistsRO | ExistsBackup,
		Sites: []Site{
			{Addr: netip.MustParseAddr("10.77.0.11"), Flags: SiteRW},
			{Addr: netip.MustParseAddr("10.77.0.12"), Flags: SiteRO, Partition: 1},
		},
	}
	if err != nil || !reflect.DeepEqual(e, want) {
		t.Errorf("entry is %+v, %v, want %+v", e, err, want)
	}
	cuts(t, b, func(b []byte) error { _, err := DecodeGetEntryByNameN(b); return err })
}

func TestGetAddrsU(t *testing.T) {
	b := unhex(t, `
		00112233 00004455 00004677 ffffff83 ffffff99 ffffffaa 0000007b ffffffcc 0000000d ffffffee ffffffff
		00000005 00000002 00000002 0a4d000b c0a80001`)
	a, err := DecodeGetAddrsU(b)
	want := Addrs{
		UUID:   UUID(unhex(t, "00112233 4455 4677 83 99 aa 7b cc 0d ee ff")),
		Unique: 5,
		Addrs:  []netip.Addr{netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("192.168.0.1")},
	}
	if err != nil || !reflect.DeepEqual(a, want) {
		t.Errorf("addresses are %+v, %v", a, err)
	}
	cuts(t, b, func(b []byte) error { _, err := DecodeGetAddrsU(b); return err })

	_, err = DecodeGetAddrsU(unhex(t, words(13)+"10000000"))
	malformed(t, err, "GetAddrsU reply", "268435456 elements")
}

func TestListOneVolume(t *testing.T) {
	b := unhex(t, "00000001")
	b = append(b, chars("web.readonly", 32)...)
	b = append(b, unhex(t, `
		20000008 00000001 00000000 20000007 00000009 00000002 65a0bc01 // ids, status, copied
		00000001 00000000 00000000                                     // in use, salvage, destroy
		65a0bd00 65a0bd01 65a0bc00 00000000                            // created, accessed, updated, backup
		00000003 00000004 00001388 00000006                            // day use, files, quota, used
		00000007 00000008 00000009 0000000a 0000000b`)...)
	if len(b) != 224 || ListOneVolumeReplySize != 224 {
		t.Fatalf("reply is %d and %d bytes, want 224", len(b), ListOneVolumeReplySize)
	}
	v, err := DecodeListOneVolume(b)
	want := VolumeInfo{
		Name: "web.readonly", ID: 536870920, Type: ReadOnly, Parent: 536870919, Clone: 9,
		Status: VolumeOK, InUse: true,
		Created:  time.Unix(0x65a0bd00, 0),
		Copied:   time.Unix(0x65a0bc01, 0),
		Accessed: time.Unix(0x65a0bd01, 0),
		Updated:  time.Unix(0x65a0bc00, 0),
		Used:     6, MaxQuota: 5000, Files: 4, DayUse: 3, Flags: 7,
	}
	if err != nil || v != want {
		t.Errorf("volume is %+v, %v, want %+v", v, err, want)
	}
	cuts(t, b, func(b []byte) error { _, err := DecodeListOneVolume(b); return err })

	_, err = DecodeListOneVolume(unhex(t, "00000000"))
	malformed(t, err, "no volume")
	_, err = DecodeListOneVolume(unhex(t, "00000002"))
	malformed(t, err, "2 elements")
}

func TestLocationStrings(t *testing.T) {
	for got, want := range map[string]string{
		Partition(0).String():       "/vicepa",
		Partition(25).String():      "/vicepz",
		Partition(26).String():      "/vicepaa",
		Partition(255).String():     "/vicepiv",
		Partition(1 << 31).String(): "partition 2147483648",
		ReadOnly.String():           "RO",
		Backup.Suffix():             ".backup",
		VolumeType(7).String():      "volume type 7",

		(ExistsRW | LockedForRelease).String():           "release",
		(LockedForMove | LockedForDump).String():         "move, dump",
		ExistsRO.String():                                "-",
		(SiteRO | SiteNewRelease | SiteDontUse).String(): "new release, don't use",
		SiteRW.String():                                  "-",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for name, want := range map[string]VolumeType{"web": ReadWrite, "web.readonly": ReadOnly, "web.backup": Backup} {
		if base, got := SplitVolumeName(name); base != "web" || got != want {
			t.Errorf("%q is %q and %v", name, base, got)
		}
	}
}

func FuzzLocationReplies(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(testEntryU(f))
	f.Add(append(chars("web", 65), make([]byte, 476-260)...))
	f.Add(unhex(f, words(13)+"00000001 0a4d000b"))
	f.Add(append(append(unhex(f, "00000001"), chars("web", 32)...), make([]byte, 23*4)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := DecodeGetEntryByNameU(b); err == nil && (len(b) != 1048 || len(e.Sites) > 13 || e.Name == "") {
			t.Errorf("entry of %d bytes: %+v", len(b), e)
		}
		if e, err := DecodeGetEntryByNameN(b); err == nil && (len(b) != 476 || len(e.Sites) > 13 || e.Name == "") {
			t.Errorf("entry of %d bytes: %+v", len(b), e)
		}
		if a, err := DecodeGetAddrsU(b); err == nil && (len(b) > GetAddrsUReplySize || len(b) != 56+4*len(a.Addrs)) {
			t.Errorf("addresses of %d bytes: %+v", len(b), a)
		}
		if v, err := DecodeListOneVolume(b); err == nil && len(b) != ListOneVolumeReplySize {
			t.Errorf("volume of %d bytes: %+v", len(b), v)
		}
	})
}
