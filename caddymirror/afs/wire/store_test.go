package wire

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestStoreRequests(t *testing.T) {
	mode := StoreStatus{Mode: new(uint32(0o644))}
	all := StoreStatus{
		ModTime: time.Unix(0x65a0bc00, 5),
		Owner:   new(uint32(101)),
		Group:   new(uint32(0)),
		Mode:    new(uint32(0o755)),
		Sync:    true,
	}
	const (
		fid     = "20000007 00000001 00000001"
		other   = "20000007 00000003 00000009"
		none    = "00000000 00000000 00000000 00000000 00000000 00000000"
		onlyMod = "00000008 00000000 00000000 00000000 000001a4 00000000"
		allSet  = "0000040f 65a0bc00 00000065 00000000 000001ed 00000000"
	)
	for _, c := range []struct {
		name string
		got  []byte
		want string
	}{
		{"CreateFile", CreateFileRequest(testFID, "a.txt", mode), "00000089" + fid + "00000005 612e7478 74000000" + onlyMod},
		{"MakeDir", MakeDirRequest(testFID, "dir", all), "0000008d" + fid + "00000003 64697200" + allSet},
		{
			"Symlink", SymlinkRequest(testFID, "m", "#vol.", mode),
			"0000008b" + fid + "00000001 6d000000 00000005 23766f6c 2e000000" + onlyMod,
		},
		{
			"StoreData64", StoreData64Request(testFID, StoreStatus{}, 1<<32, []byte("hello"), 1<<32+5),
			"00010002" + fid + none + "00000001 00000000 00000000 00000005 00000001 00000005 68656c6c6f",
		},
		{"StoreStatus", StoreStatusRequest(testFID, mode), "00000087" + fid + onlyMod},
		{"RemoveFile", RemoveFileRequest(testFID, "m"), "00000088" + fid + "00000001 6d000000"},
		{"RemoveDir", RemoveDirRequest(testFID, "m"), "0000008e" + fid + "00000001 6d000000"},
		{
			"Rename", RenameRequest(testFID, "a", FID{536870919, 3, 9}, "b"),
			"0000008a" + fid + "00000001 61000000" + other + "00000001 62000000",
		},
		{
			"Link", LinkRequest(testFID, "b", FID{536870919, 3, 9}),
			"0000008c" + fid + "00000001 62000000" + other,
		},
		{"FetchACL", FetchACLRequest(testFID), "00000083" + fid},
		{
			"StoreACL", StoreACLRequest(testFID, ACL{Positive: []ACE{{"u", 127}}}),
			"00000086" + fid + "0000000b 310a300a 75093132 370a0000",
		},
	} {
		equalBytes(t, c.name, c.got, unhex(t, c.want))
	}
}

func TestStoreReplies(t *testing.T) {
	want := wantReply()
	fid := unhex(t, "20000007 00000003 00000009")
	status, callBack, volSync := unhex(t, testStatus), unhex(t, testCallBack), unhex(t, testVolSync)

	made := slices.Concat(fid, status, status, callBack, volSync)
	wantMade := MadeReply{FID{536870919, 3, 9}, want.Status, want.Status, want.CallBack, want.VolSync}
	for _, decode := range []func([]byte) (MadeReply, error){DecodeCreateFile, DecodeMakeDir} {
		if got, err := decode(made); err != nil || got != wantMade || len(made) != MadeReplySize {
			t.Errorf("reply is %+v, %v", got, err)
		}
		cuts(t, made, func(b []byte) error { _, err := decode(b); return err })
	}

	symlink := slices.Concat(fid, status, status, volSync)
	wantMade.CallBack = CallBack{}
	if got, err := DecodeSymlink(symlink); err != nil || got != wantMade || len(symlink) != SymlinkReplySize {
		t.Errorf("reply is %+v, %v", got, err)
	}
	cuts(t, symlink, func(b []byte) error { _, err := DecodeSymlink(b); return err })

	stored := slices.Concat(status, volSync)
	wantStored := StoredReply{want.Status, want.VolSync}
	if got, err := DecodeStored(stored); err != nil || got != wantStored || len(stored) != StoredReplySize {
		t.Errorf("reply is %+v, %v", got, err)
	}
	cuts(t, stored, func(b []byte) error { _, err := DecodeStored(b); return err })

	renamed := slices.Concat(status, status, volSync)
	for _, decode := range []func([]byte) (Status, Status, VolSync, error){DecodeRename, DecodeLink} {
		s1, s2, v, err := decode(renamed)
		if err != nil || s1 != want.Status || s2 != want.Status || v != want.VolSync || len(renamed) != RenamedReplySize {
			t.Errorf("reply is %+v, %+v, %v, %v", s1, s2, v, err)
		}
		cuts(t, renamed, func(b []byte) error { _, _, _, err := decode(b); return err })
	}
}

