package origin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(Dir{})
}

// Dir is a directory tree on a mounted path: a local one, NFS, AFS or any
// other file system. However that behaves, the server does not hang with it:
// calls that do not return cost at most `pool` threads, also over config
// reloads, and after three failures in a row all further calls fail at once
// until the file system is found to be back.
//
// Neither `..` nor a symbolic link leads out of the tree. A link that would is
// not found, as are devices, FIFOs and sockets. An absolute link is inside if its
// text begins with the path of the root, as configured or as it really is. All
// directories on the way to a file must be readable for the server.
//
// A root that is missing or empty is taken for a file system that is not
// mounted, not for a mirror without files.
//
// If the root itself is a symbolic link, its target is the release: a release
// is made by renaming a new link over the old one, and from the next look on
// the new tree is served. The same holds for a root anywhere below a link that
// the releaser `snapshot` makes. Other links above the root are just followed.
//
// Origins with the same root share their calls, counters and release. If their
// other settings differ, those apply that come last in the config.
type Dir struct {
	// The directory, as an absolute path. It may contain global placeholders
	// such as `{env.MIRROR_ROOT}`. Required.
	Root string `json:"root,omitempty"`

	// How often to look whether there is a new release. Default: `5s`.
	ReleaseCheck caddy.Duration `json:"release_check,omitempty"`

	// The path of a file in the tree, relative to the root, that changes with
	// every release and is the last to change: its time, size and content name
	// the release. While it is missing, and by default, the tree has no
	// releases. Unused if the root is a symbolic link, or lies below one to a
	// snapshot.
	ReleaseMarker string `json:"release_marker,omitempty"`

	// The AFS volume that the directory is in, if it is on a mounted AFS:
	// `afs://CELL:VOLUME`, or `afs://CELL/PATH` with the path of the root. Then its
	// file servers are asked for its releases. By default a mounted AFS has no
	// releases.
	ReleaseVolume string `json:"release_volume,omitempty"`

	// How long one call to the file system may take, from when it begins, before
	// the origin counts as away. Default: `10s`.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How many calls to the file system may be under way at a time. Further
	// ones wait, for `timeout` at most: then the origin counts as busy, which is
	// like away for those who asked, but leaves it to all others. Default: 16.
	Pool int `json:"pool,omitempty"`

	conf   *dirConf
	state  *dirState
	held   bool           // state is held in dirStates
	volume *volumeRelease // of ReleaseVolume
}

// CaddyModule returns the Caddy module information.
func (Dir) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "mirror.origins.dir",
		New: func() caddy.Module { return new(Dir) },
	}
}

// Provision sets d up. It does not touch the file system.
func (d *Dir) Provision(ctx caddy.Context) error {
	root, err := caddy.NewReplacer().ReplaceOrErr(d.Root, true, true)
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if !filepath.IsAbs(root) || strings.IndexByte(root, 0) >= 0 {
		return fmt.Errorf("root: %q is not an absolute path", root)
	}
	d.Root = filepath.Clean(root)

	if d.ReleaseCheck == 0 {
		d.ReleaseCheck = caddy.Duration(5 * time.Second)
	}
	if d.Timeout == 0 {
		d.Timeout = caddy.Duration(10 * time.Second)
	}
	if d.Pool == 0 {
		d.Pool = 16
	}
	// Before Validate: pool and timer must never see what it refuses.
	if err := d.Validate(); err != nil {
		return err
	}
	d.conf = &dirConf{
		serial:  dirSerial.Add(1),
		timeout: time.Duration(d.Timeout),
		check:   time.Duration(d.ReleaseCheck),
		marker:  d.ReleaseMarker,
		pool:    d.Pool,
		log:     ctx.Logger(),
	}
	s, _, err := dirStates.LoadOrNew(d.Root, func() (caddy.Destructor, error) {
		return newDirState(d.Root, d.conf), nil
	})
	if err != nil {
		return err
	}
	d.state = s.(*dirState)
	d.state.join(d.conf)
	d.held = true
	if d.ReleaseVolume != "" {
		if d.volume, err = newVolumeRelease(ctx, d.ReleaseVolume, d.ReleaseCheck); err != nil {
			return fmt.Errorf("release_volume: %w", err)
		}
	}
	return nil
}

