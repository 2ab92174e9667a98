package releaser

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/afs"
	"github.com/unifiedmirrors/mirror/afs/cells"
	"github.com/unifiedmirrors/mirror/afs/wire"
	"github.com/unifiedmirrors/mirror/caddyafs"
	"github.com/unifiedmirrors/mirror/step"
)

func init() {
	caddy.RegisterModule(new(AFS))
}

// AFS releases volumes with `vos release`, one after the other, and makes sure that
// it was done.
//
// A volume is released only if it was written to since its last release. Before, the
// servers are asked for its state: while it is locked nothing is done, and if an
// earlier release broke off, the clone that it left is made anew
// (`-force-reclone`), for else vos would publish the old one and call that a
// success. After, whatever vos says, all copies have to be of one release that is not
// older than what was last written, and none marked as anything but good. If that is
// not so it is tried again, and then failed with what is wrong and the command that
// would mend it.
//
// `vos` is never killed: it would leave the volume locked, and copies offline.
type AFS struct {
	// Volumes to release, in this order. Required.
	Volumes []string `json:"volumes,omitempty"`

	// Cell that they are in. Default: the host's own, by its file ThisCell.
	Cell string `json:"cell,omitempty"`

	// LocalAuth has vos use the key of the cell, which is on its server machines.
	LocalAuth bool `json:"localauth,omitempty"`

	// Kerberos has vos use tickets of its own, and not those of the job: who may release
	// volumes is mostly not who writes to them.
	Kerberos *step.Kerberos `json:"kerberos,omitempty"`

	// Prefix is put in front of the command: `ssh root@fs1.example.org`, to run it
	// where the key is.
	Prefix []string `json:"prefix,omitempty"`

	// Vos is the command. Default: vos.
	Vos string `json:"vos,omitempty"`

	// LockWait is how long to wait for somebody else's lock on a volume. Default: 10m.
	LockWait caddy.Duration `json:"lock_wait,omitempty"`

	// Tries is how often to release a volume before it is given up. Default: 3.
	Tries int `json:"tries,omitempty"`

	app  *caddyafs.App
	cell string
}

const (
	defaultLockWait = 10 * time.Minute
	defaultTries    = 3

	// settle is how long the state of the sites may take to be right after vos has
	// ended.
	settle = 10 * time.Second
	look   = time.Second
)

// CaddyModule returns the Caddy module information.
func (*AFS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.releasers.afs", New: func() caddy.Module { return new(AFS) }}
}

// Provision sets the releaser up. It asks nobody.
func (a *AFS) Provision(ctx caddy.Context) error {
	if a.Vos == "" {
		a.Vos = "vos"
	}
	if a.LockWait == 0 {
		a.LockWait = caddy.Duration(defaultLockWait)
	}
	if a.Tries == 0 {
		a.Tries = defaultTries
	}
	if err := a.check(); err != nil {
		return err
	}
	a.cell = a.Cell
	if a.cell == "" {
		var err error
		if a.cell, err = thisCell(); err != nil {
			return err
		}
	}
	app, err := ctx.App("afs")
	if err != nil {
		return err
	}
	a.app = app.(*caddyafs.App)
	return nil
}

func (a *AFS) check() error {
	if len(a.Volumes) == 0 {
		return errors.New("which volume?")
	}
	for i, v := range a.Volumes {
		_, typ := wire.SplitVolumeName(v)
		switch {
		case v == "" || strings.ContainsAny(v, " \t/:") || strings.HasPrefix(v, "-"):
			return fmt.Errorf("%q is not the name of a volume", v)
		case typ != wire.ReadWrite:
			return fmt.Errorf("%s is not a read-write volume: name the one that it is made from", v)
		case slices.Contains(a.Volumes[:i], v):
			return fmt.Errorf("volume %s is named twice", v)
		}
	}
	switch {
	case a.Cell != "" && !cells.ValidName(a.Cell):
		return fmt.Errorf("%q is not the name of a cell", a.Cell)
	case a.LocalAuth && a.Kerberos != nil:
		return errors.New("localauth and kerberos exclude each other")
	case a.LockWait < 0:
		return errors.New("lock_wait is negative")
	case a.Tries < 0:
		return errors.New("tries is negative")
	}
	return a.Kerberos.Check()
}

