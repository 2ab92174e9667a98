package releaser

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Targets implements Releaser.
func (a *AFS) Targets() []string {
	targets := make([]string, len(a.Volumes))
	for i, v := range a.Volumes {
		targets[i] = a.target(v)
	}
	return targets
}

func (a *AFS) target(volume string) string { return a.queue() + ":" + volume }

func (a *AFS) queue() string { return "afs:" + a.cell }

// Lane implements Releaser. There is none for all of it: releases of one cell wait for
// each other volume by volume.
func (a *AFS) Lane() string { return "" }

// Release implements Releaser.
func (a *AFS) Release(ctx context.Context, r *step.Run) (released bool, err error) {
	if !r.Synced {
		return a.watch(ctx, r)
	}
	for i, volume := range a.Volumes {
		done, err := a.releaseOne(ctx, r, i, time.Duration(a.LockWait))
		released = released || done
		if err != nil {
			return released, fmt.Errorf("volume %s: %w", volume, err)
		}
	}
	return released, nil
}

// watch releases volumes that others write: they have nothing to do with each other, so
// what is wrong with one holds up no other.
func (a *AFS) watch(ctx context.Context, r *step.Run) (released bool, err error) {
	var errs []error
	locked := map[int]bool{}
	one := func(i int, patience time.Duration) {
		done, err := a.releaseOne(ctx, r, i, patience)
		released = released || done
		switch {
		case patience == 0 && errors.Is(err, errLocked) && ctx.Err() == nil:
			locked[i] = true
		case err != nil:
			errs = append(errs, fmt.Errorf("volume %s: %w", a.Volumes[i], err))
		}
	}
	for i := range a.Volumes {
		one(i, 0)
	}
	for i := range a.Volumes {
		if locked[i] {
			one(i, time.Duration(a.LockWait))
		}
	}
	return released, errors.Join(errs...)
}

func (a *AFS) releaseOne(ctx context.Context, r *step.Run, i int, patience time.Duration) (bool, error) {
	r.Report(step.Progress{Stage: "release", Done: float64(i) / float64(len(a.Volumes)), Detail: a.Volumes[i]})
	return a.releaseVolume(ctx, r, a.Volumes[i], patience)
}

// releaseVolume releases one volume, if it is newer than its copies. Whoever waits for a
// lock does not hold up the others.
func (a *AFS) releaseVolume(ctx context.Context, r *step.Run, volume string, patience time.Duration) (bool, error) {
	var failed error
	for try := 1; ; try++ {
		var ran bool
		var took time.Duration
		_, err := a.unlocked(ctx, volume, patience)
		if err == nil {
			ran, took, err = a.try(ctx, r, volume)
		}
		if err == nil {
			done := ran || failed != nil // at last
			if done {
				a.tell(volume)
				r.Released(a.target(volume), took)
			}
			return done, nil
		}
		switch {
		case failed != nil && !ran:
			return false, fmt.Errorf("%w; and then: %w", failed, err)
		case !ran || try == a.Tries || ctx.Err() != nil:
			return false, err
		}
		failed = err
		r.Log.Warn("release failed; trying again", zap.String("volume", volume), zap.Int("try", try), zap.Error(err))
		select {
		case <-time.After(time.Duration(try) * settle):
		case <-ctx.Done():
			return false, err
		}
	}
}

// try releases a volume once, when no other of the cell is being released. What it does
// goes by the state that the volume has then. It reports whether vos has run.
func (a *AFS) try(ctx context.Context, r *step.Run, volume string) (ran bool, took time.Duration, err error) {
	leave, err := r.Enter(ctx, a.queue())
	if err != nil {
		return false, 0, err
	}
	defer leave()
	v, err := a.unlocked(ctx, volume, 0)
	if err != nil {
		return false, 0, err
	}
	rw := v.ReadWrite()
	if rw == nil || rw.Info == nil {
		return false, 0, fmt.Errorf("%w: the read-write volume cannot be looked at: %w", errState, siteError(rw))
	}
	if ok, _ := v.Published(); ok && v.Newer() {
		fmt.Fprintf(r.Out, "%s has not changed since its release\n", volume)
		return false, 0, nil
	}
	start := time.Now()
	if err = a.vos(ctx, r, v); err == nil {
		err = a.verify(ctx, volume, rw.Info.Updated)
	} else {
		err = a.aftermath(ctx, r, v, rw.Info.Updated, err)
	}
	return true, time.Since(start), err
}

var (
	errState  = errors.New("its state is not known")
	errLocked = errors.New("it is locked")
)

func siteError(s *afs.Site) error {
	if s == nil {
		return errors.New("there is none")
	}
	return s.Err
}

// state asks the servers for the state of a volume.
func (a *AFS) state(ctx context.Context, volume string) (afs.Volume, error) {
	c, err := a.app.Client()
	if err != nil {
		return afs.Volume{}, fmt.Errorf("%w: %w", errState, err)
	}
	v, err := c.Volume(ctx, a.cell, volume)
	if err != nil {
		return v, fmt.Errorf("%w: %w", errState, err)
	}
	return v, nil
}

