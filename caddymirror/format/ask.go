package format

// Asker is a [Format] that says how HTTP upstreams are asked. By default they are asked for
// what the client accepts, in gzip.
type Asker interface {
	// Ask is what an upstream is asked for in place of accept, which is the client's Accept
	// field, by the name of the object. encoding is the Accept-Encoding, and depends on the
	// name only. Fields that mean the same should become the same: each that differs may be
	// a variant of its own.
	Ask(name, accept string) (as, encoding string)
}
