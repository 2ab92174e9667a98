package wire

import (
	"fmt"
	"strings"
)

// String names what the entry is locked for, and nothing else, in words: "move",
// "release".
func (f EntryFlags) String() string {
	return names(uint32(f&lockedMask), []flagName{
		{uint32(LockedForMove), "move"},
		{uint32(LockedForRelease), "release"},
		{uint32(LockedForBackup), "backup"},
		{uint32(LockedForDelete), "delete or other"},
		{uint32(LockedForDump), "dump"},
	})
}

// String names what is special about a site, and "-" if that is nothing: which
// volumes are there it does not say.
func (f SiteFlags) String() string {
	return names(uint32(f&(SiteNewRelease|SiteDontUse|SiteRWReplica)), []flagName{
		{uint32(SiteNewRelease), "new release"},
		{uint32(SiteDontUse), "don't use"},
		{uint32(SiteRWReplica), "RW replica"},
	})
}

type flagName struct {
	bit  uint32
	name string
}

func names(bits uint32, of []flagName) string {
	var list []string
	for _, f := range of {
		if bits&f.bit != 0 {
			list = append(list, f.name)
			bits &^= f.bit
		}
	}
	if bits != 0 {
		list = append(list, fmt.Sprintf("%#x", bits))
	}
	if len(list) == 0 {
		return "-"
	}
	return strings.Join(list, ", ")
}
