package gate

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"golang.org/x/sync/errgroup"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(new(Wheel))
}

// Wheel lets a tree of wheels pass in which each is one: it opens, its METADATA say what
// its name says, all files in it have the checksums that its RECORD lists, its tags fit
// the platform's directory that it lies in (`<distribution>-<version>-<architecture>`), and
// in `n/name/` lie wheels of `name` only.
//
// Wheels that were there when the tree was last released are not read again, by their
// size and time. One that was released may not change: clients, and caches, keep what they
// have of it. Files that begin with a dot are being written, and are not looked at.
type Wheel struct {
	// Read all wheels, also those that were released. Default: new ones.
	Hash bool `json:"hash,omitempty"`

	seen wheelRecord // in the last check
}

// CaddyModule returns the Caddy module information.
func (*Wheel) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.gates.wheel", New: func() caddy.Module { return new(Wheel) }}
}

// UnmarshalCaddyfile sets up the gate:
//
//	wheel {
//		hash
//	}
func (g *Wheel) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the gate's name
	if d.NextArg() {
		return d.ArgErr()
	}
	return options(d, map[string]option{"hash": flag(&g.Hash)})
}

// Check implements Gate.
func (g *Wheel) Check(ctx context.Context, r *step.Run) error {
	last, err := readWheelRecord(r)
	if err != nil {
		return err
	}
	t, err := openTree(r)
	if err != nil {
		return err
	}
	c := &wheelCheck{t: t, hash: g.Hash, last: last, progress: newProgress(ctx, r, "wheel")}
	c.now = wheelRecord{Run: r.ID, Wheels: map[string]releasedWheel{}}
	err = within(ctx, func(ctx context.Context) error {
		defer t.close()
		return c.run(ctx)
	})
	if ctx.Err() == nil {
		c.remarks.write(r.Out, "wheel")
	}
	if err == nil {
		g.seen = c.now
	}
	return err
}

// Remembers implements Recorder.
func (*Wheel) Remembers() string { return recordName("wheel") }

// Released implements Recorder.
func (g *Wheel) Released(r *step.Run) error { return g.seen.keep(r) }

// wheelCheck is one check of a tree.
type wheelCheck struct {
	t       *tree
	hash    bool
	last    *wheelRecord
	now     wheelRecord
	found   problems
	remarks remarks

	mu       sync.Mutex
	progress *progress
}

func (c *wheelCheck) run(ctx context.Context) error {
	var names []string
	err := c.t.walk(ctx, func(e entry) error {
		if base := path.Base(e.name); strings.HasSuffix(base, ".whl") && base[0] != '.' {
			names = append(names, e.name)
		}
		return nil
	})
	if err != nil {
		return err
	}
	looked := make([]releasedWheel, len(names))
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(lookers, len(names)) {
		g.Go(func() error {
			return guarded(func() error {
				for ctx.Err() == nil {
					i := int(next.Add(1)) - 1
					if i >= len(names) {
						return nil
					}
					c.report(i, len(names))
					w, err := c.look(ctx, names[i])
					if err := c.found.note(int64(i), names[i], err); err != nil {
						return fmt.Errorf("%s: %w", names[i], err)
					}
					looked[i] = w
				}
				return ctx.Err()
			})
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for i, name := range names {
		c.now.Wheels[name] = looked[i]
	}
	return c.found.err("wheel")
}

func (c *wheelCheck) report(done, all int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.progress.report(float64(done)/float64(all), "%d of %d wheels", done, all)
}

// look looks at one wheel. Its error may be a fault.Error.
func (c *wheelCheck) look(ctx context.Context, name string) (w releasedWheel, err error) {
	f, info, err := c.t.open(name)
	if err != nil {
		return w, err
	}
	defer f.Close()
	w = releasedWheel{Size: info.Size(), Time: info.ModTime().UnixNano()}
	before, released := c.last.Wheels[name]
	if released && before.Size == w.Size && before.Time == w.Time && !c.hash {
		return before, nil
	}
	sum, err := wheel.Sum(ctx, w.Size, func(off int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, off, w.Size-off)), nil
	})
	if err != nil {
		return w, err
	}
	w.SHA256 = hex.EncodeToString(sum[:])
	if released && before.SHA256 != w.SHA256 {
		return w, fault.Errorf("is another than was released under this name: a wheel may not change (%s)", c.last.hint)
	}
	opened, err := wheel.Open(f, w.Size, path.Base(name))
	if err != nil {
		return w, err
	}
	if err := fits(opened, name); err != nil {
		return w, err
	}
	if !sameTags(opened) {
		c.remarks.add(name, "has tags in its name that are not in its WHEEL")
	}
	return w, opened.Verify(ctx)
}

// fits compares a wheel with the directories that it lies in.
func fits(w *wheel.Wheel, name string) error {
	dirs := strings.Split(path.Dir(name), "/")
	for _, dir := range dirs {
		if m := platformDir.FindStringSubmatch(dir); m != nil && !runsOn(w.Name, m[1], m[2]) {
			return fault.Errorf("is for %s, and its directory for %s", fault.Show(w.Name.Platform), dir)
		}
	}
	project := pypi.Normalize(w.Name.Project)
	if n := len(dirs); n > 1 && len(dirs[n-2]) == 1 && (dirs[n-1] != project || dirs[n-2] != project[:1]) {
		return fault.Errorf("does not belong in %s/%s, but in %s/%s", dirs[n-2], dirs[n-1], project[:1], project)
	}
	return nil
}

// sameTags reports whether the tags of a wheel's name are those of its WHEEL, which no
// client looks at.
func sameTags(w *wheel.Wheel) bool {
	return !slices.ContainsFunc(w.Name.Tags(), func(t wheel.Tag) bool { return !slices.Contains(w.Tags, t) })
}

// platformDir is the name of a directory for one platform: `ubuntu-22.04-x86_64`. Projects
// may have names of the same form, but not with an architecture.
var platformDir = regexp.MustCompile(`^([a-z][a-z0-9_]*(?:-[a-z][a-z0-9_]*)*)-[0-9][0-9.]*-` +
	`(x86_64|amd64|aarch64|arm64|armv7l|armhf|i686|i386|ppc64le|s390x|riscv64|loongarch64)$`)

// machines are other names of architectures.
var machines = map[string]string{"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7l", "i386": "i686"}

// runsOn reports whether a wheel runs on a platform, as far as its tags say.
func runsOn(n wheel.Name, distribution, machine string) bool {
	if m, ok := machines[machine]; ok {
		machine = m
	}
	for _, t := range n.Tags() {
		libc, ok := strings.CutSuffix(t.Platform, "_"+machine)
		switch {
		case t.Platform == "any":
			return true
		case !ok:
		case libc == "linux", strings.HasPrefix(libc, "manylinux") && distribution != "alpine", strings.HasPrefix(libc, "musllinux") && distribution == "alpine":
			return true
		}
	}
	return false
}

// Interface guards
var (
	_ Recorder              = (*Wheel)(nil)
	_ caddyfile.Unmarshaler = (*Wheel)(nil)
)
