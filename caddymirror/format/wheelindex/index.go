// Package wheelindex lays a Python package index over a tree of wheels and source
// distributions: pages of the simple repository API and the metadata of wheels, made from
// the files themselves (PEP 503, 658, 691, 700, 714).
//
// # Layouts
//
// A tree is one index or, where it has directories named `DISTRIBUTION-VERSION-ARCH`
// (`ubuntu-22.04-x86_64`), one for each of them. In an index, files lie in its directory,
// in a directory for each project, or in such directories by the project's first
// character (`f/foo`). A file belongs to the project in its name, wherever it lies and
// however its directory is spelled. Links to directories are not followed, except for
// those that have the name of an index.
//
// # What is laid over it
//
// Below the directory of an index, `simple/` and `simple/PROJECT/` have the pages
// `index.html` and `index.v1_json`, and so has `PROJECT/` in any spelling, whether there is
// such a directory or not. All else in `PROJECT/` is that of the project's own directory.
// A wheel has its METADATA beside it, under its name and `.metadata`. What the tree itself
// has under one of these names is never hidden.
//
// # How it is kept
//
// A tree is listed once for each of its releases or, where it has none, again when
// pages are asked for. Each file is read once, in the background; files that a request
// waits for go first. What was read is kept in [Facts], with the file's Validator.
// Until a file was read, pages link it without a checksum, and must not be cached.
// A file that was changed just now is linked so, too, if it opens: else it is being
// written. Corrupt files, and files that are being written, are left out; [Index.Status]
// names them. As long as more may be found out, what is not there is not there yet
// ([origin.ErrNotYet]).
//
// The release of the index is made of the tree's and, once all of its files are read,
// of what is known of them.
package wheelindex

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// Config is what an [Index] needs.
type Config struct {
	// Context ends the work in the background.
	Context context.Context //nolint:containedctx // a lifetime, and not a call's

	Log *zap.Logger

	// Hidden, if it is not nil, reports whether a file or directory is to be left out, as if
	// it were not there.
	Hidden func(name string) bool

	// Facts keeps what was read from files.
	Facts Facts

	// Workers is how many files are read at a time in the background. Default: 2.
	Workers int
}

// Facts keeps what is expensive to find out. Any fact may be gone at any time.
type Facts interface {
	Get(name string) (value []byte, ok bool)
	Put(name string, value []byte) error
}

// Index is a tree with an index laid over it. It starts reading when it is first
// asked for something.
type Index struct {
	from   origin.Tree
	conf   Config
	boot   string       // tells tokens of this index from those of others
	active atomic.Int64 // calls and bodies of clients
	token  atomic.Pointer[token]
	began  time.Time // when the work in the background began

	// mu guards what follows. Nothing is read or waited for while it is held, and of
	// other locks only that of a tree is taken.
	mu      sync.Mutex
	started bool
	newest  *tree
	walked  *tree // the newest one that was listed to its end
	whole   *tree // the newest one of which all files are known
	known   map[string]*fact
	queue   queue
	gen     uint64
}

// New returns a tree with an index laid over it. It asks for nothing yet.
func New(from origin.Tree, conf Config) *Index {
	if conf.Workers <= 0 {
		conf.Workers = 2
	}
	x := &Index{from: from, conf: conf, boot: newBoot(), known: map[string]*fact{}}
	x.queue.init(&x.mu)
	return x
}

// String implements [origin.Tree].
func (x *Index) String() string { return x.from.String() }

// FailoverTime implements [origin.Failover].
func (x *Index) FailoverTime() time.Duration {
	if f, ok := x.from.(origin.Failover); ok {
		return f.FailoverTime()
	}
	return 0
}

// client notes that a client's call is under way, until the function that it returns is
// called: work in the background gives way to it.
func (x *Index) client() func() {
	x.active.Add(1)
	return func() { x.active.Add(-1) }
}

// Stat implements [origin.Tree].
func (x *Index) Stat(ctx context.Context, name string) (origin.Info, error) {
	defer x.client()()
	sure := x.sure()
	info, err := x.stat(ctx, name)
	return info, said(err, sure)
}

func (x *Index) stat(ctx context.Context, name string) (origin.Info, error) {
	if p, ok, err := x.page(ctx, name); ok {
		return p.info(), err
	}
	info, err := x.from.Stat(ctx, name)
	if !errors.Is(err, fs.ErrNotExist) {
		return info, err
	}
	if b, ok, err := x.metadata(ctx, name); ok {
		return b.info, err
	}
	if x.isDir(ctx, name) {
		return origin.Info{Name: path.Base(name), Dir: true}, nil
	}
	if other, ok := x.alias(ctx, name); ok {
		if info, err := x.from.Stat(ctx, other); !errors.Is(err, fs.ErrNotExist) {
			return info, err
		}
	}
	return info, err
}

// Open implements [origin.Tree].
func (x *Index) Open(ctx context.Context, name string, offset int64) (origin.Body, error) {
	done := x.client()
	sure := x.sure()
	b, err := x.open(ctx, name, offset)
	if err != nil {
		done()
		return nil, said(err, sure)
	}
	return watch(b, done), nil
}

func (x *Index) open(ctx context.Context, name string, offset int64) (origin.Body, error) {
	if p, ok, err := x.page(ctx, name); ok {
		if err != nil {
			return nil, err
		}
		return p.open(offset)
	}
	body, err := x.from.Open(ctx, name, offset)
	if !errors.Is(err, fs.ErrNotExist) {
		return body, err
	}
	if b, ok, err := x.metadata(ctx, name); ok {
		if err != nil {
			return nil, err
		}
		return b.from(offset)
	}
	if x.isDir(ctx, name) {
		return nil, origin.ErrIsDir
	}
	if other, ok := x.alias(ctx, name); ok {
		if body, err := x.from.Open(ctx, other, offset); !errors.Is(err, fs.ErrNotExist) {
			return body, err
		}
	}
	return nil, err
}

// ReadDir implements [origin.Tree]. The directory of an index has `simple` in it, too.
func (x *Index) ReadDir(ctx context.Context, name string) iter.Seq2[origin.Info, error] {
	return func(yield func(origin.Info, error) bool) {
		defer x.client()()
		none, hasSimple := false, false
		for info, err := range x.from.ReadDir(ctx, name) {
			if errors.Is(err, fs.ErrNotExist) {
				none = true
				break
			}
			hasSimple = hasSimple || info.Name == simple
			if !yield(info, err) || err != nil {
				return
			}
		}
		if !none {
			if root, rel := Split(name); rel == "" && !hasSimple && x.hasProjects(ctx, root) {
				yield(origin.Info{Name: simple, Dir: true}, nil)
			}
			return
		}
		if infos, ok := x.made(ctx, name); ok {
			for _, info := range infos {
				if !yield(info, nil) {
					return
				}
			}
			return
		}
		if other, ok := x.alias(ctx, name); ok {
			name = other
		}
		for info, err := range x.from.ReadDir(ctx, name) {
			if !yield(info, err) {
				return
			}
		}
	}
}

// relative is a path as a page in the directory from links it.
func relative(from, to string) string {
	if from == "." {
		return to
	}
	up := strings.Split(from, "/")
	down := strings.Split(to, "/")
	for len(up) > 0 && len(down) > 1 && up[0] == down[0] {
		up, down = up[1:], down[1:]
	}
	return strings.Repeat("../", len(up)) + strings.Join(down, "/")
}

// Interface guards
var (
	_ origin.Tree     = (*Index)(nil)
	_ origin.Failover = (*Index)(nil)
)
