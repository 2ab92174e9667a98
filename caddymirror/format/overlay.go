package format

import (
	"context"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// Overlay is a [Format] that answers with more than what its origin has: with files
// that it makes from those that there are. They are files of a tree that is laid
// over the origin's, so that all else (the cache, revalidation, ranges, serving what
// is stale) is as for any file.
type Overlay interface {
	// Over is the tree that is served in place of from, and has the same String: an
	// origin as from itself is, that passes on what it does not make. The Validator
	// of a file that it makes stands for all that this is made from, and for how.
	//
	// It is called for each origin of a mount when that is set up, and must neither
	// touch the origin nor keep anything then.
	Over(from origin.Origin, env Env) (origin.Origin, error)
}

// Env is what a mount lends to its format.
type Env struct {
	// Context ends with the configuration that the mount belongs to.
	Context context.Context //nolint:containedctx // a lifetime, and not a call's

	Log *zap.Logger

	// Hidden reports whether a file is answered as if it were not there, as the mount
	// is configured: there is to be no link to it.
	Hidden func(name string) bool

	// Facts belong to the format and the origin alone.
	Facts Facts
}

// Facts keeps what it costs much to find out, on disk, in the mount's cache and
// within its bounds. It outlives restarts and releases, but each fact may be gone at
// any time, and there is none before the server runs. Its methods are safe for
// concurrent use.
type Facts interface {
	// Get is the fact of this name. The value must not be changed.
	Get(name string) (value []byte, ok bool)

	// Put keeps a fact, in place of the one that was there. An error says why it is
	// not kept; the caller can go on.
	Put(name string, value []byte) error
}
