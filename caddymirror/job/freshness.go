package job

import (
	"context"
	"slices"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// lookTime is how long looking at the copies may take.
const lookTime = 30 * time.Second

// freshness is how new the data are at each stage of their way: upstream, where they
// are written, and where they are served from.
type freshness struct {
	upstream time.Time // zero: not known
	seen     time.Time // up to when the tree has what upstream had; zero: it was not seen
	serial   int64     // of upstream; zero: not known
	synced   time.Time // when the tree was brought up to date; zero: it was not
	copies   []releaser.Copy
	notes    map[string]string
}

// look sees how new the data are at the end of a run.
func (x *execution) look(ctx context.Context, run *step.Run) {
	x.fresh.upstream, x.fresh.serial, x.fresh.notes = run.Upstream, run.Serial, run.Notes
	if ctx.Err() != nil {
		return // the server is ended
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	for _, rel := range x.j.releases {
		if k, ok := rel.(releaser.Keeper); ok {
			x.fresh.copies = append(x.fresh.copies, k.Copies(ctx)...)
		}
	}
	// Of a tree that is no volume, nobody else knows.
	written := slices.ContainsFunc(x.fresh.copies, func(c releaser.Copy) bool { return c.Stage == releaser.ReadWrite })
	if x.j.Directory != "" && !written {
		tree := releaser.Copy{Target: "dir:" + x.j.Directory, Stage: releaser.ReadWrite, At: x.fresh.synced}
		x.fresh.copies = slices.Insert(x.fresh.copies, 0, tree)
	}
}

// note notes what the last run has seen. What could not be looked at is as it was.
func (s *state) note(f freshness) {
	if !f.upstream.IsZero() {
		s.Upstream = f.upstream
	}
	if !f.seen.IsZero() {
		s.Seen = f.seen
	}
	if f.serial != 0 {
		s.Serial = f.serial
	}
	if f.copies != nil {
		s.Copies = merge(s.Copies, f.copies)
	}
}

// merge takes from old what is not known any more.
func merge(old, now []releaser.Copy) []releaser.Copy {
	var merged []releaser.Copy
	for _, c := range now {
		known := slices.DeleteFunc(slices.Clone(old), func(o releaser.Copy) bool {
			return o.Target != c.Target || c.Site != "" && (o.Site != c.Site || o.Stage != c.Stage)
		})
		switch {
		case c.Site == "" && c.Error != "" && len(known) > 0: // nothing is known of any site
			for _, o := range known {
				o.Error = c.Error
				merged = append(merged, o)
			}
			continue
		case c.At.IsZero() && len(known) > 0:
			c.At = known[0].At
		}
		merged = append(merged, c)
	}
	return merged
}

// oldest is how old the data are at a stage: where there are several copies, that of
// the oldest that are known.
func oldest(copies []releaser.Copy, stage string) (t time.Time) {
	for _, c := range copies {
		if c.Stage == stage && !c.At.IsZero() && (t.IsZero() || c.At.Before(t)) {
			t = c.At
		}
	}
	return t
}
