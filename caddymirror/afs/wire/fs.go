package wire

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// Opcodes of the file server's service.
const (
	opFetchStatus        = 132
	opGetVolumeStatus    = 149
	opGetTime            = 153
	opInlineBulkStatus   = 65536
	opFetchData64        = 65537
	opGiveUpAllCallBacks = 65539
	opGetCapabilities    = 65540
)

const (
	statusSize   = 21 * 4
	callBackSize = 3 * 4
	volSyncSize  = 6 * 4

	maxName   = 256  // of volumes and files
	maxOpaque = 1024 // of messages
	maxCaps   = 196
)

// MaxBulk is how many files one InlineBulkStatus may ask for.
const MaxBulk = 50

// FID names a file within a cell.
type FID struct {
	Volume, Vnode, Unique uint32
}

// Root is the root directory of a volume.
func Root(volume uint32) FID { return FID{volume, 1, 1} }

// IsVolume says whether a callback that names f means the whole volume.
func (f FID) IsVolume() bool { return f.Vnode == 0 && f.Unique == 0 }

// String is the usual form, volume.vnode.unique.
func (f FID) String() string { return fmt.Sprintf("%d.%d.%d", f.Volume, f.Vnode, f.Unique) }

func (d *decoder) fid() FID { return FID{d.u32(), d.u32(), d.u32()} }

func appendFID(b []byte, f FID) []byte { return appendWords(b, f.Volume, f.Vnode, f.Unique) }

// FileType is what a file is. A mount point is a Symlink, see
// [Status.IsMountPoint].
type FileType uint32

// File types.
const (
	File      FileType = 1
	Directory FileType = 2
	Symlink   FileType = 3
)

func (t FileType) String() string {
	switch t {
	case File:
		return "file"
	case Directory:
		return "directory"
	case Symlink:
		return "symlink"
	}
	return fmt.Sprintf("file type %d", uint32(t))
}

// Access is what a user may do with a file.
type Access uint32

// Rights of an access control list. Lookup, insert and delete are about the
// entries of a directory.
const (
	AccessRead       Access = 1
	AccessWrite      Access = 2
	AccessInsert     Access = 4
	AccessLookup     Access = 8
	AccessDelete     Access = 16
	AccessLock       Access = 32
	AccessAdminister Access = 64
)

// String writes the rights like the fs command does: "rl", "rlidwka".
func (a Access) String() string {
	var s strings.Builder
	for _, r := range []struct {
		bit  Access
		char byte
	}{
		{AccessRead, 'r'},
		{AccessLookup, 'l'},
		{AccessInsert, 'i'},
		{AccessDelete, 'd'},
		{AccessWrite, 'w'},
		{AccessLock, 'k'},
		{AccessAdminister, 'a'},
	} {
		if a&r.bit != 0 {
			s.WriteByte(r.char)
		}
	}
	return s.String()
}

// Status is what a file server knows of a file (AFSFetchStatus).
type Status struct {
	Type  FileType
	Links uint32

	// Length in bytes.
	Length int64

	// DataVersion goes up with every change of the contents. With the FID it
	// names them: equal versions are equal bytes, across releases, too.
	DataVersion uint64

	Author, Owner, Group uint32

	// CallerAccess and AnonymousAccess are what the caller, and what anyone, may
	// do with the file.
	CallerAccess, AnonymousAccess Access

	// Mode has the 12 permission bits of Unix. File servers heed only the
	// owner's.
	Mode uint32

	// ParentVnode and ParentUnique name the containing directory; for a directory
	// they name itself, see [Dir.Parent].
	ParentVnode, ParentUnique uint32

	// ModTime is the modification time as the writer gave it, ServerModTime when
	// the server saw it. Whole seconds.
	ModTime, ServerModTime time.Time

	// Err is why InlineBulkStatus says nothing of this file: all else is zero
	// then. Otherwise it is 0.
	Err Code
}

// IsMountPoint says whether the file is a symbolic link that stands for the root
// of a volume. [ParseMount] reads its contents.
func (s Status) IsMountPoint() bool { return s.Type == Symlink && s.Mode&0o111 == 0 }

