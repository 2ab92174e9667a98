package wire

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Opcodes that change files. Mirrors do not call them: they are for those who fill
// volumes without a cache manager, such as tests.
const (
	opFetchACL    = 131
	opStoreACL    = 134
	opStoreStatus = 135
	opRemoveFile  = 136
	opCreateFile  = 137
	opRename      = 138
	opSymlink     = 139
	opLink        = 140
	opMakeDir     = 141
	opRemoveDir   = 142
	opStoreData64 = 65538

	maxACL = 1000
)

// StoreStatus is what is to be set of a file's status (AFSStoreStatus). Nil and
// zero fields stay as they are.
type StoreStatus struct {
	ModTime      time.Time
	Owner, Group *uint32
	Mode         *uint32 // permission bits
	Sync         bool    // on disk before the reply
}

func appendStoreStatus(b []byte, s StoreStatus) []byte {
	const (
		setModTime = 1 << iota
		setOwner
		setGroup
		setMode
		_
		sync = 1024
	)
	var w struct{ mask, modTime, owner, group, mode uint32 }
	if !s.ModTime.IsZero() {
		w.mask |= setModTime
		w.modTime = uint32(s.ModTime.Unix())
	}
	for _, f := range []struct {
		from *uint32
		to   *uint32
		mask uint32
	}{
		{s.Owner, &w.owner, setOwner},
		{s.Group, &w.group, setGroup},
		{s.Mode, &w.mode, setMode},
	} {
		if f.from != nil {
			w.mask |= f.mask
			*f.to = *f.from
		}
	}
	if s.Sync {
		w.mask |= sync
	}
	return appendWords(b, w.mask, w.modTime, w.owner, w.group, w.mode, 0)
}

// at starts the request of a change in a directory.
func at(op uint32, dir FID, name string) []byte {
	return appendString(appendFID(call(op), dir), name)
}

// MadeReplySize is the size of the replies to CreateFile and MakeDir, and
// SymlinkReplySize that to Symlink.
const (
	MadeReplySize    = 3*4 + 2*statusSize + callBackSize + volSyncSize
	SymlinkReplySize = MadeReplySize - callBackSize
)

// MadeReply is the reply to CreateFile, MakeDir and Symlink.
type MadeReply struct {
	FID         FID
	Status, Dir Status   // of the new file, and of the directory it is in
	CallBack    CallBack // none for Symlink
	VolSync     VolSync
}

// CreateFileRequest makes a new, empty file.
func CreateFileRequest(dir FID, name string, s StoreStatus) []byte {
	return appendStoreStatus(at(opCreateFile, dir, name), s)
}

// DecodeCreateFile reads the reply to CreateFile.
func DecodeCreateFile(b []byte) (MadeReply, error) { return decodeMade("CreateFile reply", b) }

// MakeDirRequest makes a new directory.
func MakeDirRequest(dir FID, name string, s StoreStatus) []byte {
	return appendStoreStatus(at(opMakeDir, dir, name), s)
}

// DecodeMakeDir reads the reply to MakeDir.
func DecodeMakeDir(b []byte) (MadeReply, error) { return decodeMade("MakeDir reply", b) }

func decodeMade(what string, b []byte) (MadeReply, error) {
	d := decoder{what: what, b: b}
	r := MadeReply{
		FID:      d.fid(),
		Status:   d.status(),
		Dir:      d.status(),
		CallBack: d.callBack(),
		VolSync:  d.volSync(),
	}
	return r, d.end()
}

// SymlinkRequest makes a symbolic link; with a mode without any x, such as 0644,
// and the text of a [Mount], a mount point.
func SymlinkRequest(dir FID, name, text string, s StoreStatus) []byte {
	return appendStoreStatus(appendString(at(opSymlink, dir, name), text), s)
}

// DecodeSymlink reads the reply to Symlink.
func DecodeSymlink(b []byte) (MadeReply, error) {
	d := decoder{what: "Symlink reply", b: b}
	r := MadeReply{FID: d.fid(), Status: d.status(), Dir: d.status(), VolSync: d.volSync()}
	return r, d.end()
}

// StoredReplySize is the size of the replies to StoreData64, StoreStatus,
// StoreACL, RemoveFile and RemoveDir.
const StoredReplySize = statusSize + volSyncSize

// StoredReply is the reply to those: the status of the file, or of the directory
// from which something was removed.
type StoredReply struct {
	Status  Status
	VolSync VolSync
}

// DecodeStored reads the reply to StoreData64, StoreStatus, StoreACL, RemoveFile
// and RemoveDir.
func DecodeStored(b []byte) (StoredReply, error) {
	d := decoder{what: "reply to a change", b: b}
	r := StoredReply{Status: d.status(), VolSync: d.volSync()}
	return r, d.end()
}

