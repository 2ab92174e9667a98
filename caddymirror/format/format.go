// Package format knows what the paths of a repository mean: whether an object may
// change, and how a name is answered.
//
// Formats are Caddy modules of the namespace mirror.formats. Each is a [Format];
// those that can do more are a [Planner], an [Inspector] or an [Overlay], too.
package format

// Class says whether an object may change.
type Class uint8

const (
	// Volatile objects may change with every release of their origin.
	// Whatever a format does not know is volatile.
	Volatile Class = iota

	// Immutable objects never change under their name, so an entry of one is
	// fresh for as long as it is in the cache.
	Immutable
)

func (c Class) String() string {
	if c == Immutable {
		return "immutable"
	}
	return "volatile"
}

// Format classifies the objects of one kind of repository.
type Format interface {
	// Class of the object with this name, a slash-separated path relative to
	// the mount, without a leading slash.
	Class(name string) Class
}
