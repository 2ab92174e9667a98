package wire

import "time"

const (
	opListOneVolume = 121

	volumeNameChars = 32
	volumeInfoSize  = (volumeNameChars + 23) * 4
)

// ListOneVolumeReplySize is the size of the reply to ListOneVolume.
const ListOneVolumeReplySize = 4 + volumeInfoSize

// ListOneVolumeRequest asks a volume server for what it knows of a volume. If the
// volume is not on the partition, the call fails with [syscall.ENODEV].
func ListOneVolumeRequest(p Partition, volume uint32) []byte {
	return call(opListOneVolume, uint32(p), volume)
}

// VolumeOK is the status of a volume that can be used.
const VolumeOK = 2

// VolumeInfo is what a volume server knows of a volume.
type VolumeInfo struct {
	Name   string // with suffix
	ID     uint32
	Type   VolumeType
	Backup uint32
	Parent uint32 // the read-write volume
	Clone  uint32

	// Status is [VolumeOK], or a [Code] such as [VBusy].
	Status uint32

	InUse, NeedsSalvaged, BeingDeleted bool

	// Created is when the contents came to be: for a read-only volume that is
	// [VolSync.Creation], when the release was cut. Copied is when this copy was
	// made for the first time. Updated is the last change; for a read-only volume
	// the last one that was released. Zero is never.
	Created, Copied, Accessed, Updated, BackedUp time.Time

	// Sizes in KiB. A MaxQuota of 0 is no quota.
	Used, MaxQuota uint32

	Files  uint32
	DayUse uint32
	Flags  uint32
}

// DecodeListOneVolume reads the reply to ListOneVolume.
func DecodeListOneVolume(b []byte) (VolumeInfo, error) {
	d := decoder{what: "ListOneVolume reply", b: b}
	if n := d.count(1, volumeInfoSize); d.err == nil && n == 0 {
		d.fail("no volume")
	}
	v := VolumeInfo{
		Name:          d.chars(volumeNameChars),
		ID:            d.u32(),
		Type:          VolumeType(d.u32()),
		Backup:        d.u32(),
		Parent:        d.u32(),
		Clone:         d.u32(),
		Status:        d.u32(),
		Copied:        d.date(),
		InUse:         d.u32() != 0,
		NeedsSalvaged: d.u32() != 0,
		BeingDeleted:  d.u32() != 0,
		Created:       d.date(),
		Accessed:      d.date(),
		Updated:       d.date(),
		BackedUp:      d.date(),
		DayUse:        d.u32(),
		Files:         d.u32(),
		MaxQuota:      d.u32(),
		Used:          d.u32(),
		Flags:         d.u32(),
	}
	d.skip(4 * 4)
	return v, d.end()
}
