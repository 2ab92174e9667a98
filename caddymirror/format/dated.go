package format

import "time"

// Dated is a [Format] that knows when what it serves was published, for mounts that do not
// offer what is too young (`cooldown`): bad versions of a package are mostly found, and
// taken back, within days.
type Dated interface {
	// Published is when the version that an object belongs to was published, by the name of
	// the object and the fields of the upstream's response. ok is false if that is not known,
	// or the object belongs to no version.
	Published(name string, header map[string][]string) (at time.Time, ok bool)
}
