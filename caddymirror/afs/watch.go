package afs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

const (
	// visitPatience is how long a site may take to tell its release.
	visitPatience = 3 * time.Second

	// againAfter is how soon to look again at a volume that has a site which is off
	// line just now, and maxAgain how often: a site is that for a moment when it gets
	// a new release, and is the first to tell of it then.
	againAfter = 300 * time.Millisecond
	maxAgain   = 10

	// grace is how long to wait for other sites after one has told its.
	grace = 200 * time.Millisecond

	// regressAfter is how long all sites must have had the same older release for
	// it to be taken for meant: the volume was restored from a backup.
	regressAfter = 2 * time.Minute
)

// Release is the state of a tree.
type Release struct {
	// Token names the releases of all volumes that the tree was found to have a
	// part in. It is empty if one of them has none.
	Token string

	// Seen is when they were last known to be the current ones. It is zero if
	// they never were.
	Seen time.Time
}

// Release returns the state as last seen. The first call has it looked at from
// then on, and waits for the first look.
func (t *Tree) Release(ctx context.Context) Release {
	t.begin()
	select {
	case <-t.seen:
	case <-ctx.Done():
	}
	return t.Last()
}

// begin has the tree looked at from now on.
func (t *Tree) begin() {
	t.start.Do(func() {
		if !t.c.run(t.watch) {
			close(t.seen)
		}
	})
}

// Last is Release for those who only want to know: it has nothing looked at.
func (t *Tree) Last() Release {
	if l := t.last.Load(); l != nil && l.moves == t.moves.Load() {
		return l.Release
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	l := lastRelease{moves: t.moves.Load()} // before the volumes are looked at
	l.Release = releaseOf(t.volumes)
	t.last.Store(&l)
	return l.Release
}

// lastRelease is the release of a tree after so many moves.
type lastRelease struct {
	Release
	moves uint64
}

// moved has the release of the tree put together anew. It takes no lock.
func (t *Tree) moved() { t.moves.Add(1) }

// releaseOf puts the releases of volumes together.
func releaseOf(volumes map[*volume]bool) Release {
	var r Release
	for v := range volumes {
		seen := v.lastPolled()
		if seen.IsZero() {
			return Release{}
		}
		if r.Seen.IsZero() || seen.Before(r.Seen) {
			r.Seen = seen
		}
	}
	r.Token = tokenOf(volumes)
	return r
}

// tokenOf names the releases of volumes.
func tokenOf(volumes map[*volume]bool) string {
	parts := make([]string, 0, len(volumes))
	for v := range volumes {
		if v.typ == wire.ReadWrite {
			return ""
		}
		id, release := v.state()
		parts = append(parts, fmt.Sprintf("%s:%d@%d", v.cell.name, id, release))
	}
	slices.Sort(parts)
	if token := strings.Join(parts, ","); len(token) < 128 {
		return token
	}
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p + "\n"))
	}
	return fmt.Sprintf("%d-volumes@%s", len(parts), hex.EncodeToString(h.Sum(nil)[:12]))
}

// wake has the tree's volumes looked at now.
func (t *Tree) wake() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// watch looks at the volumes of the tree until it is closed.
func (t *Tree) watch() {
	again := 0
	for first := true; ; first = false {
		start := time.Now()
		unsettled := false
		_ = t.c.contained("afs watch", func() error {
			t.check()
			unsettled = t.unsettled()
			return nil
		})
		if first {
			close(t.seen)
		}
		pause := t.root.Check
		switch {
		case !unsettled:
			again = 0
		case again < maxAgain:
			again++
			pause = min(pause, againAfter)
		}
		select {
		case <-time.After(time.Until(start.Add(pause))):
		case <-t.kick:
			// A callback comes from one site, a moment before it is in service.
			select {
			case <-time.After(50 * time.Millisecond):
			case <-t.ctx.Done():
				return
			}
		case <-t.ctx.Done():
			return
		}
	}
}

// unsettled reports whether a site has failed that is up and listed for use.
func (t *Tree) unsettled() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for v := range t.volumes {
		if v.unsettled() {
			return true
		}
	}
	return false
}

func (v *volume) unsettled() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.ContainsFunc(v.sites, func(s *site) bool {
		return s.usable && !v.believed(s) && s.server.isDown() == nil
	})
}

// check looks at the volumes once.
func (t *Tree) check() {
	ctx, cancel := context.WithTimeout(t.ctx, 2*visitPatience)
	defer cancel()
	if _, err := t.Stat(ctx, "."); err != nil && t.ctx.Err() == nil {
		t.c.log.Debug("looking at the root of a tree", zap.String("tree", t.String()), zap.Error(err))
	}
	t.mu.Lock()
	volumes := make([]*volume, 0, len(t.volumes))
	for v := range t.volumes {
		volumes = append(volumes, v)
	}
	t.mu.Unlock()
	var wg sync.WaitGroup
	for _, v := range volumes {
		wg.Go(func() {
			_ = t.c.contained("afs watch", func() error {
				t.look(ctx, v)
				return nil
			})
		})
	}
	wg.Wait()
	t.moved() // or seen again, at least
}

