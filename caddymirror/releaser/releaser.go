// Package releaser makes the state of a tree the one that is served.
//
// Releasers are Caddy modules of the namespace mirror.releasers.
package releaser

import (
	"context"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Releaser publishes trees.
type Releaser interface {
	// Release publishes the state of the tree. It reports false if there was nothing
	// to publish. After an error what was published before is still served, unless the
	// error says otherwise.
	Release(ctx context.Context, r *step.Run) (released bool, err error)

	// Targets names what is published, as "dir:/srv/mirror" or "afs:CELL:VOLUME". No
	// two jobs may have one in common.
	Targets() []string

	// Lane names the queue in which releases wait for each other, as "afs:CELL". It
	// is empty for those that need not wait, or see to it themselves.
	Lane() string
}
