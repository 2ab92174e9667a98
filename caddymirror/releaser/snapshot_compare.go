package releaser

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// compare reports whether the tree has the same files as a release. Those that are ignored,
// by their paths, do not count; nil ignores none.
func (s *Snapshot) compare(ctx context.Context, r *step.Run, tree, release string, ignored func(path string) bool) (bool, error) {
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
	c := comparer{crew: newCrew(ctx), made: made.UnixNano(), now: time.Now().UnixNano(), ignored: ignored}
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
	ignored   func(path string) bool
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
	if c.ignored != nil {
		skip := func(name string) bool { return c.ignored(a.path + "/" + name) }
		names, others = slices.DeleteFunc(names, skip), slices.DeleteFunc(others, skip)
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
