package releaser

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/step"
)

// A folder is an open directory.
type folder struct {
	file *os.File
	fd   int
	path string
}

// openFolder opens a directory: one below in, where no link is followed, or any.
func openFolder(in *folder, name string) (*folder, error) {
	at, path, flags := unix.AT_FDCWD, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC
	if in != nil {
		at, path, flags = in.fd, in.path+"/"+name, flags|unix.O_NOFOLLOW
	}
	var fd int
	err := again(func() (err error) {
		fd, err = unix.Openat(at, name, flags, 0)
		return err
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &folder{os.NewFile(uintptr(fd), path), fd, path}, nil
}

// again does what a signal has interrupted once more.
func again(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (d *folder) close() { d.file.Close() }

func (d *folder) names() ([]string, error) {
	names, err := d.file.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

// stat describes an entry, a link itself and not what it leads to.
func (d *folder) stat(name string, st *unix.Stat_t) error {
	err := again(func() error { return unix.Fstatat(d.fd, name, st, unix.AT_SYMLINK_NOFOLLOW) })
	if err != nil {
		return &fs.PathError{Op: "stat", Path: d.path + "/" + name, Err: err}
	}
	return nil
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

// A crew works on directories, several at a time, each within its own.
type crew struct {
	*errgroup.Group
	ctx     context.Context
	entries atomic.Int64
}

func newCrew(ctx context.Context) *crew {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(max(runtime.GOMAXPROCS(0), 2))
	return &crew{Group: g, ctx: ctx}
}

// do has somebody else do f, or does it, if nobody is free.
func (c *crew) do(f func() error) error {
	if c.TryGo(f) {
		return nil
	}
	return f()
}

// count counts entries, and ends the work when the run ends.
func (c *crew) count(n int) error {
	c.entries.Add(int64(n))
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	return nil
}

// finish starts the work and waits for its end. Meanwhile it reports.
func (c *crew) finish(r *step.Run, stage string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		c.Go(f)
		done <- c.Wait()
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			r.Report(step.Progress{Stage: stage, Done: -1, Detail: strconv.FormatInt(c.entries.Load(), 10) + " files"})
		}
	}
}

// A record is what tells the states of a directory apart: a sum of the names, inodes,
// sizes and times in it, and the records of the directories in it.
type record struct {
	sum  uint64
	dirs []*record
}

// seed is that of the sums, which live no longer than this process.
var seed = maphash.MakeSeed()

func newSum() *maphash.Hash {
	h := new(maphash.Hash)
	h.SetSeed(seed)
	return h
}

// add adds an entry to the sum of its directory. That of a directory is in its own
// sum, so its size and time say nothing.
func add(h *maphash.Hash, name string, st *unix.Stat_t) {
	var b [40]byte
	binary.LittleEndian.PutUint64(b[0:], uint64(len(name)))
	binary.LittleEndian.PutUint64(b[8:], uint64(st.Mode))
	binary.LittleEndian.PutUint64(b[16:], st.Ino)
	if !isDir(st) {
		binary.LittleEndian.PutUint64(b[24:], uint64(st.Size))
		binary.LittleEndian.PutUint64(b[32:], uint64(unix.TimespecToNsec(st.Mtim)))
	}
	h.WriteString(name)
	h.Write(b[:])
}

// copy copies the tree, under newName, and makes sure that it stayed the same
// meanwhile, and that it is on the disk.
func (s *Snapshot) copy(ctx context.Context, r *step.Run, tree string) error {
	src, err := openFolder(nil, tree)
	if err != nil {
		return err
	}
	defer src.close()
	made := filepath.Join(s.releases(), newName)
	if err := os.Mkdir(made, 0o700); err != nil {
		return err
	}
	dst, err := openFolder(nil, made)
	if err != nil {
		return err
	}
	defer dst.close()

	// Syncers do not wait for the disk, but a release outlives a power failure. Links
	// need no such care: they are in the journal before the switch.
	synced := make(chan error, 1)
	go func() { synced <- syncfs(tree) }()

	r.Report(step.Progress{Stage: "copying", Done: -1, Detail: tree})
	c := copier{crew: newCrew(ctx), releases: s.releases()}
	all := new(record)
	if err := c.finish(r, "copying", func() error { return c.copy(src, dst, all) }); err != nil {
		return changing(err)
	}
	r.Report(step.Progress{Stage: "verifying", Done: -1, Detail: tree})
	again, err := openFolder(nil, tree)
	if err != nil {
		return changing(err)
	}
	defer again.close()
	v := verifier{newCrew(ctx)}
	if err := v.finish(r, "verifying", func() error { return v.verify(again, all) }); err != nil {
		return changing(err)
	}
	if err := <-synced; err != nil {
		return fmt.Errorf("writing the tree to the disk: %w", err)
	}
	return nil
}

func syncfs(path string) error {
	d, err := openFolder(nil, path)
	if err != nil {
		return err
	}
	defer d.close()
	return unix.Syncfs(d.fd)
}

// changing tells errors that come of a tree that changes under the copy.
func changing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("the tree changed while it was copied: %w", err)
	}
	return err
}

// A copier copies directories by making links to all files.
type copier struct {
	*crew
	releases string // for what it has to say
}

func (c *copier) copy(src, dst *folder, rec *record) error {
	names, err := src.names()
	if err != nil {
		return err
	}
	if err := c.count(len(names)); err != nil {
		return err
	}
	var self unix.Stat_t
	if err := again(func() error { return unix.Fstat(src.fd, &self) }); err != nil {
		return &fs.PathError{Op: "stat", Path: src.path, Err: err}
	}
	var dirs []string
	sum := newSum()
	for _, name := range names {
		var st unix.Stat_t
		if err := src.stat(name, &st); err != nil {
			return err
		}
		add(sum, name, &st)
		if st.Dev != self.Dev {
			return otherFileSystem(src.path+"/"+name, c.releases)
		}
		if isDir(&st) {
			err = again(func() error { return unix.Mkdirat(dst.fd, name, 0o700) })
			dirs = append(dirs, name)
		} else {
			err = again(func() error { return unix.Linkat(src.fd, name, dst.fd, name, 0) })
		}
		if err != nil {
			return c.refused(src.path+"/"+name, err)
		}
	}
	rec.sum = sum.Sum64()
	if err := dress(dst, &self); err != nil {
		return err
	}
	rec.dirs = make([]*record, len(dirs))
	for i, name := range dirs {
		if err := c.enter(src, dst, name, &rec.dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) enter(src, dst *folder, name string, rec **record) error {
	*rec = new(record)
	from, err := openFolder(src, name)
	if err != nil {
		return err
	}
	to, err := openFolder(dst, name)
	if err != nil {
		from.close()
		return err
	}
	sub := *rec
	return c.do(func() error {
		defer from.close()
		defer to.close()
		return c.copy(from, to, sub)
	})
}

// refused says what can be done about a link that cannot be made.
func (c *copier) refused(path string, err error) error {
	switch {
	case errors.Is(err, unix.EXDEV):
		return otherFileSystem(path, c.releases)
	case errors.Is(err, unix.EPERM):
		err = fmt.Errorf("%w: files of others can be linked by root only (fs.protected_hardlinks), and not all file systems have hard links", err)
	case errors.Is(err, unix.EMLINK):
		err = fmt.Errorf("%w: keep fewer releases", err)
	}
	return &fs.PathError{Op: "link", Path: path, Err: err}
}

// dress gives a directory the owner, mode and times of another.
func dress(d *folder, st *unix.Stat_t) error {
	err := error(nil)
	if os.Geteuid() == 0 {
		err = unix.Fchown(d.fd, int(st.Uid), int(st.Gid))
	}
	if err == nil {
		err = unix.Fchmod(d.fd, st.Mode&0o7777)
	}
	if err == nil {
		err = unix.UtimesNanoAt(d.fd, ".", []unix.Timespec{st.Atim, st.Mtim}, 0)
	}
	if err != nil {
		return &fs.PathError{Op: "setting mode and times of", Path: d.path, Err: err}
	}
	return nil
}

// A verifier compares a tree with the record of it.
type verifier struct{ *crew }

func (v *verifier) verify(d *folder, rec *record) error {
	names, err := d.names()
	if err != nil {
		return err
	}
	if err := v.count(len(names)); err != nil {
		return err
	}
	var dirs []string
	sum := newSum()
	for _, name := range names {
		var st unix.Stat_t
		if err := d.stat(name, &st); err != nil {
			return err
		}
		add(sum, name, &st)
		if isDir(&st) {
			dirs = append(dirs, name)
		}
	}
	if sum.Sum64() != rec.sum || len(dirs) != len(rec.dirs) {
		return fmt.Errorf("the tree changed while it was copied: files in %s", d.path)
	}
	for i, name := range dirs {
		sub, err := openFolder(d, name)
		if err != nil {
			return err
		}
		err = v.do(func() error {
			defer sub.close()
			return v.verify(sub, rec.dirs[i])
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// compare reports whether the tree has the same files as a release.
func (s *Snapshot) compare(ctx context.Context, r *step.Run, tree, release string) (bool, error) {
	a, err := openFolder(nil, tree)
	if err != nil {
		return false, err
	}
	defer a.close()
	b, err := openFolder(nil, release)
	if err != nil {
		return false, err
	}
	defer b.close()
	_, made, _ := parseName(filepath.Base(release))
	c := comparer{crew: newCrew(ctx), made: made.UnixNano(), now: time.Now().UnixNano()}
	err = c.finish(r, "comparing", func() error { return c.compare(a, b) })
	if path := c.written.Load(); path != nil {
		r.Log.Warn("a file of the tree was written into, and so was its release; files must be replaced", zap.String("file", *path))
	}
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.Is(err, errDiffers), errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, err
}

var errDiffers = errors.New("the trees differ")

// A comparer compares a tree with a release.
type comparer struct {
	*crew
	made, now int64 // when the release was made, and now
	written   atomic.Pointer[string]
}

func (c *comparer) compare(a, b *folder) error {
	names, err := a.names()
	if err != nil {
		return err
	}
	others, err := b.names()
	if err != nil {
		return err
	}
	if !slices.Equal(names, others) {
		return errDiffers
	}
	if err := c.count(len(names)); err != nil {
		return err
	}
	var dirs []string
	for _, name := range names {
		var st, old unix.Stat_t
		if err := errors.Join(a.stat(name, &st), b.stat(name, &old)); err != nil {
			return err
		}
		if err := c.same(a.path+"/"+name, &st, &old); err != nil {
			return err
		}
		if isDir(&st) {
			dirs = append(dirs, name)
		}
	}
	for _, name := range dirs {
		if err := c.enter(a, b, name); err != nil {
			return err
		}
	}
	return nil
}

// same compares an entry. What is one file with that of the release can still have
// been written into since then.
func (c *comparer) same(path string, st, old *unix.Stat_t) error {
	if isDir(st) {
		if st.Mode != old.Mode {
			return errDiffers
		}
		return nil
	}
	if st.Ino != old.Ino || st.Dev != old.Dev {
		return errDiffers
	}
	if t := unix.TimespecToNsec(st.Mtim); t > c.made && t <= c.now {
		c.written.CompareAndSwap(nil, &path)
		return errDiffers
	}
	return nil
}

func (c *comparer) enter(a, b *folder, name string) error {
	x, err := openFolder(a, name)
	if err != nil {
		return err
	}
	y, err := openFolder(b, name)
	if err != nil {
		x.close()
		return err
	}
	return c.do(func() error {
		defer x.close()
		defer y.close()
		return c.compare(x, y)
	})
}

// remove removes a release, several directories at a time.
func remove(path string) error {
	d, err := openFolder(nil, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return os.RemoveAll(path)
	}
	defer d.close()
	c := newCrew(context.Background())
	c.Go(func() error { return c.empty(d) })
	if err := c.Wait(); err != nil {
		return err
	}
	return os.RemoveAll(path) // the directories
}

// empty removes all but directories.
func (c *crew) empty(d *folder) error {
	if err := unix.Fchmod(d.fd, 0o700); err != nil {
		return &fs.PathError{Op: "chmod", Path: d.path, Err: err}
	}
	entries, err := d.file.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			err := again(func() error { return unix.Unlinkat(d.fd, e.Name(), 0) })
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return &fs.PathError{Op: "remove", Path: d.path + "/" + e.Name(), Err: err}
			}
			continue
		}
		sub, err := openFolder(d, e.Name())
		if err != nil {
			return err
		}
		err = c.do(func() error {
			defer sub.close()
			return c.empty(sub)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
