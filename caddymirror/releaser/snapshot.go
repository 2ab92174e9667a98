package releaser

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(Snapshot{})
}

// Snapshot releases a tree by a copy of it, made of hard links, which costs no space
// for files that do not change. What is served is a symbolic link to the newest copy;
// it is replaced at once, so every look at it finds one whole release. The origin
// `dir` takes such a link for its root.
//
//	/srv/mirror                   the link that is served
//	/srv/mirror.releases/         the copies, and nothing else
//	/srv/mirror.releases/000007-20260301T120000.123456789Z/
//
// To go back to an older release, hold the job and make the link anew.
//
// Files are shared by the tree and its releases. So they must be replaced, never
// written into: what is written into a file of the tree shows in all releases. All
// syncers of this server replace files. A file that was written into nonetheless is
// found by its time and warned of, and the tree is released.
//
// A tree that changes while it is copied is not released, and a tree that has the same
// files as the last release is not released again. Nothing is left over of a release
// that was interrupted, once the next one has begun.
//
// Tree and releases must be in one file system.
type Snapshot struct {
	// The directory of the tree. Default: the directory of the job.
	Tree string `json:"tree,omitempty"`

	// The link to make, an absolute path. What lies there must be such a link, or
	// nothing. Required.
	Link string `json:"link,omitempty"`

	// How many releases are kept, with the one that is served. Whoever is still
	// reading an older one loses it. Default: 3.
	Keep int `json:"keep,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Snapshot) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.releasers.snapshot", New: func() caddy.Module { return new(Snapshot) }}
}

// Provision sets the defaults. It does not look for the directories.
func (s *Snapshot) Provision(caddy.Context) error {
	if s.Keep == 0 {
		s.Keep = 3
	}
	for _, path := range []*string{&s.Tree, &s.Link} {
		text, err := caddy.NewReplacer().ReplaceOrErr(*path, true, true)
		if err != nil {
			return err
		}
		if *path = text; text != "" {
			*path = filepath.Clean(text)
		}
	}
	return nil
}

// Validate checks the settings.
func (s *Snapshot) Validate() error {
	if s.Keep < 1 {
		return errors.New("keep must be at least 1")
	}
	if err := absolute("link", s.Link); err != nil {
		return err
	}
	if s.Link == "/" {
		return errors.New("link is the root of the file system")
	}
	if s.Tree == "" {
		return nil
	}
	if err := absolute("tree", s.Tree); err != nil {
		return err
	}
	return s.apart(s.Tree)
}

func absolute(name, path string) error {
	if !filepath.IsAbs(path) || strings.IndexByte(path, 0) >= 0 {
		return fmt.Errorf("%s: %q is not an absolute path", name, path)
	}
	return nil
}

// apart makes sure that no release contains another.
func (s *Snapshot) apart(tree string) error {
	for _, path := range []string{s.Link, s.releases()} {
		if step.Within(path, tree) || step.Within(tree, path) {
			return fmt.Errorf("the tree %s and its releases at %s must not lie in each other", tree, path)
		}
	}
	return nil
}

// UnmarshalCaddyfile sets up the releaser:
//
//	snapshot [<tree>] <link> {
//		keep <releases>
//	}
func (s *Snapshot) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	switch args := d.RemainingArgs(); len(args) {
	case 1:
		s.Link = args[0]
	case 2:
		s.Tree, s.Link = args[0], args[1]
	default:
		return d.ArgErr()
	}
	return block(d, func(option string) (err error) {
		if option != "keep" {
			return d.Errf("unrecognized option '%s'", option)
		}
		s.Keep, err = number(d, 1, 1000)
		return err
	})
}

// Targets names the link.
func (s *Snapshot) Targets() []string { return []string{"dir:" + s.Link} }

// Lane is empty: snapshots do not wait for each other.
func (s *Snapshot) Lane() string { return "" }

// releases is where the releases are.
func (s *Snapshot) releases() string { return s.Link + ".releases" }

// In the directory of the releases, names that begin with a dot are not releases:
const (
	lockName = ".lock" // held while there is a release under way
	newName  = ".new"  // the copy as it grows
	nextName = ".next" // the link to a finished copy, before it is renamed
	oldName  = ".old-" // what is being removed, and its name
)

// Release releases the tree.
func (s *Snapshot) Release(ctx context.Context, r *step.Run) (bool, error) {
	tree, err := s.tree(r)
	if err != nil {
		return false, err
	}
	if err := s.apart(tree); err != nil {
		return false, err
	}
	if err := s.prepare(tree); err != nil {
		return false, err
	}
	lock, err := s.lock()
	if err != nil {
		return false, err
	}
	defer lock.Close()
	if err := s.clean(); err != nil {
		return false, fmt.Errorf("removing what an interrupted release has left: %w", err)
	}
	current, err := s.current()
	if err != nil {
		return false, err
	}
	if current != "" {
		r.Report(step.Progress{Stage: "comparing", Done: -1, Detail: tree + " with " + current})
		same, err := s.compare(ctx, r, tree, current, nil)
		if same {
			s.prune(ctx, r, filepath.Base(current)) // the last release may not have come to it
		}
		if same || err != nil {
			return false, err
		}
	}
	name, err := s.name(current)
	if err != nil {
		return false, err
	}
	if err := s.copy(ctx, r, tree); err != nil {
		return false, errors.Join(err, s.clean())
	}
	r.Report(step.Progress{Stage: "switching", Done: -1, Detail: s.Link + " to " + name})
	if err := s.publish(name); err != nil {
		return false, errors.Join(err, s.clean())
	}
	r.Log.Info("released", zap.String("tree", tree), zap.String("link", s.Link), zap.String("release", name))
	s.prune(ctx, r, name)
	return true, nil
}

// tree is the tree that is released.
func (s *Snapshot) tree(r *step.Run) (string, error) {
	switch {
	case s.Tree != "":
		return filepath.Clean(s.Tree), nil
	case r.Dir != "":
		return filepath.Clean(r.Dir), nil
	}
	return "", errors.New("no tree: neither the job nor the snapshot has a directory")
}

// Same implements [Comparer]. Files that somebody has written into are not the same.
func (s *Snapshot) Same(ctx context.Context, r *step.Run) (bool, error) {
	tree, err := s.tree(r)
	if err != nil {
		return false, err
	}
	current, err := s.current()
	if err != nil || current == "" {
		return false, err
	}
	var ignored func(path string) bool
	if rel, err := filepath.Rel(r.Dir, tree); err == nil && r.Bookkeeping != nil && r.Dir != "" {
		ignored = func(path string) bool {
			return r.Bookkeeping(filepath.ToSlash(filepath.Join(rel, strings.TrimPrefix(path, tree))))
		}
	}
	return s.compare(ctx, r, tree, current, ignored)
}

// prepare looks at the tree, and makes the directory of the releases.
func (s *Snapshot) prepare(tree string) error {
	entries, err := os.ReadDir(tree)
	if err != nil {
		return fmt.Errorf("the tree: %w", err)
	}
	if len(entries) == 0 {
		return fmt.Errorf("the tree %s is empty: is its file system mounted?", tree)
	}
	if fi, err := os.Lstat(s.Link); err == nil && fi.Mode().Type() != fs.ModeSymlink {
		return fmt.Errorf("%s is not a symbolic link: move it away", s.Link)
	}
	err = os.Mkdir(s.releases(), 0o700)
	if err == nil {
		err = os.Chmod(s.releases(), 0o755) //nolint:gosec // to be read by the web server, whatever the umask
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the releases: %w", err)
	}
	var a, b unix.Stat_t
	if err := unix.Stat(tree, &a); err != nil {
		return fmt.Errorf("the tree: %w", err)
	}
	if err := unix.Stat(s.releases(), &b); err != nil {
		return fmt.Errorf("the releases: %w", err)
	}
	if a.Dev != b.Dev {
		return otherFileSystem(tree, s.releases())
	}
	return nil
}

func otherFileSystem(tree, releases string) error {
	return fmt.Errorf("%s and %s are in different file systems: a snapshot is made of hard links", tree, releases)
}

// lock makes sure that there is one release at a time, over all processes.
func (s *Snapshot) lock() (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.releases(), lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("another release of %s is under way", s.Link)
	}
	return nil, fmt.Errorf("%s: %w", f.Name(), err)
}

// clean removes what a release has left that was interrupted. A finished copy is
// published by renaming the link to it: while that has its first name, the copy was
// never seen by anybody.
func (s *Snapshot) clean() error {
	next := filepath.Join(s.releases(), nextName)
	if target, err := os.Readlink(next); err == nil {
		if err := remove(filepath.Join(s.releases(), filepath.Base(target))); err != nil {
			return err
		}
		if err := os.Remove(next); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(s.releases())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == newName || strings.HasPrefix(e.Name(), oldName) {
			if err := remove(filepath.Join(s.releases(), e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// current is the path of the release that is served, or empty if there is none of
// ours.
func (s *Snapshot) current() (string, error) {
	target, err := os.Readlink(s.Link)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(s.Link), target)
	}
	target = filepath.Clean(target)
	_, _, ok := parseName(filepath.Base(target))
	if !ok || filepath.Dir(target) != s.releases() {
		return "", nil
	}
	if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return target, nil
}

const stamp = "20060102T150405.000000000Z"

// parseName takes the name of a release apart.
func parseName(name string) (n int, made time.Time, ok bool) {
	number, when, ok := strings.Cut(name, "-")
	if !ok || len(number) < 6 {
		return 0, time.Time{}, false
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 {
		return 0, time.Time{}, false
	}
	made, err = time.Parse(stamp, when)
	return n, made, err == nil
}

// name is that of a new release. It is counted, since clocks may be set back.
func (s *Snapshot) name(current string) (string, error) {
	names, err := s.list()
	if err != nil {
		return "", err
	}
	n := 0
	for _, name := range append(names, filepath.Base(current)) {
		if m, _, ok := parseName(name); ok {
			n = max(n, m)
		}
	}
	return fmt.Sprintf("%06d-%s", n+1, time.Now().UTC().Format(stamp)), nil
}

// list names the releases, the oldest first.
func (s *Snapshot) list() ([]string, error) {
	entries, err := os.ReadDir(s.releases())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, _, ok := parseName(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		x, _, _ := parseName(a)
		y, _, _ := parseName(b)
		return x - y
	})
	return names, nil
}

// publish makes the copy under newName the release, and looks whether it is.
//
// There is no need to wait for the disk in between: should the power fail, a
// journaling file system has what came first, or neither. That the files themselves
// are on the disk, copy has made sure.
func (s *Snapshot) publish(name string) error {
	next := filepath.Join(s.releases(), nextName)
	target := filepath.Join(filepath.Base(s.releases()), name)
	if err := os.Symlink(target, next); err != nil {
		return err
	}
	made := filepath.Join(s.releases(), name)
	if err := os.Rename(filepath.Join(s.releases(), newName), made); err != nil {
		return err
	}
	want, err := os.Stat(made)
	if err != nil {
		return err
	}
	if err := os.Rename(next, s.Link); err != nil {
		return err
	}
	got, err := os.Stat(s.Link)
	if err != nil {
		return fmt.Errorf("after the release: %w", err)
	}
	if !os.SameFile(want, got) {
		return fmt.Errorf("after the release, %s does not lead to %s: is somebody else writing it?", s.Link, made)
	}
	return nil
}

// prune removes all releases but the last. If it cannot, that is no reason to call the
// release a failure.
func (s *Snapshot) prune(ctx context.Context, r *step.Run, current string) {
	r.Report(step.Progress{Stage: "removing", Done: -1, Detail: "old releases"})
	if err := s.removeOld(ctx, current); err != nil {
		r.Log.Warn("old releases could not be removed", zap.String("releases", s.releases()), zap.Error(err))
	}
}

// removeOld renames each release before it removes it, so that nobody takes half of
// one for a release.
func (s *Snapshot) removeOld(ctx context.Context, current string) error {
	names, err := s.list()
	if err != nil {
		return err
	}
	for _, name := range names[:max(0, len(names)-s.Keep)] {
		if name == current {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		old := filepath.Join(s.releases(), oldName+name)
		if err := os.Rename(filepath.Join(s.releases(), name), old); err != nil {
			return err
		}
		if err := remove(old); err != nil {
			return err
		}
	}
	return nil
}

// Interface guards
var (
	_ Releaser              = (*Snapshot)(nil)
	_ caddy.Provisioner     = (*Snapshot)(nil)
	_ caddy.Validator       = (*Snapshot)(nil)
	_ caddyfile.Unmarshaler = (*Snapshot)(nil)
)