func (d *decoder) status() Status {
	version := d.u32()
	s := Status{Type: FileType(d.u32()), Links: d.u32()}
	length, dataVersion := uint64(d.u32()), uint64(d.u32())
	s.Author, s.Owner = d.u32(), d.u32()
	s.CallerAccess, s.AnonymousAccess = Access(d.u32()), Access(d.u32())
	s.Mode = d.u32()
	s.ParentVnode, s.ParentUnique = d.u32(), d.u32()
	d.skip(4) // residency
	s.ModTime, s.ServerModTime = d.time(), d.time()
	s.Group = d.u32()
	d.skip(4) // sync counter
	dataVersion |= uint64(d.u32()) << 32
	d.skip(4) // locks
	length |= uint64(d.u32()) << 32
	s.Length, s.DataVersion = int64(length), dataVersion
	s.Err = Code(d.u32())

	switch {
	case d.err != nil:
		return Status{}
	case s.Err != 0:
		return Status{Err: s.Err}
	case version != 1:
		d.fail("status of version %d, 1 is known", version)
	case s.Type < File || s.Type > Symlink:
		d.fail("status of %v", s.Type)
	case length > math.MaxInt64:
		d.fail("status with a length of %d", length)
	}
	return s
}

// CallBack is the promise of a file server to tell when a file changes.
type CallBack struct {
	// Expires is how long after the reply the promise ends.
	Expires time.Duration

	// Type is 2 (shared) for promises, 3 (dropped) for promises taken back.
	Type uint32
}

func (d *decoder) callBack() CallBack {
	d.skip(4) // version
	return CallBack{Expires: time.Duration(d.u32()) * time.Second, Type: d.u32()}
}

// VolSync is what a reply says of the volume.
type VolSync struct {
	// Creation of the volume, in seconds since 1970. For a read-only volume that
	// is when the release was cut that answered: the same at all sites of one
	// release. 0 if not said.
	Creation uint32
}

// Time of the creation, zero if not said.
func (v VolSync) Time() time.Time { return date(v.Creation) }

func (d *decoder) volSync() VolSync {
	v := VolSync{Creation: d.u32()}
	d.skip(volSyncSize - 4)
	return v
}

// FetchStatusReplySize is the size of the reply to FetchStatus.
const FetchStatusReplySize = statusSize + callBackSize + volSyncSize

// FetchStatusRequest asks for the status of a file.
func FetchStatusRequest(f FID) []byte { return call(opFetchStatus, f.Volume, f.Vnode, f.Unique) }

// StatusReply is the reply to FetchStatus.
type StatusReply struct {
	Status   Status
	CallBack CallBack
	VolSync  VolSync
}

func (d *decoder) statusReply() StatusReply {
	return StatusReply{d.status(), d.callBack(), d.volSync()}
}

// DecodeFetchStatus reads the reply to FetchStatus.
func DecodeFetchStatus(b []byte) (StatusReply, error) {
	d := decoder{what: "FetchStatus reply", b: b}
	r := d.statusReply()
	return r, d.end()
}

// FetchData64ReplySize is how large the reply to a FetchData64 of n bytes can get.
func FetchData64ReplySize(n int) int { return 8 + n + FetchStatusReplySize }

// FetchData64Request asks for length bytes of a file, directory or symbolic link
// from an offset on. What is past the end is not sent. A length of 0 asks for
// the status alone; offset+length must be less than 2⁶³-1.
func FetchData64Request(f FID, offset, length int64) []byte {
	b := appendFID(call(opFetchData64), f)
	return appendInt64(appendInt64(b, offset), length)
}

// DataReply is the reply to FetchData64. Data and all the rest are of one moment:
// a file server holds the volume for as long as it answers.
type DataReply struct {
	Data []byte // within the reply's buffer
	StatusReply
}

// DecodeFetchData64 reads the reply to FetchData64. Data is a part of b.
func DecodeFetchData64(b []byte) (DataReply, error) {
	d := decoder{what: "FetchData64 reply", b: b}
	n := d.u64()
	if there := uint64(max(d.rest()-FetchStatusReplySize, 0)); d.err == nil && n != there {
		d.fail("length of %d bytes, %d are there", n, there)
	}
	// Not padded: the status follows at any offset.
	r := DataReply{Data: d.take(int(n)), StatusReply: d.statusReply()}
	return r, d.end()
}

// InlineBulkStatusReplySize is the size of the reply to an InlineBulkStatus of n
// files.
func InlineBulkStatusReplySize(n int) int {
	return 4 + n*statusSize + 4 + n*callBackSize + volSyncSize
}

// InlineBulkStatusRequest asks for the status of up to [MaxBulk] files, all of one
// volume, or else it is unclear of which the VolSync is.
func InlineBulkStatusRequest(fids []FID) []byte {
	b := call(opInlineBulkStatus, uint32(len(fids)))
	for _, f := range fids {
		b = appendFID(b, f)
	}
	return b
}

// BulkReply is the reply to InlineBulkStatus. VolSync is zero when no file has a
// status.
type BulkReply struct {
	Statuses  []Status // of each file, in order; see [Status.Err]
	CallBacks []CallBack
	VolSync   VolSync
}

