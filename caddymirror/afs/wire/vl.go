package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// Opcodes of the volume location service.
const (
	opProbeServer     = 514
	opGetEntryByNameN = 519
	opGetEntryByNameU = 527
	opGetAddrsU       = 533

	maxSites       = 13 // of an entry; the arrays always have that many
	entryNameChars = 65
	entrySpares    = 9 * 4
	maxAddrs       = 256 // of a server; real ones have up to 15
	addrsByUUID    = 4
)

// VolumeType is one of the three volumes an entry of the volume location
// database is about.
type VolumeType uint32

// Volume types.
const (
	ReadWrite VolumeType = 0
	ReadOnly  VolumeType = 1
	Backup    VolumeType = 2
)

func (t VolumeType) String() string {
	switch t {
	case ReadWrite:
		return "RW"
	case ReadOnly:
		return "RO"
	case Backup:
		return "BK"
	}
	return fmt.Sprintf("volume type %d", uint32(t))
}

// Suffix is what the names of volumes of the type end in: "", ".readonly" or
// ".backup".
func (t VolumeType) Suffix() string {
	switch t {
	case ReadOnly:
		return ".readonly"
	case Backup:
		return ".backup"
	case ReadWrite:
	}
	return ""
}

// SplitVolumeName cuts the suffix off a volume's name.
func SplitVolumeName(name string) (base string, t VolumeType) {
	for _, t := range []VolumeType{ReadOnly, Backup} {
		if base, ok := strings.CutSuffix(name, t.Suffix()); ok {
			return base, t
		}
	}
	return name, ReadWrite
}

// EntryFlags say which volumes an entry has, and who works on it.
type EntryFlags uint32

// Flags of an entry. The lower ones name what it is locked for.
const (
	LockedForMove    EntryFlags = 0x10
	LockedForRelease EntryFlags = 0x20
	LockedForBackup  EntryFlags = 0x40
	LockedForDelete  EntryFlags = 0x80 // or by hand (vos lock), or for anything else
	LockedForDump    EntryFlags = 0x100
	ExistsRW         EntryFlags = 0x1000
	ExistsRO         EntryFlags = 0x2000
	ExistsBackup     EntryFlags = 0x4000

	lockedMask = LockedForMove | LockedForRelease | LockedForBackup | LockedForDelete | LockedForDump
)

// Locked says whether an operation on the volume is under way, or was broken off.
func (f EntryFlags) Locked() bool { return f&lockedMask != 0 }

// Releasing says whether the volume is being released, or a release broke off.
func (f EntryFlags) Releasing() bool { return f&LockedForRelease != 0 }

// SiteFlags say what is at a site.
type SiteFlags uint32

// Flags of a site.
const (
	SiteNewRelease SiteFlags = 0x01 // has the release under way already
	SiteRO         SiteFlags = 0x02
	SiteRW         SiteFlags = 0x04
	SiteBackup     SiteFlags = 0x08
	SiteUUID       SiteFlags = 0x10 // the server is named by its UUID
	SiteDontUse    SiteFlags = 0x20 // not there yet, old, or being written
	SiteRWReplica  SiteFlags = 0x40
)

// Has says whether a volume of the type is at the site.
func (f SiteFlags) Has(t VolumeType) bool {
	switch t {
	case ReadWrite:
		return f&SiteRW != 0
	case ReadOnly:
		return f&SiteRO != 0
	case Backup:
		return f&SiteBackup != 0
	}
	return false
}

// DontUse says that the volume at the site must not be read.
func (f SiteFlags) DontUse() bool { return f&SiteDontUse != 0 }

// NewRelease says that the site has the release that is under way already.
func (f SiteFlags) NewRelease() bool { return f&SiteNewRelease != 0 }

// Partition is a number of a server's partition.
type Partition uint32

// String is the partition's mount point: /vicepa is 0, /vicepaa is 26.
func (p Partition) String() string {
	switch {
	case p < 26:
		return "/vicep" + string(rune('a'+p))
	case p < 26+26*26:
		p -= 26
		return "/vicep" + string(rune('a'+p/26)) + string(rune('a'+p%26))
	}
	return fmt.Sprintf("partition %d", uint32(p))
}

// Entry is what the volume location database knows of a volume and its copies.
type Entry struct {
	Name string // without suffix

	// IDs of the volumes by [VolumeType]. One that is not 0 may still not exist:
	// Flags say which do.
	IDs [3]uint32

	// CloneID is of the clone from which an unfinished release is made.
	CloneID uint32

	Flags EntryFlags
	Sites []Site
}

// Site is a place with volumes of an entry.
type Site struct {
	// UUID of the server, zero if it has none yet; then Addr is its address.
	UUID UUID
	Addr netip.Addr

	// Unique changes with the server's addresses. 0 if not said.
	Unique uint32

	Partition Partition
	Flags     SiteFlags
}

