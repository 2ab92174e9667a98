package releaser

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
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
