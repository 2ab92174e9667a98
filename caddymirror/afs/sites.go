package afs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// site is a copy of a volume.
type site struct {
	server  *server
	flags   wire.SiteFlags
	usable  bool
	atRisk  bool      // it may be the one that is being written to, or half written
	beside  bool      // it is in the partition of the read-write volume
	done    uint32    // the release that it has got under the lock that is there now
	release uint32    // last seen here
	suspect time.Time // believed only after a look at the database that began later
}

// look is a look at the database.
type look struct {
	began time.Time
	done  chan struct{}
}

// locate makes sure that what is known of the volume's sites is from a look at
// the database that began after a moment. Who comes while one is under way that
// will do waits for it.
func (v *volume) locate(ctx context.Context, after time.Time) error {
	for {
		v.mu.Lock()
		if v.began.After(after) {
			err := v.missing
			v.mu.Unlock()
			return err
		}
		l := v.looking
		if l == nil {
			l = v.beginLook()
		}
		v.mu.Unlock()
		select {
		case <-l.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		v.mu.Lock()
		ok, err := v.began.After(after), v.lastErr
		v.mu.Unlock()
		if !ok && l.began.After(after) {
			return cmp.Or(err, ErrUnavailable)
		}
	}
}

// beginLook begins a look at the database. v.mu is held, and none is under way.
func (v *volume) beginLook() *look {
	l := &look{time.Now(), make(chan struct{})}
	v.looking = l
	go v.look(l)
	return l
}

// look reads the volume's entry.
func (v *volume) look(l *look) {
	c := v.cell.c
	ctx, cancel := context.WithTimeout(c.ctx, 4*locatePatience)
	defer cancel()
	var e wire.Entry
	var sites []*site
	err := c.contained("afs look", func() (err error) {
		if e, err = v.cell.entry(ctx, v.name); err == nil {
			sites, err = v.sitesOf(ctx, e)
		}
		return err
	})
	_ = c.contained("afs look", func() error {
		for _, t := range v.endLook(l, e, sites, err) {
			t.wake()
		}
		return nil
	})
}

// endLook takes over what a look has found, and ends it. It returns the trees to
// tell of it.
func (v *volume) endLook(l *look, e wire.Entry, sites []*site, err error) (news []*Tree) {
	v.mu.Lock()
	defer v.mu.Unlock()
	defer close(l.done)
	v.looking = nil
	v.lastErr = err
	switch {
	case err == nil:
		if !slices.ContainsFunc(sites, func(s *site) bool { return s.atRisk }) {
			v.calm = l.began
		}
		news = v.relocate(e, sites)
		v.began, v.missing = l.began, nil
	case errors.Is(err, errNoVolume):
		v.began, v.missing = l.began, err
		v.sites = nil
	}
	return news
}

// sitesOf finds the sites of the volume in its entry.
func (v *volume) sitesOf(ctx context.Context, e wire.Entry) ([]*site, error) {
	if v.typ == wire.ReadOnly && (e.Flags&wire.ExistsRO == 0 || e.IDs[wire.ReadOnly] == 0) {
		return nil, fmt.Errorf("volume %s: %w", v, errNoReplica)
	}
	var sites []*site
	var errs []error
	first := firstWritten(e)
	for _, s := range e.Sites {
		if !s.Flags.Has(v.typ) {
			continue
		}
		srv, err := v.cell.at(ctx, s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		atRisk := v.typ == wire.ReadOnly && e.Flags.Releasing() && first(s)
		// A server has one copy of a volume, whatever the entry says.
		i := slices.IndexFunc(sites, func(o *site) bool { return o.server == srv })
		switch {
		case i < 0:
			sites = append(sites, &site{server: srv, flags: s.Flags, atRisk: atRisk, beside: isBeside(e, s)})
		case sites[i].flags.DontUse():
			sites[i].flags, sites[i].atRisk, sites[i].beside = s.Flags, atRisk, isBeside(e, s)
		}
	}
	if len(sites) == 0 {
		return nil, cmp.Or(errors.Join(errs...), fmt.Errorf("%w: volume %s: %w", ErrUnavailable, v, errNoSite))
	}
	renewing := slices.ContainsFunc(sites, func(s *site) bool { return !s.flags.DontUse() && s.flags.NewRelease() })
	for _, s := range sites {
		// While a release is under way, the sites that have it already are the
		// only ones that nobody is about to write to.
		s.usable = !s.flags.DontUse() && (!renewing || v.typ != wire.ReadOnly || s.flags.NewRelease())
		s.atRisk = s.atRisk && !renewing
	}
	return sites, nil
}

// firstWritten tells which sites a release writes to before the database says so:
// the one beside the read-write volume or, if there is none there, any.
func firstWritten(e wire.Entry) func(wire.Site) bool {
	beside := func(s wire.Site) bool { return isBeside(e, s) }
	if slices.ContainsFunc(e.Sites, func(s wire.Site) bool { return s.Flags.Has(wire.ReadOnly) && beside(s) }) {
		return beside
	}
	return func(wire.Site) bool { return true }
}

// isBeside reports whether a site is in the partition of the read-write volume. A
// copy there is not sent, but cloned, and has the new date only when that is done.
func isBeside(e wire.Entry, s wire.Site) bool {
	return slices.ContainsFunc(e.Sites, func(rw wire.Site) bool {
		return rw.Flags.Has(wire.ReadWrite) && rw.UUID == s.UUID && rw.Addr == s.Addr && rw.Partition == s.Partition
	})
}

// believed reports whether a site has not failed since the database was looked at.
// Until the first site has all of a release, its flags tell nothing: a look that
// finds it so clears nobody. v.mu is held.
func (v *volume) believed(s *site) bool {
	unsaid := s.atRisk && (s.done == 0 || s.done != v.release)
	if s.beside && v.calm.IsZero() {
		// Nobody has seen it fail, and a clone that is on line is a whole one.
		unsaid = false
	}
	if unsaid {
		return s.suspect.Before(v.calm)
	}
	return s.suspect.Before(v.began)
}

// relocate takes over what the database says. v.mu is held. It returns the trees
// to tell of it.
func (v *volume) relocate(e wire.Entry, sites []*site) (news []*Tree) {
	id := e.IDs[v.typ]
	if id != v.id {
		if v.id != 0 {
			v.cell.c.log.Info("AFS volume has another number", zap.Stringer("volume", v), zap.Uint32("was", v.id), zap.Uint32("is", id))
		}
		v.id, v.release, v.known, v.polled = id, 0, nil, time.Time{}
		v.sites = nil
		for t := range v.watches {
			news = append(news, t)
		}
	}
	if v.known != nil && slices.ContainsFunc(v.sites, func(o *site) bool { return o.usable && !usable(sites, o.server) }) {
		// What it has said of files may be of the half that was written already.
		v.known = newSnapshot(v.release)
	}
	for _, s := range sites {
		if i := slices.IndexFunc(v.sites, func(o *site) bool { return o.server == s.server }); i >= 0 {
			was := v.sites[i]
			s.release, s.suspect, s.done = was.release, was.suspect, was.done
			if s.atRisk && !s.beside && !was.atRisk {
				// It may have been half written while nobody asked it.
				s.suspect = time.Now()
				if v.known != nil {
					v.known = newSnapshot(v.release)
				}
			}
		}
	}
	v.entry, v.sites = e, sites
	return news
}

// usable reports whether one of some sites is at a server, and may be used.
func usable(sites []*site, s *server) bool {
	return slices.ContainsFunc(sites, func(at *site) bool { return at.server == s && at.usable })
}

// trusted reports whether answers of a server may be believed, by what is known
// now.
func (v *volume) trusted(s *server) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.ContainsFunc(v.sites, func(at *site) bool {
		return at.server == s && at.usable && v.believed(at)
	})
}

// listed reports whether a server's site is for use, by the last look at the
// database.
func (v *volume) listed(s *server) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.ContainsFunc(v.sites, func(at *site) bool {
		return at.server == s && at.usable && (!at.atRisk || v.believed(at))
	})
}

// confirm looks at the database once more: whether the sites that were read from
// are still listed for use. While no volume location server answers, none of them
// having failed meanwhile is enough.
func (v *volume) confirm(ctx context.Context, since time.Time, servers ...*server) error {
	err := v.locate(ctx, since)
	if err != nil && (errors.Is(err, errNoVolume) || ctx.Err() != nil) {
		return v.unavailable(err)
	}
	sound := v.listed // that it has failed since that look does not matter
	if err != nil {
		sound = v.trusted
	}
	for _, s := range servers {
		if !sound(s) {
			return fmt.Errorf("%w: volume %s: site %s: %w", ErrChanged, v, s, errStruck)
		}
	}
	return nil
}

func (v *volume) unavailable(err error) error {
	if errors.Is(err, ErrUnavailable) {
		return err
	}
	return fmt.Errorf("%w: volume %s: %w", ErrUnavailable, v, err)
}
