package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"sync/atomic"
	"time"
)

// listStep is how many entries one call reads. Each is looked at, so it is
// small enough for an origin that needs 30 ms for a look not to be taken for
// one that hangs, with the default timeout.
const listStep = 256

// ReadDir lists the directory at name, as it is in the release that it was
// opened in. A symbolic link is described as what it leads to. Links that lead
// nowhere or out of the tree, and what is neither file nor directory, are left
// out.
func (d *Dir) ReadDir(ctx context.Context, name string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		if err := d.readDir(ctx, name, func(i Info) bool { return yield(i, nil) }); err != nil {
			yield(Info{}, err)
		}
	}
}

// readDir gives the entries of the directory at name to yield until that has
// had enough.
func (d *Dir) readDir(ctx context.Context, name string, yield func(Info) bool) error {
	type first struct {
		*listing
		step
	}
	s := d.live()
	opened, err := ask(ctx, s, "readdir", name, &s.count.lists, func(t *tree) (first, error) {
		l, err := newListing(s, t, name)
		if err != nil {
			return first{}, err
		}
		read, err := l.read()
		if err != nil {
			l.drop()
			return first{}, err
		}
		return first{l, read}, nil
	}, func(f first) {
		if f.listing != nil {
			f.drop()
		}
	})
	if err != nil {
		return err
	}
	defer opened.drop()
	for read := opened.step; ; {
		for _, i := range read.infos {
			if !yield(i) {
				return nil
			}
		}
		if read.end {
			return nil
		}
		if read, err = opened.next(ctx); err != nil {
			return err
		}
	}
}

// listing is a directory being listed, step by step.
//
// It is in use by whoever iterates, and by a call under way: one that is given
// up on still reads, so the directory is closed by the last of the two.
type listing struct {
	s     *dirState
	tree  *tree
	dir   *os.File
	name  string
	users atomic.Int32
}

// step is what one call has read. At the end there is no more.
type step struct {
	infos []Info
	end   bool
}

// newListing opens the directory at name in t, which the caller holds.
func newListing(s *dirState, t *tree, name string) (*listing, error) {
	dir, err := t.openDir(name)
	if err != nil {
		return nil, t.classify(err)
	}
	t.hold()
	l := &listing{s: s, tree: t, dir: dir, name: name}
	l.users.Store(1)
	return l, nil
}

// hold keeps the directory open, unless it is closed already.
func (l *listing) hold() bool {
	for {
		n := l.users.Load()
		if n == 0 || l.users.CompareAndSwap(n, n+1) {
			return n > 0
		}
	}
}

// drop lets go of the directory.
func (l *listing) drop() {
	if l.users.Add(-1) == 0 {
		l.s.pool.close(l.dir)
		l.s.drop(l.tree)
	}
}

// next reads on, in the pool.
func (l *listing) next(ctx context.Context) (step, error) {
	s := l.s
	read, err := do(ctx, &s.pool, &s.breaker, s.conf.Load().timeout, func() (step, error) {
		if !l.hold() { // the caller has left before this began
			return step{}, fs.ErrClosed
		}
		defer l.drop()
		if err := s.fault("readdir", l.name); err != nil {
			return step{}, away(err)
		}
		return l.read()
	}, nil)
	if errors.Is(err, fs.ErrNotExist) {
		// There may be another by now, so it must not count as not there. Nor
		// does it speak against the file system.
		err = fmt.Errorf("%w: the directory was removed while it was listed", ErrAway)
	}
	if err != nil {
		return step{}, s.failed("readdir", l.name, err)
	}
	return read, nil
}

// read reads the next entries, some of which may not be part of the listing.
func (l *listing) read() (step, error) {
	infos := make([]Info, 0, listStep)
	for left := listStep; left > 0; {
		seen := time.Now()
		fis, err := l.dir.Readdir(left)
		for _, fi := range fis {
			i, ok, err := l.tree.entry(l.dir, l.name, fi, seen)
			if err != nil {
				return step{}, err
			}
			if ok {
				infos = append(infos, i)
			}
		}
		if err == io.EOF {
			return step{infos, true}, nil
		}
		if err != nil {
			return step{}, l.tree.classify(err)
		}
		left -= len(fis)
	}
	return step{infos: infos}, nil
}