// unlocked is state, once nobody works on the volume. A database that does not answer
// for a moment is asked again: it is hours of work that would not be released.
func (a *AFS) unlocked(ctx context.Context, volume string, patience time.Duration) (afs.Volume, error) {
	for start := time.Now(); ; {
		v, err := a.state(ctx, volume)
		patience, nap := patience, 5*look
		switch {
		case err != nil:
			patience, nap = settle, look
		case !v.Locked():
			return v, nil
		default:
			err = a.locked(v)
		}
		if time.Since(start) > patience {
			return v, err
		}
		select {
		case <-time.After(nap):
		case <-ctx.Done():
			return v, fmt.Errorf("%w: %w", err, context.Cause(ctx))
		}
	}
}

// locked says how to get rid of a lock.
func (a *AFS) locked(v afs.Volume) error {
	return fmt.Errorf("%w (%v), by a vos that runs or was killed; if none runs, this mends it: vos unlock %s -cell %s",
		errLocked, v.Entry.Flags, v.Name, a.cell)
}

// vos runs vos release. What it says is not relied on.
func (a *AFS) vos(ctx context.Context, r *step.Run, v afs.Volume) error {
	args := []string{"release", v.Name, "-cell", a.cell, "-verbose"}
	if a.LocalAuth {
		args = append(args, "-localauth")
	}
	if !v.Clean() {
		args = append(args, "-force-reclone")
	}
	argv := slices.Concat(a.Prefix, []string{a.Vos}, args)
	_, err := r.Command(ctx, step.Command{Name: argv[0], Args: argv[1:], Kerberos: a.Kerberos, Finish: true})
	return err
}

// verify makes sure that all copies are of one good release, as new as what was
// written. It looks even if the run is to end: vos was not ended either.
func (a *AFS) verify(ctx context.Context, volume string, written time.Time) error {
	for start := time.Now(); ; {
		v, err := a.state(context.WithoutCancel(ctx), volume)
		if err == nil {
			err = isReleased(v, written)
		}
		if err == nil {
			return nil
		}
		if time.Since(start) > settle || ctx.Err() != nil {
			return a.remedy(v, fmt.Errorf("vos says that it is released, but %w", err))
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
		}
	}
}

// aftermath says what a vos that failed has left, since its own words often do not.
// It is nil if the volume is released all the same: vos may fail at what it does last.
func (a *AFS) aftermath(ctx context.Context, r *step.Run, was afs.Volume, written time.Time, failure error) error {
	v, err := a.state(context.WithoutCancel(ctx), was.Name)
	if err == nil && !v.Locked() {
		err = isReleased(v, written)
	}
	switch {
	case v.Locked():
		return a.remedy(v, failure)
	case err != nil:
		return a.remedy(v, fmt.Errorf("%w; %w", failure, err))
	case !v.Released().After(was.Released()):
		return failure // what was written is of the second of the last release
	}
	r.Log.Warn("vos failed, though the volume is released", zap.String("volume", was.Name), zap.Error(failure))
	return nil
}

// remedy adds to an error what would mend the volume.
func (a *AFS) remedy(v afs.Volume, err error) error {
	switch {
	case v.Name == "":
		return err // nothing is known of it
	case v.Locked():
		return fmt.Errorf("%w; %w", err, a.locked(v))
	}
	for _, s := range v.Sites {
		switch {
		case s.Info == nil && !strings.Contains(err.Error(), s.Err.Error()):
			err = fmt.Errorf("%w; %s %s: %w", err, s.Server, s.Partition, s.Err)
		case s.Info == nil:
		case wire.Code(s.Info.Status) == wire.VBusy:
			err = fmt.Errorf("%w; %s %s is busy with a transaction: if no vos runs, it ends within ten minutes,"+
				" or by vos endtrans %[2]s NUMBER, with a number that vos status %[2]s tells", err, s.Server, s.Partition)
		case s.Type == wire.ReadOnly.String() && s.Info.Created.Before(newest(v)):
			err = fmt.Errorf("%w; %s %s has the old release", err, s.Server, s.Partition)
		}
	}
	return fmt.Errorf("%w; this would mend it: vos release %s -cell %s -force-reclone", err, v.Name, a.cell)
}

// newest is when the newest of the copies was made.
func newest(v afs.Volume) time.Time {
	var t time.Time
	for _, s := range v.Sites {
		if s.Type == wire.ReadOnly.String() && s.Info != nil && s.Info.Created.After(t) {
			t = s.Info.Created
		}
	}
	return t
}

// isReleased is why the copies of a volume are not what was written up to a time.
// What was written since then is the next run's.
func isReleased(v afs.Volume, written time.Time) error {
	if why := v.Agreed(); why != "" {
		return errors.New(why)
	}
	if at := v.Released(); at.Before(written) {
		return fmt.Errorf("the copies are of %s, and the volume was written to at %s",
			at.Format(time.DateTime), written.Format(time.DateTime))
	}
	return nil
}

// tell has those look who serve the volume on this host.
func (a *AFS) tell(volume string) {
	if c, err := a.app.Client(); err == nil {
		c.Look(a.cell, volume)
	}
}
