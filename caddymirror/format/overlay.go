package format

import (
	"context"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// Overlay is a [Format] that makes further files from those of its origin. They are
// files of a tree that is laid over the origin's, so that all else (the cache,
// revalidation, ranges, stale answers) works as for any file.
type Overlay interface {
	// Over returns the tree that is served in place of from. It has the same String,
	// and passes on what it does not make. The Validator of a file that it makes
	// changes with all that the file is made from, and with how it is made.
	//
	// It is called for each origin of a mount when the mount is set up, and must not
	// touch the origin or write anything then.
	Over(from origin.Tree, env Env) (origin.Tree, error)
}

// Env is what a mount lends to its format.
type Env struct {
	// Context ends with the configuration that the mount belongs to.
	Context context.Context //nolint:containedctx // a lifetime, and not a call's

	Log *zap.Logger

	// Hidden reports whether the mount is configured to hide a file: no page may link
	// to it.
	Hidden func(name string) bool

	// Facts belong to the format and the origin alone.
	Facts Facts
}

// Facts keeps what is expensive to find out, on disk, in the mount's cache and
// within its bounds. It outlives restarts and releases, but each fact may be gone at
// any time, and there are none before the server runs. Its methods are safe for
// concurrent use.
type Facts interface {
	// Get is the fact of this name. The value must not be changed.
	Get(name string) (value []byte, ok bool)

	// Put keeps a fact, and replaces one of the same name. An error says why it is not
	// kept; the caller can go on.
	Put(name string, value []byte) error
}