// GetEntryByNameUReplySize is the size of the reply to GetEntryByNameU.
const GetEntryByNameUReplySize = entryNameChars*4 + 4 + maxSites*(uuidSize+3*4) + 5*4 + entrySpares

// GetEntryByNameURequest asks for the entry of a volume by its name, with or
// without suffix, or by the decimal number of any of its volumes.
func GetEntryByNameURequest(name string) []byte { return appendString(call(opGetEntryByNameU), name) }

// DecodeGetEntryByNameU reads the reply to GetEntryByNameU.
func DecodeGetEntryByNameU(b []byte) (Entry, error) {
	d := decoder{what: "GetEntryByNameU reply", b: b}
	name, n := d.chars(entryNameChars), d.siteCount()
	var sites [maxSites]Site
	for i := range sites {
		sites[i].UUID = d.uuid()
	}
	for i := range sites {
		sites[i].Unique = d.u32()
	}
	e := d.entry(name, sites[:], n)
	for i, s := range e.Sites {
		if s.Flags&SiteUUID == 0 {
			e.Sites[i].UUID = UUID{}
			e.Sites[i].Addr = netip.AddrFrom4([4]byte(s.UUID[:4]))
		}
	}
	return e, d.end()
}

// GetEntryByNameNReplySize is the size of the reply to GetEntryByNameN.
const GetEntryByNameNReplySize = entryNameChars*4 + 4 + maxSites*3*4 + 5*4 + entrySpares

// GetEntryByNameNRequest is like [GetEntryByNameURequest], of servers that do not
// know that one ([RXGENOpcode]).
func GetEntryByNameNRequest(name string) []byte { return appendString(call(opGetEntryByNameN), name) }

// DecodeGetEntryByNameN reads the reply to GetEntryByNameN. Its sites have
// addresses and no UUIDs.
func DecodeGetEntryByNameN(b []byte) (Entry, error) {
	d := decoder{what: "GetEntryByNameN reply", b: b}
	name, n := d.chars(entryNameChars), d.siteCount()
	var sites [maxSites]Site
	for i := range sites {
		sites[i].Addr = d.addr()
	}
	e := d.entry(name, sites[:], n)
	return e, d.end()
}

func (d *decoder) siteCount() int {
	n := d.u32()
	if n > maxSites {
		d.fail("%d sites, at most %d can be", n, maxSites)
		return 0
	}
	return int(n)
}

// entry reads what the forms of an entry have in common, from the partitions on.
func (d *decoder) entry(name string, sites []Site, n int) Entry {
	for i := range sites {
		sites[i].Partition = Partition(d.u32())
	}
	for i := range sites {
		sites[i].Flags = SiteFlags(d.u32())
	}
	e := Entry{
		Name:    name,
		IDs:     [3]uint32{d.u32(), d.u32(), d.u32()},
		CloneID: d.u32(),
		Flags:   EntryFlags(d.u32()),
	}
	d.skip(entrySpares)
	switch {
	case d.err != nil:
		return Entry{}
	case !validVolumeName(name):
		d.fail("volume name %q", name)
	}
	e.Sites = append([]Site(nil), sites[:n]...)
	return e
}

func (d *decoder) addr() netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], d.u32())
	return netip.AddrFrom4(a)
}

// GetAddrsUReplySize is how large the reply to GetAddrsU can get.
const GetAddrsUReplySize = uuidSize + 3*4 + maxAddrs*4

// GetAddrsURequest asks for the addresses of a file server.
func GetAddrsURequest(u UUID) []byte {
	return appendUUID(call(opGetAddrsU, addrsByUUID, 0, 0, 0), u)
}

// Addrs is the reply to GetAddrsU.
type Addrs struct {
	UUID   UUID
	Unique uint32 // like that of [Site]: it changes with the addresses
	Addrs  []netip.Addr
}

// DecodeGetAddrsU reads the reply to GetAddrsU. The addresses are as the server
// registered them, whether they can be reached or not.
func DecodeGetAddrsU(b []byte) (Addrs, error) {
	d := decoder{what: "GetAddrsU reply", b: b}
	a := Addrs{UUID: d.uuid(), Unique: d.u32()}
	d.skip(4) // the number of addresses, which comes once more
	a.Addrs = make([]netip.Addr, d.count(maxAddrs, 4))
	for i := range a.Addrs {
		a.Addrs[i] = d.addr()
	}
	return a, d.end()
}

// ProbeServerRequest asks a volume location server whether it lives. The reply is
// empty.
func ProbeServerRequest() []byte { return call(opProbeServer) }