// look looks at one volume.
func (t *Tree) look(ctx context.Context, v *volume) {
	err := t.c.contained("afs watch", func() error { return v.poll(ctx) })
	if errors.Is(err, errNoVolume) {
		t.drop(v)
	}
	if t.ctx.Err() == nil {
		v.looked(err)
	}
}

// drop notes that a volume is gone, and its release with it. The tree's own may
// come back.
func (t *Tree) drop(v *volume) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.own[v] {
		delete(t.volumes, v)
		v.forget(t)
	}
}

// String is the root of the tree.
func (t *Tree) String() string { return t.root.String() }

// remember has a tree told when the volume is released.
func (v *volume) remember(t *Tree) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.watches[t] = true
}

func (v *volume) forget(t *Tree) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.watches, t)
}

// wake has the volume looked at by one of those who watch it.
func (v *volume) wake() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for t := range v.watches {
		t.wake()
	}
}

func (v *volume) lastPolled() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.polled
}

func (v *volume) state() (id, release uint32) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.id, v.release
}

// poll asks all usable sites for their release. It waits for the first answer
// that can be trusted, and a moment longer.
func (v *volume) poll(ctx context.Context) error {
	if err := v.locate(ctx, time.Now().Add(-entryTTL)); err != nil {
		v.mu.Lock()
		have := len(v.sites) > 0
		v.mu.Unlock()
		if !have || errors.Is(err, errNoVolume) {
			return v.unavailable(err)
		}
		// With the sites that are known.
	}
	sites := v.order(0)
	results := make(chan error, len(sites))
	start := time.Now()
	for _, s := range sites {
		go func() {
			// On its own clock: whoever waits for the first answer leaves then.
			ctx, cancel := context.WithTimeout(v.cell.c.ctx, visitPatience)
			defer cancel()
			results <- v.cell.c.contained("afs watch", func() error { return v.visit(ctx, s) })
		}()
	}
	var errs []error
	good := false
	var late <-chan time.Time
	for range sites {
		select {
		case err := <-results:
			if err != nil {
				errs = append(errs, err)
			} else if !good {
				good = true
				late = time.After(grace)
			}
			continue
		case <-late:
		case <-ctx.Done():
			errs = append(errs, ctx.Err())
		}
		break
	}
	if good {
		v.seen(start)
		return nil
	}
	v.regress()
	return v.unavailable(cmp.Or(errors.Join(errs...), errNoSite))
}

// looked notes how a look for a release went, and logs when many in a row went wrong.
func (v *volume) looked(err error) {
	const many = 3
	v.mu.Lock()
	before := v.fails
	v.fails++
	if err == nil {
		v.fails = 0
	}
	v.mu.Unlock()
	switch {
	case err != nil && before+1 == many:
		v.cell.c.log.Warn("AFS volume cannot be looked at: its releases are not noticed", zap.Stringer("volume", v), zap.Error(err))
	case err == nil && before >= many:
		v.cell.c.log.Info("AFS volume can be looked at again", zap.Stringer("volume", v))
	}
}

// seen notes that the current release was the current one at a time.
func (v *volume) seen(at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if at.After(v.polled) {
		v.polled = at
	}
	v.olds = time.Time{}
}

// visit asks a site for its release, and judges it.
func (v *volume) visit(ctx context.Context, s *site) error {
	if err := v.clear(ctx, s); err != nil {
		return err
	}
	_, err := v.try(ctx, s, 0, func(ctx context.Context, srv *server, id uint32) (wire.VolSync, error) {
		r, err := srv.fetchStatus(ctx, wire.Root(id))
		if errors.Is(err, wire.VNoVnode) {
			err = errNoRoot // nobody is to ask for the root to see why
		}
		return r.VolSync, err
	})
	return err
}

// regress goes back to an older release, if all sites have had the same for long
// and nobody works on the volume.
func (v *volume) regress() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.sites) == 0 || v.release == 0 {
		return
	}
	old := v.sites[0].release
	for _, s := range v.sites {
		if !s.usable || s.release != old || s.server.isDown() != nil {
			old = 0
		}
	}
	switch {
	case old == 0 || old >= v.release || v.entry.Flags.Locked():
		v.olds = time.Time{}
	case v.olds.IsZero():
		v.olds = time.Now()
	case time.Since(v.olds) > regressAfter:
		v.cell.c.log.Error("all sites of an AFS volume have an older release than was seen; going back to it",
			zap.Stringer("volume", v), zap.Uint32("was", v.release), zap.Uint32("is", old))
		v.release, v.known, v.olds = 0, nil, time.Time{}
	}
}
