package format

import "io"

// Inspector is a [Format] that reads response fields out of objects. They are read
// once, when the object comes into the cache, and kept with it.
type Inspector interface {
	// Inspects reports whether objects of this name may have such fields.
	Inspects(name string) bool

	// Fields are an object's, by canonical name. Each read may cost a request to the
	// origin, so read only where fields are expected. Errors are those of reading: a
	// malformed object has no fields.
	Fields(name string, object io.ReaderAt, size int64) (map[string]string, error)
}
