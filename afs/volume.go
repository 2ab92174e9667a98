package afs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/afs/wire"
)

const (
	// entryTTL is how old what the volume location database says may get, in the
	// absence of any sign that it has changed.
	entryTTL = 30 * time.Second

	// missingTTL is how long it is believed that there is no such volume.
	missingTTL = 5 * time.Second

	// callPatience is how long one call to a file server may take in all.
	callPatience = 8 * time.Second

	// retryPause is how long to wait when no site of a volume can answer just
	// now. More often would have servers delay their answers.
	retryPause = 500 * time.Millisecond
)

var (
	errStale   = errors.New("site has an older release")
	errNoSite  = errors.New("there is no site to read from")
	errRenewed = errors.New("volume was released meanwhile")
	errNoRoot  = errors.New("site lacks the root of the volume")
	errStruck  = errors.New("site was struck off while it was read")

	// errDoubted says that a site is not to be believed just now: it is not listed
	// for use, or others have found it failing since that was looked up.
	errDoubted = errors.New("site has failed, or is not listed for use, or the volume is locked by a release")
)

// volume is a read-only volume, or a read-write one.
type volume struct {
	cell *cell
	name string // or number
	typ  wire.VolumeType

	mu      sync.Mutex // guards what follows, and the fields of sites
	id      uint32
	sites   []*site
	entry   wire.Entry
	began   time.Time // when the look at the database began that this is from
	calm    time.Time // the same, of the last one by which no site was at risk
	missing error     // there is no such volume, by that look
	looking *look     // the one under way
	release uint32    // the newest seen; 0: none yet
	known   *snapshot // of release
	polled  time.Time // when release was last seen to be current
	olds    time.Time // since when all sites have had one and the same older release
	watches map[*Tree]bool
	lastErr error
	fails   int // looks for a release in vain, in a row
}

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

func newVolume(cl *cell, name string, typ wire.VolumeType) *volume {
	return &volume{cell: cl, name: name, typ: typ, watches: map[*Tree]bool{}}
}

func (v *volume) String() string { return v.cell.name + ":" + v.name + v.typ.Suffix() }

func (v *volume) currentID() uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.id
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
	ctx, cancel := context.WithTimeout(v.cell.c.ctx, 4*locatePatience)
	defer cancel()
	e, err := v.cell.entry(ctx, v.name)
	var sites []*site
	if err == nil {
		sites, err = v.sitesOf(ctx, e)
	}
	var news []*Tree
	v.mu.Lock()
	switch {
	case err == nil:
		v.began, v.missing, v.lastErr = l.began, nil, nil
		if !slices.ContainsFunc(sites, func(s *site) bool { return s.atRisk }) {
			v.calm = l.began
		}
		news = v.relocate(e, sites)
	case errors.Is(err, errNoVolume):
		v.began, v.missing, v.lastErr = l.began, err, err
		v.sites = nil
	default:
		v.lastErr = err
	}
	v.looking = nil
	close(l.done)
	v.mu.Unlock()
	for _, t := range news {
		t.wake()
	}
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

// ask asks one site for something of the volume, and returns what the answer says
// of the volume.
type ask func(ctx context.Context, s *server, id uint32) (wire.VolSync, error)

// call asks the sites of the volume, the best first, until one gives an answer
// that can be trusted. That is of the newest release known, or of the one given,
// if it is not 0. It returns which, and who answered. id is the number of the
// volume that is meant: it may have another one by now.
func (v *volume) call(ctx context.Context, id, pin uint32, f ask) (release uint32, by *server, err error) {
	if err := v.ready(ctx); err != nil {
		return 0, nil, v.unavailable(err)
	}
	for {
		if v.currentID() != id {
			return 0, nil, v.explain(errRenewed)
		}
		release, by, err = v.round(ctx, pin, f)
		if err == nil || !retriable(err) || ctx.Err() != nil {
			return release, by, err
		}
		select {
		case <-time.After(jitter(retryPause)):
		case <-ctx.Done():
			return 0, nil, v.unavailable(err)
		}
		if lerr := v.locate(ctx, time.Now()); lerr != nil {
			return 0, nil, v.unavailable(cmp.Or(err, lerr))
		}
	}
}

// ready makes sure that the volume's sites are known, and its release.
func (v *volume) ready(ctx context.Context) error {
	v.mu.Lock()
	have, release, missing := len(v.sites) > 0, v.release, v.missing
	if have && missing == nil && v.looking == nil && time.Since(v.began) > entryTTL {
		// Nobody waits for this: an answer is confirmed after it was read.
		v.beginLook()
	}
	v.mu.Unlock()
	if !have || missing != nil {
		err := v.locate(ctx, time.Now().Add(-missingTTL))
		switch {
		case errors.Is(err, errNoVolume):
			return err
		case err != nil:
			return v.unavailable(err)
		}
	}
	if release != 0 || v.typ == wire.ReadWrite {
		return nil
	}
	// The newest of all sites, lest the first to answer be behind.
	return v.poll(ctx)
}

