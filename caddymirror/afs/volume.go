package afs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
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

func newVolume(cl *cell, name string, typ wire.VolumeType) *volume {
	return &volume{cell: cl, name: name, typ: typ, watches: map[*Tree]bool{}}
}

func (v *volume) String() string { return v.cell.name + ":" + v.name + v.typ.Suffix() }

func (v *volume) currentID() uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.id
}

// full reports whether a server that the volume is read from has all the calls that
// it may have.
func (v *volume) full() bool {
	return slices.ContainsFunc(v.order(0), func(s *site) bool {
		return s.server.isDown() == nil && s.server.peer().Full()
	})
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
	defer v.mu.Unlock()
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
		v.tell()
	}
}

// tell has the trees with a part in the volume put their releases together anew. v.mu
// is held, so that who reads anything of a new release finds it told.
func (v *volume) tell() {
	for t := range v.watches {
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
