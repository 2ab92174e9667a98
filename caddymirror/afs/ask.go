package afs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

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
	err := v.poll(ctx)
	if err != nil && v.current() != 0 {
		return nil // somebody else has found it meanwhile
	}
	return err
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
	case errors.Is(err, ErrBusy):
		return 0, err
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