// jitter is d and up to as much again.
func jitter(d time.Duration) time.Duration { return d + rand.N(d) } //nolint:gosec // no secret

// retriable reports whether the sites may well answer in a moment.
func retriable(err error) bool {
	for _, c := range []wire.Code{wire.VOffline, wire.VBusy, wire.VNoVol, wire.VSalvaging, wire.VRestarting, wire.VMoved} {
		if errors.Is(err, c) {
			return true
		}
	}
	return errors.Is(err, errStale) || errors.Is(err, errDoubted)
}

// round asks each site once.
func (v *volume) round(ctx context.Context, pin uint32, f ask) (uint32, *server, error) {
	var errs []error
	for _, s := range v.order(pin) {
		if err := v.clear(ctx, s); err != nil {
			errs = append(errs, fmt.Errorf("site %s: %w", s.server, err))
			continue
		}
		release, err := v.try(ctx, s, pin, f)
		if err == nil {
			return release, s.server, nil
		}
		if final(err) || ctx.Err() != nil {
			return 0, nil, v.explain(err)
		}
		errs = append(errs, fmt.Errorf("site %s: %w", s.server, err))
	}
	if len(errs) == 0 {
		errs = append(errs, errNoSite)
	}
	return 0, nil, v.explain(errors.Join(errs...))
}

// explain says what an error is about.
func (v *volume) explain(err error) error {
	for _, known := range []error{fs.ErrNotExist, fs.ErrPermission, fs.ErrInvalid, ErrChanged, errRenewed, wire.VNoVnode} {
		if errors.Is(err, known) {
			return fmt.Errorf("volume %s: %w", v, err)
		}
	}
	return v.unavailable(err)
}

// final reports whether other sites would say the same.
func final(err error) bool {
	var code wire.Code
	if !errors.As(err, &code) {
		return errors.Is(err, errRenewed)
	}
	if code == wire.VNoVnode {
		return true
	}
	_, ok := code.Errno()
	return ok && !isIO(code)
}

// isIO tells errors of a site's disk.
func isIO(code wire.Code) bool {
	var err error = code
	return code == wire.VIO || errors.Is(err, eio)
}

// order returns the usable sites, those first that are most likely to answer
// soonest.
func (v *volume) order(pin uint32) []*site {
	v.mu.Lock()
	defer v.mu.Unlock()
	sites := make([]*site, 0, len(v.sites))
	for _, s := range v.sites {
		if s.usable {
			sites = append(sites, s)
		}
	}
	want := cmp.Or(pin, v.release)
	rank := make(map[*site]float64, len(sites))
	for _, s := range sites {
		// Waiting in line costs about as much as a call, for each in front.
		cost := float64(max(s.server.latency(), 200*time.Microsecond)) * float64(4+s.server.running.Load())
		switch {
		case s.server.isDown() != nil:
			cost += 3e12
		case !v.believed(s):
			cost += 2e12
		case s.release != want && s.release != 0:
			cost += 1e12
		}
		rank[s] = cost
	}
	rand.Shuffle(len(sites), func(i, j int) { sites[i], sites[j] = sites[j], sites[i] }) //nolint:gosec // no secret
	slices.SortStableFunc(sites, func(a, b *site) int { return cmp.Compare(rank[a], rank[b]) })
	return sites
}

// clear makes sure that a site is to be believed.
func (v *volume) clear(ctx context.Context, s *site) error {
	v.mu.Lock()
	suspect, ok := s.suspect, v.believed(s)
	v.mu.Unlock()
	if ok {
		return nil
	}
	if err := s.server.isDown(); err != nil {
		return err
	}
	if err := v.locate(ctx, suspect); err != nil {
		return fmt.Errorf("it has failed, and the volume location database cannot be asked: %w", err)
	}
	if !v.trusted(s.server) {
		return errDoubted
	}
	return nil
}

const (
	busyTries = 4
	busyPause = 60 * time.Millisecond
)