// StoreData64Request writes data at an offset of a file, and gives it a length,
// which is at least offset+len(data). The request is data with a head, so data is
// copied.
func StoreData64Request(f FID, s StoreStatus, offset int64, data []byte, length int64) []byte {
	const head = 4 + 3*4 + 6*4 + 3*8
	b := make([]byte, 0, head+len(data))
	b = appendStoreStatus(appendFID(appendWords(b, opStoreData64), f), s)
	b = appendInt64(b, offset)
	b = appendInt64(b, int64(len(data)))
	b = appendInt64(b, length)
	return append(b, data...) // not padded
}

// StoreStatusRequest changes the status of a file.
func StoreStatusRequest(f FID, s StoreStatus) []byte {
	return appendStoreStatus(appendFID(call(opStoreStatus), f), s)
}

// RemoveFileRequest removes a file, a symbolic link or a mount point.
func RemoveFileRequest(dir FID, name string) []byte { return at(opRemoveFile, dir, name) }

// RemoveDirRequest removes an empty directory.
func RemoveDirRequest(dir FID, name string) []byte { return at(opRemoveDir, dir, name) }

// RenamedReplySize is the size of the replies to Rename and Link.
const RenamedReplySize = 2*statusSize + volSyncSize

// RenameRequest moves a file within its volume, over what has the new name.
func RenameRequest(dir FID, name string, newDir FID, newName string) []byte {
	return appendString(appendFID(at(opRename, dir, name), newDir), newName)
}

// DecodeRename reads the reply to Rename: the status of either directory.
func DecodeRename(b []byte) (from, to Status, v VolSync, err error) {
	return decodeTwo("Rename reply", b)
}

// LinkRequest gives a file another name, in the directory it is in.
func LinkRequest(dir FID, name string, f FID) []byte { return appendFID(at(opLink, dir, name), f) }

// DecodeLink reads the reply to Link: the status of the file and its directory.
func DecodeLink(b []byte) (file, dir Status, v VolSync, err error) {
	return decodeTwo("Link reply", b)
}

func decodeTwo(what string, b []byte) (s1, s2 Status, v VolSync, err error) {
	d := decoder{what: what, b: b}
	s1, s2, v = d.status(), d.status(), d.volSync()
	return s1, s2, v, d.end()
}

// AnyUser is the name of everyone in access control lists.
const AnyUser = "system:anyuser"

// ACL is the access control list of a directory: rights by names of users and
// groups, given, and taken away again.
type ACL struct {
	Positive, Negative []ACE
}

// ACE is an entry of an access control list.
type ACE struct {
	Name   string
	Rights Access
}

// FetchACLReplySize is how large the reply to FetchACL can get.
const FetchACLReplySize = 4 + maxACL + StoredReplySize

// FetchACLRequest asks for the access control list of a directory.
func FetchACLRequest(dir FID) []byte { return appendFID(call(opFetchACL), dir) }

// DecodeFetchACL reads the reply to FetchACL.
func DecodeFetchACL(b []byte) (ACL, StoredReply, error) {
	d := decoder{what: "FetchACL reply", b: b}
	acl, err := parseACL(d.str(maxACL))
	if err != nil {
		d.fail("%v", err)
	}
	r := StoredReply{Status: d.status(), VolSync: d.volSync()}
	return acl, r, d.end()
}

// StoreACLRequest replaces the access control list of a directory.
func StoreACLRequest(dir FID, acl ACL) []byte {
	return appendString(appendFID(call(opStoreACL), dir), acl.String()+"\x00") // the NUL is wanted
}

// String is the list as it is sent: how many entries there are of either kind, and
// the entries, a line each.
func (a ACL) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "%d\n%d\n", len(a.Positive), len(a.Negative))
	for _, list := range [][]ACE{a.Positive, a.Negative} {
		for _, e := range list {
			fmt.Fprintf(&s, "%s\t%d\n", e.Name, uint32(e.Rights))
		}
	}
	return s.String()
}

func parseACL(s string) (ACL, error) {
	lines := strings.Split(strings.TrimRight(s, "\x00\n"), "\n")
	if len(lines) < 2 {
		return ACL{}, fmt.Errorf("access control list %q", s)
	}
	positive, err1 := strconv.ParseUint(lines[0], 10, 16)
	negative, err2 := strconv.ParseUint(lines[1], 10, 16)
	lines = lines[2:]
	if err1 != nil || err2 != nil || positive+negative != uint64(len(lines)) {
		return ACL{}, fmt.Errorf("access control list %q", s)
	}
	var acl ACL
	for i, line := range lines {
		name, rights, _ := strings.Cut(line, "\t")
		bits, err := strconv.ParseUint(rights, 10, 32)
		if err != nil {
			return ACL{}, fmt.Errorf("access control list with %q", line)
		}
		list := &acl.Positive
		if uint64(i) >= positive {
			list = &acl.Negative
		}
		*list = append(*list, ACE{name, Access(bits)})
	}
	return acl, nil
}