// Validate checks the settings.
func (d *Dir) Validate() error {
	switch {
	case d.ReleaseCheck <= 0:
		return errors.New("release_check must be positive")
	case d.Timeout <= 0:
		return errors.New("timeout must be positive")
	case d.Pool < 1:
		return errors.New("pool must be at least 1")
	case d.ReleaseMarker != "" && d.ReleaseVolume != "":
		return errors.New("release_marker and release_volume exclude each other")
	case d.ReleaseMarker != "" && (!validName(d.ReleaseMarker) || d.ReleaseMarker == "."):
		return fmt.Errorf("release_marker: %q is not a path relative to the root", d.ReleaseMarker)
	}
	return nil
}

// Cleanup lets go of what d shares. Requests still under way go on.
func (d *Dir) Cleanup() error {
	if !d.held {
		return nil
	}
	d.held = false
	d.state.leave(d.conf)
	_, err := dirStates.Delete(d.Root)
	if d.volume != nil {
		err = errors.Join(err, d.volume.afs.Cleanup())
	}
	return err
}

// String returns the cleaned path of the root, placeholders replaced.
func (d *Dir) String() string { return d.Root }

// live returns the state, with the settings of d if they are the newest.
func (d *Dir) live() *dirState {
	d.state.adopt(d.conf)
	return d.state
}

// Stat describes the file or directory at name.
func (d *Dir) Stat(ctx context.Context, name string) (Info, error) {
	s := d.live()
	return ask(ctx, s, "stat", name, &s.count.stats, func(t *tree) (Info, error) {
		return t.stat(name)
	}, nil)
}

// Open opens the file at name for reading from offset on; at or behind its
// end there is nothing to read.
func (d *Dir) Open(ctx context.Context, name string, offset int64) (Body, error) {
	if offset < 0 {
		return nil, fmt.Errorf("open %q at %d: %w", name, offset, fs.ErrInvalid)
	}
	s := d.live()
	b, err := ask(ctx, s, "open", name, &s.count.reads, func(t *tree) (*body, error) {
		f, info, err := t.open(name)
		if err != nil {
			return nil, err
		}
		return &body{s: s, f: f, name: name, info: info, off: offset}, nil
	}, func(b *body) {
		if b != nil {
			b.Close()
		}
	})
	if err != nil {
		return nil, err // not a Body that holds a nil *body
	}
	return b, nil
}

// Release is the state of the tree as last seen. Its Seen is zero if it was
// never seen.
func (d *Dir) Release(ctx context.Context) Release {
	s := d.live()
	if d.volume != nil {
		return d.volume.release(ctx)
	}
	s.release.start.Do(func() { go s.watchRelease() })
	select {
	case <-s.release.looked:
	case <-ctx.Done():
	}
	return s.lastRelease()
}

// Status tells the state of the tree, for operators. It does not ask the file
// system.
func (d *Dir) Status() Status {
	s := d.state
	r := s.lastRelease()
	if d.volume != nil {
		r = d.volume.last()
	}
	st := s.count.status()
	st.Origin, st.State, st.Release, st.Seen = d.Root, "up", r.Token, r.Seen
	st.Stuck = s.pool.stuckCalls()
	if s.breaker.Open() {
		st.State = "away"
	}
	return st
}

// Interface guards
var (
	_ Tree               = (*Dir)(nil)
	_ caddy.Provisioner  = (*Dir)(nil)
	_ caddy.Validator    = (*Dir)(nil)
	_ caddy.CleanerUpper = (*Dir)(nil)
)