// try asks one site, and judges its answer.
func (v *volume) try(ctx context.Context, s *site, pin uint32, f ask) (release uint32, err error) {
	v.mu.Lock()
	id := v.id
	v.mu.Unlock()
	var sync wire.VolSync
	for n := range busyTries {
		sync, err = f(ctx, s.server, id)
		if !errors.Is(err, wire.VBusy) || n == busyTries-1 {
			break
		}
		select {
		case <-time.After(jitter(busyPause << n)):
		case <-ctx.Done():
			return 0, err
		}
	}
	var code wire.Code
	switch {
	case errors.As(err, &code):
		return 0, v.refused(ctx, s, code)
	case err != nil && !errors.Is(err, ErrChanged):
		if ctx.Err() == nil {
			v.doubt(s)
		}
		return 0, err
	}
	release, verr := v.judge(ctx, s, sync.Creation, pin)
	if verr != nil {
		return 0, verr
	}
	return release, err
}

// refused judges the code that a site has answered with.
func (v *volume) refused(ctx context.Context, s *site, code wire.Code) error {
	_, errno := code.Errno()
	switch {
	case code == wire.VBusy:
	case errno && !isIO(code):
		// The answer to the question.
	case code == wire.VNoVnode:
		return v.noVnode(ctx, s)
	default:
		v.doubt(s)
	}
	return code
}

// noVnode tells whether a site lacks a file because it has another release than
// the name was looked up in.
func (v *volume) noVnode(ctx context.Context, s *site) error {
	before := v.current()
	err := v.visit(ctx, s)
	switch {
	case err != nil:
		return err
	case v.current() != before:
		return errRenewed
	}
	if err := v.confirm(ctx, time.Now(), s.server); err != nil {
		return err
	}
	return wire.VNoVnode
}

// doubt has a site's answers believed only after another look at the database.
func (v *volume) doubt(s *site) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s.suspect = time.Now()
	// The one in use may be a newer record of the same site.
	for _, at := range v.sites {
		if at.server == s.server {
			at.suspect = s.suspect
		}
	}
}

// alarm doubts some of the sites, and has the volume looked at.
func (v *volume) alarm(which func(*site) bool) {
	v.mu.Lock()
	hit := false
	for _, s := range v.sites {
		if which(s) {
			s.suspect = time.Now()
			hit = true
		}
	}
	v.mu.Unlock()
	if hit {
		v.wake()
	}
}

// judge decides whether an answer that was given from a release is good. If it
// is a newer one than known, that is the one from now on.
func (v *volume) judge(ctx context.Context, s *site, release, pin uint32) (uint32, error) {
	if v.typ == wire.ReadWrite {
		return release, nil
	}
	if release == 0 {
		v.doubt(s)
		return 0, errors.New("answer is of no release")
	}
	v.mu.Lock()
	was := s.release
	for _, at := range v.sites {
		if at.server == s.server {
			was = at.release
			at.release = release
		}
	}
	s.release = release
	newest, first := v.release, v.known == nil
	v.mu.Unlock()
	switch {
	case release == pin && pin != 0, release == newest && !first && (was == 0 || was == release):
		return release, nil
	case release < newest:
		v.doubt(s)
		return 0, fmt.Errorf("%w, of %s", errStale, time.Unix(int64(release), 0).UTC().Format(time.RFC3339))
	}
	if !first {
		if err := v.checkNewer(ctx, s); err != nil {
			return 0, fmt.Errorf("it has a release that it did not have: %w", err)
		}
	}
	v.advance(s.server, release)
	return release, nil
}

// checkNewer looks at the database for whether a site may be the first to have a
// release. One beside the read-write volume is, even while the database does not
// tell.
func (v *volume) checkNewer(ctx context.Context, s *site) error {
	start := time.Now()
	if err := v.locate(ctx, start); err != nil {
		return fmt.Errorf("the volume location database cannot be asked: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, at := range v.sites {
		if at.server == s.server && at.usable && (!at.atRisk || at.beside || start.Before(v.calm)) {
			return nil
		}
	}
	return errDoubted
}

// advance makes a release that a site has the current one, unless a newer one is.
func (v *volume) advance(by *server, release uint32) {
	v.mu.Lock()
	var news []*Tree
	for _, at := range v.sites {
		if at.server == by && at.beside {
			at.done = release
		}
	}
	if release > v.release || v.known == nil {
		if v.release != 0 {
			v.cell.c.log.Info("AFS volume was released", zap.Stringer("volume", v),
				zap.Time("was", time.Unix(int64(v.release), 0)), zap.Time("is", time.Unix(int64(release), 0)))
		}
		v.release, v.known, v.polled = release, newSnapshot(release), time.Now()
		v.olds = time.Time{}
		for t := range v.watches {
			news = append(news, t)
		}
	}
	v.mu.Unlock()
	for _, t := range news {
		t.moved()
	}
}

func (v *volume) current() uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.release
}

// snapshot returns what is known of the current release, and which that is; nil
// if it is not known, or the volume has no releases.
func (v *volume) snapshot() *snapshot {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.known
}