// DecodeInlineBulkStatus reads the reply to an InlineBulkStatus of n files. The
// reply has as many statuses and callbacks, or there is an error.
func DecodeInlineBulkStatus(b []byte, n int) (BulkReply, error) {
	d := decoder{what: "InlineBulkStatus reply", b: b}
	r := BulkReply{Statuses: make([]Status, d.bulkCount(n, statusSize))}
	for i := range r.Statuses {
		r.Statuses[i] = d.status()
	}
	r.CallBacks = make([]CallBack, d.bulkCount(n, callBackSize))
	for i := range r.CallBacks {
		r.CallBacks[i] = d.callBack()
	}
	r.VolSync = d.volSync()
	return r, d.end()
}

func (d *decoder) bulkCount(want, size int) int {
	n := d.count(MaxBulk, size)
	if d.err == nil && n != want {
		d.fail("%d entries, %d were asked for", n, want)
	}
	return n
}

// GetVolumeStatusReplySize is how large the reply to GetVolumeStatus can get.
const GetVolumeStatusReplySize = 12*4 + 3*4 + maxName + 2*maxOpaque

// GetVolumeStatusRequest asks a file server for a volume's state.
func GetVolumeStatusRequest(volume uint32) []byte { return call(opGetVolumeStatus, volume) }

// VolumeStatus is the reply to GetVolumeStatus.
type VolumeStatus struct {
	ID, Parent   uint32
	Online       bool
	InService    bool
	Blessed      bool
	NeedsSalvage bool
	ReadOnly     bool

	// Sizes in KiB. A MaxQuota of 0 is no quota.
	MinQuota, MaxQuota, Used       uint32
	PartitionFree, PartitionBlocks uint32

	Name, OfflineMessage, Motd string
}

// DecodeGetVolumeStatus reads the reply to GetVolumeStatus.
func DecodeGetVolumeStatus(b []byte) (VolumeStatus, error) {
	d := decoder{what: "GetVolumeStatus reply", b: b}
	v := VolumeStatus{
		ID:              d.u32(),
		Parent:          d.u32(),
		Online:          d.u32() != 0,
		InService:       d.u32() != 0,
		Blessed:         d.u32() != 0,
		NeedsSalvage:    d.u32() != 0,
		ReadOnly:        d.u32() == 0, // the type: 1 is read-write
		MinQuota:        d.u32(),
		MaxQuota:        d.u32(),
		Used:            d.u32(),
		PartitionFree:   d.u32(),
		PartitionBlocks: d.u32(),
		Name:            d.str(maxName),
		OfflineMessage:  d.str(maxOpaque),
		Motd:            d.str(maxOpaque),
	}
	return v, d.end()
}

// Capabilities of a file server, or of a client.
type Capabilities uint32

// Capabilities of file servers. CapErrorTranslation is one of clients, too.
const (
	CapErrorTranslation Capabilities = 1 // errors are the UAE codes, not the numbers of the server's kernel
	Cap64BitFiles       Capabilities = 2
	CapWriteLockACL     Capabilities = 4
	CapSaneACLs         Capabilities = 8
)

// GetCapabilitiesReplySize is how large the reply to GetCapabilities can get.
const GetCapabilitiesReplySize = 4 + 4*maxCaps

// GetCapabilitiesRequest asks a file server what it can do. It is the cheapest
// first call, the one during which the server gets to know its client.
func GetCapabilitiesRequest() []byte { return call(opGetCapabilities) }

// DecodeGetCapabilities reads the reply to GetCapabilities. Words after the first
// have no meaning yet and are dropped.
func DecodeGetCapabilities(b []byte) (Capabilities, error) {
	d := decoder{what: "GetCapabilities reply", b: b}
	var c Capabilities
	for i := range d.count(maxCaps, 4) {
		if w := d.u32(); i == 0 {
			c = Capabilities(w)
		}
	}
	return c, d.end()
}

// GetTimeReplySize is the size of the reply to GetTime.
const GetTimeReplySize = 8

// GetTimeRequest asks a file server for the time of day.
func GetTimeRequest() []byte { return call(opGetTime) }

// DecodeGetTime reads the reply to GetTime.
func DecodeGetTime(b []byte) (time.Time, error) {
	d := decoder{what: "GetTime reply", b: b}
	sec, usec := d.u32(), d.u32()
	if usec >= 1e6 {
		d.fail("%d microseconds", usec)
	}
	return time.Unix(int64(sec), int64(usec)*1000), d.end()
}

// GiveUpAllCallBacksRequest tells a file server to forget its promises to this
// client, as one does before it ends. The reply is empty.
func GiveUpAllCallBacksRequest() []byte { return call(opGiveUpAllCallBacks) }
