package job

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// knowledge is what was known of a tree before a sync.
type knowledge struct {
	// unsettled is why it may have been released otherwise than the settings say; empty
	// if it was not.
	unsettled string

	// touched is why somebody else may have written to it since the last run; empty if
	// nobody has.
	touched string
}

// known looks whether the tree is what the last run has left.
func (x *execution) known(ctx context.Context) (k knowledge) {
	x.r.mu.Lock()
	settled, settings, copies := x.r.state.Settled, x.r.state.Settings, slices.Clone(x.r.state.Copies)
	x.r.mu.Unlock()
	switch {
	case settled.IsZero():
		k.unsettled = "of its last release nothing is known"
	case settings != x.j.settings:
		k.unsettled = "its steps are configured anew"
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	for _, rel := range x.j.releases {
		keeper, ok := rel.(releaser.Keeper)
		switch {
		case ok:
			k.touched = touched(copies, keeper.Copies(ctx))
		case x.j.Exclusive:
			k.touched = "other hosts run it, too"
		}
		if k.touched != "" {
			break
		}
	}
	return k
}

// touched is why copies are not as they were when the last run ended.
func touched(old, now []releaser.Copy) string {
	for _, c := range now {
		if c.Error != "" {
			return fmt.Sprintf("%s %s: %s", c.Target, c.Site, c.Error)
		}
		if c.Stage != releaser.ReadWrite {
			continue
		}
		same := func(o releaser.Copy) bool {
			return o.Target == c.Target && o.Site == c.Site && o.Stage == c.Stage && o.At.Equal(c.At)
		}
		if !slices.ContainsFunc(old, same) {
			return fmt.Sprintf("%s was written to at %s", c.Target, c.At.Local().Format(time.DateTime))
		}
	}
	return ""
}

// count takes what a sync has brought into the backlog, however it ended.
func (x *execution) count(ctx context.Context, run *step.Run) {
	names, more := run.Changes.Names()
	urgent, err := x.j.ReleaseWhen.urgent(ctx, names)
	if err != nil {
		x.j.log.Warn("it is not known which changes are urgent", zap.Error(err))
	}
	now := time.Now().Round(0)
	x.r.update(func() {
		s := &x.r.state
		s.Syncing = false
		s.Backlog = s.Backlog.with(run, now)
		if b := s.Backlog; b != nil {
			for _, name := range urgent {
				if !slices.Contains(b.Urgent, name) {
					b.Urgent = append(b.Urgent, name)
				}
			}
			b.Uncounted = b.Uncounted || more > 0 || err != nil
		}
	})
}

// decision is what to do with a tree that a sync has brought up to date.
type decision struct {
	release bool
	waits   bool // there is something to release, and not yet
	stamp   bool // there is something in the release that the sync has not told of
	why     string
}

// decide decides whether the tree is released now, and notes what waits.
func (x *execution) decide(ctx context.Context, run *step.Run, known knowledge) decision {
	x.r.mu.Lock()
	backlog, settled := x.r.state.Backlog.clone(), x.r.state.Settled
	x.r.mu.Unlock()
	now := time.Now().Round(0)
	if backlog == nil && known.touched == "" && known.unsettled == "" {
		known.touched = x.differs(ctx, run)
	}
	if known.touched != "" {
		backlog = backlog.vague(now)
	}
	d := x.whether(backlog, known, settled, now)
	if d.release && backlog == nil {
		backlog = backlog.vague(now) // until all steps are taken
	}
	if backlog != nil {
		backlog.Why, backlog.Due = "", time.Time{}
		if d.waits {
			backlog.Why, backlog.Due = d.why, x.j.ReleaseWhen.due(backlog)
		}
	}
	x.r.update(func() { x.r.state.Backlog = backlog })
	switch {
	case d.release:
		x.out.note("--- to be released: %s\n", d.why)
	case d.waits:
		x.out.note("--- to be released later: %s\n", d.why)
	default:
		x.out.note("--- %s\n", d.why)
	}
	return d
}

// whether decides. Backlog is nil if the tree is what is released, but for bookkeeping.
func (x *execution) whether(backlog *Backlog, known knowledge, settled, now time.Time) decision {
	when, atLeast := x.j.ReleaseWhen, time.Duration(x.j.ReleaseAtLeast)
	switch {
	case x.request.Release:
		return decision{release: true, stamp: true, why: "it was asked for"}
	case known.unsettled != "":
		return decision{release: true, stamp: backlog != nil, why: known.unsettled}
	case atLeast > 0 && now.Sub(settled) >= atLeast:
		return decision{release: true, stamp: true, why: fmt.Sprintf("the last time was %v ago", now.Sub(settled).Round(time.Second))}
	case backlog == nil:
		return decision{why: "nothing to release"}
	case known.touched != "" && when == nil:
		return decision{release: true, stamp: true, why: known.touched}
	case when == nil:
		return decision{release: true, stamp: true, why: "there is something new"}
	case x.manual:
		return decision{release: true, stamp: true, why: "it was run by hand"}
	}
	why, holds := when.holds(backlog, now)
	return decision{release: holds, waits: !holds, stamp: holds, why: why}
}

// differs is why the tree is not what is released, by releasers that can tell.
func (x *execution) differs(ctx context.Context, run *step.Run) string {
	for _, rel := range x.j.releases {
		c, ok := rel.(releaser.Comparer)
		if !ok {
			continue
		}
		same, err := c.Same(ctx, run)
		switch {
		case err != nil:
			return "comparing with the last release: " + err.Error()
		case !same:
			return "the tree is not what is released"
		}
	}
	return ""
}