// thisCell is the cell that the host belongs to.
func thisCell() (string, error) {
	for _, name := range []string{"/etc/openafs/ThisCell", "/usr/vice/etc/ThisCell"} {
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		cell := strings.TrimSpace(string(text))
		if !cells.ValidName(cell) {
			return "", fmt.Errorf("%s: %q is not the name of a cell", name, cell)
		}
		return cell, nil
	}
	return "", errors.New("in which cell? this host has no file ThisCell")
}

// UnmarshalCaddyfile sets up the releaser from the Caddyfile:
//
//	release afs <volumes...> {
//		cell      <name>
//		localauth
//		kerberos  <keytab> <principal>
//		prefix    <command...>
//		vos       <command>
//		lock_wait <duration>
//		tries     <number>
//	}
func (a *AFS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	a.Volumes = d.RemainingArgs()
	if len(a.Volumes) == 0 {
		return d.ArgErr()
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if err := a.unmarshalOption(d); err != nil {
			return err
		}
	}
	if err := a.check(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (a *AFS) unmarshalOption(d *caddyfile.Dispenser) error {
	option := d.Val()
	args := d.RemainingArgs()
	if option == "prefix" && len(args) > 0 {
		a.Prefix = args
		return nil
	}
	want := 1
	switch option {
	case "localauth":
		want = 0
	case "kerberos":
		want = 2
	}
	if len(args) != want {
		return d.ArgErr()
	}
	var err error
	switch option {
	case "cell":
		a.Cell = args[0]
	case "localauth":
		a.LocalAuth = true
	case "kerberos":
		a.Kerberos = &step.Kerberos{Keytab: args[0], Principal: args[1]}
	case "vos":
		a.Vos = args[0]
	case "lock_wait":
		var v time.Duration
		v, err = caddy.ParseDuration(args[0])
		a.LockWait = caddy.Duration(v)
	case "tries":
		_, err = fmt.Sscanf(args[0], "%d", &a.Tries)
	default:
		return d.Errf("unrecognized subdirective '%s'", option)
	}
	if err != nil {
		return d.Errf("%s: %v", option, err)
	}
	return nil
}

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

// releaseVolume releases one volume, if it is newer than its copies.
func (a *AFS) releaseVolume(ctx context.Context, r *step.Run, volume string, patience time.Duration) (bool, error) {
	v, err := a.unlocked(ctx, volume, patience)
	if err != nil {
		return false, err
	}
	rw := v.ReadWrite()
	if rw == nil || rw.Info == nil {
		return false, fmt.Errorf("%w: the read-write volume cannot be looked at: %w", errState, siteError(rw))
	}
	if ok, _ := v.Published(); ok && v.Newer() {
		fmt.Fprintf(r.Out, "%s has not changed since its release\n", volume)
		return false, nil
	}
	written := rw.Info.Updated
	for try := 1; ; try++ {
		took, err := a.try(ctx, r, v, written)
		if err == nil {
			a.tell(volume)
			r.Released(a.target(volume), took)
			return true, nil
		}
		if try == a.Tries || ctx.Err() != nil {
			return false, err
		}
		r.Log.Warn("release failed; trying again", zap.String("volume", volume), zap.Int("try", try), zap.Error(err))
		select {
		case <-time.After(time.Duration(try) * settle):
		case <-ctx.Done():
			return false, err
		}
		var later error
		if v, later = a.unlocked(ctx, volume, patience); later != nil {
			return false, fmt.Errorf("%w; and then: %w", err, later)
		}
	}
}

// try releases a volume once, when no other of the cell is being released. Whoever waits
// for a lock does not hold up the others.
func (a *AFS) try(ctx context.Context, r *step.Run, v afs.Volume, written time.Time) (took time.Duration, err error) {
	leave, err := r.Enter(ctx, a.queue())
	if err != nil {
		return 0, err
	}
	defer leave()
	start := time.Now()
	if err = a.vos(ctx, r, v); err == nil {
		err = a.verify(ctx, v.Name, written)
	} else {
		err = a.aftermath(ctx, r, v, written, err)
	}
	return time.Since(start), err
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

// Interface guards
var (
	_ Releaser              = (*AFS)(nil)
	_ caddy.Provisioner     = (*AFS)(nil)
	_ caddyfile.Unmarshaler = (*AFS)(nil)
)