func TestACL(t *testing.T) {
	acl := ACL{
		Positive: []ACE{{AnyUser, AccessRead | AccessLookup}, {"system:administrators", 127}},
		Negative: []ACE{{"mallory", AccessRead}},
	}
	const text = "2\n1\nsystem:anyuser\t9\nsystem:administrators\t127\nmallory\t1\n"
	if got := acl.String(); got != text {
		t.Errorf("list is %q", got)
	}
	for _, s := range []string{text, text + "\x00"} {
		b := slices.Concat(appendString(nil, s), unhex(t, testStatus), unhex(t, testVolSync))
		got, r, err := DecodeFetchACL(b)
		if err != nil || !reflect.DeepEqual(got, acl) || r != (StoredReply{wantReply().Status, wantReply().VolSync}) {
			t.Errorf("list is %+v, %+v, %v", got, r, err)
		}
		cuts(t, b, func(b []byte) error { _, _, err := DecodeFetchACL(b); return err })
	}
	if got, err := parseACL("0\n0\n"); err != nil || !reflect.DeepEqual(got, ACL{}) {
		t.Errorf("empty list is %+v, %v", got, err)
	}
	for _, s := range []string{"", "1\n", "1\n0\n", "0\n0\nx\t1\n", "-1\n0\n", "x\n0\n", "1\n0\nu 127\n", "1\n0\nu\tx\n", "65535\n65535\n"} {
		if got, err := parseACL(s); err == nil {
			t.Errorf("%q is %+v", s, got)
		}
	}
}

func FuzzStoreReplies(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(unhex(f, words(3)+testStatus+"\n"+testStatus+"\n"+testCallBack+testVolSync))
	f.Add(unhex(f, testStatus+"\n"+testVolSync))
	f.Add(unhex(f, testStatus+"\n"+testStatus+"\n"+testVolSync))
	f.Add(slices.Concat(appendString(nil, "1\n0\nu\t127\n"), unhex(f, testStatus), unhex(f, testVolSync)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := DecodeCreateFile(b); err == nil && len(b) != MadeReplySize {
			t.Errorf("%d bytes: %+v", len(b), r)
		}
		if r, err := DecodeSymlink(b); err == nil && len(b) != SymlinkReplySize {
			t.Errorf("%d bytes: %+v", len(b), r)
		}
		if r, err := DecodeStored(b); err == nil && len(b) != StoredReplySize {
			t.Errorf("%d bytes: %+v", len(b), r)
		}
		if _, _, _, err := DecodeRename(b); err == nil && len(b) != RenamedReplySize {
			t.Errorf("%d bytes", len(b))
		}
		if acl, _, err := DecodeFetchACL(b); err == nil {
			again, err := parseACL(acl.String())
			if err != nil || !reflect.DeepEqual(again, acl) || len(b) > FetchACLReplySize {
				t.Errorf("%d bytes: %+v, again %+v, %v", len(b), acl, again, err)
			}
		}
	})
}
