package releaser

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Copy is a place where what a releaser publishes lies, or is written.
type Copy struct {
	// Target is what is published, by its name as in Targets.
	Target string `json:"target"`

	// Stage is "rw" where it is written, and "ro" where it is served from.
	Stage string `json:"stage"`

	// Site is the server and the partition, if there is more than one place.
	Site string `json:"site,omitempty"`

	// At is when it was last written, or when the release that it is of was made. It
	// is zero if that is not known.
	At time.Time `json:"at,omitzero"`

	// Error is why that cannot be told now.
	Error string `json:"error,omitempty"`
}

// Stages of copies.
const (
	ReadWrite = "rw"
	ReadOnly  = "ro"
)

// Keeper is a Releaser that knows where the copies are, and how old.
type Keeper interface {
	Releaser

	// Copies looks at all copies of all targets. Those that cannot be looked at have
	// an error.
	Copies(ctx context.Context) []Copy
}

// Misser is a Releaser that knows, without asking other hosts, whether there is no
// release at all.
type Misser interface {
	Releaser

	Missing() bool
}

// Comparer is a Releaser that can compare the tree with what it has published.
type Comparer interface {
	Releaser

	// Same reports whether they are the same, but for bookkeeping
	// ([step.Run.Bookkeeping]). It publishes nothing.
	Same(ctx context.Context, r *step.Run) (bool, error)
}

// Copies implements Keeper: the read-write volumes and their read-only sites.
func (a *AFS) Copies(ctx context.Context) []Copy {
	var copies []Copy
	for i, target := range a.Targets() {
		v, err := a.state(ctx, a.Volumes[i])
		if err != nil {
			copies = append(copies, Copy{Target: target, Stage: ReadWrite, Error: err.Error()})
			continue
		}
		for n := range v.Sites {
			if c, ok := copyAt(&v.Sites[n]); ok {
				c.Target = target
				copies = append(copies, c)
			}
		}
	}
	return copies
}

// copyAt is the copy at a site. Backup volumes are none of ours.
func copyAt(s *afs.Site) (c Copy, ok bool) {
	c.Site = s.Server + " " + s.Partition
	switch s.Type {
	case wire.ReadWrite.String():
		c.Stage = ReadWrite
	case wire.ReadOnly.String():
		c.Stage = ReadOnly
	default:
		return c, false
	}
	switch {
	case s.Info == nil:
		c.Error = s.Err.Error()
	case c.Stage == ReadWrite:
		c.At = s.Info.Updated
	default:
		c.At = s.Info.Created
	}
	if s.Info != nil && s.State() != "online" {
		c.Error = s.State()
	}
	return c, true
}

// Copies implements Keeper: the release that is served.
func (s *Snapshot) Copies(context.Context) []Copy {
	c := Copy{Target: s.Targets()[0], Stage: ReadOnly}
	current, err := s.current()
	switch {
	case err != nil:
		c.Error = err.Error()
	case current == "":
		c.Error = "there is no release yet"
	default:
		_, c.At, _ = parseName(filepath.Base(current))
	}
	return []Copy{c}
}

// Missing reports whether there is no link: never was, or somebody has removed it.
func (s *Snapshot) Missing() bool {
	_, err := os.Lstat(s.Link)
	return errors.Is(err, fs.ErrNotExist)
}

// Interface guards
var (
	_ Keeper = (*AFS)(nil)
	_ Keeper = (*Snapshot)(nil)
	_ Misser = (*Snapshot)(nil)

	_ Comparer = (*Snapshot)(nil)
)
