package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/caddyafs"
)

func init() {
	caddy.RegisterModule(new(AFS))
}

// AFS is a tree in AFS, read from the file servers themselves: nothing has to be
// installed or mounted. The servers of the cell are found by the app `afs`.
//
// Only read-only volumes are served, so that what is read is always of one
// release, whichever server it comes from. The release names the states of all
// volumes that the tree reaches into. A file that a release has not changed need
// not be read again.
//
// Symbolic links are followed within the tree. What the file servers do not give
// to everybody is forbidden.
type AFS struct {
	// Root of the tree: `afs://CELL/PATH` from the root of the cell, or
	// `afs://CELL:VOLUME/PATH` from that of a volume. It may contain global
	// placeholders such as `{env.AFS_CELL}`. Required.
	Root string `json:"root,omitempty"`

	// ReadWrite allows volumes that are not read-only: those without read-only
	// copies, and mount points that ask for them. A tree with such a volume has no
	// releases.
	ReadWrite bool `json:"read_write,omitempty"`

	// How often to look whether there is a new release. Default: `5s`.
	ReleaseCheck caddy.Duration `json:"release_check,omitempty"`

	// How long one call may take before the origin counts as away. A server that
	// does not answer is left for another long before. Default: `10s`.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	name string
	root afs.Root
	app  *caddyafs.App
	log  *zap.Logger

	tree   atomic.Pointer[afs.Tree] // nil: to be made
	mu     sync.Mutex               // held to make it; guards closed
	closed bool

	count afsCounters
}

type afsCounters struct {
	counters

	away  atomic.Bool
	told  atomic.Int64 // when it was last logged that it is, in seconds since 1970
	taken atomic.Bool  // that has not been taken back
}

// CaddyModule returns the Caddy module information.
func (*AFS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.origins.afs", New: func() caddy.Module { return new(AFS) }}
}

// Provision sets the origin up. It asks nobody.
func (a *AFS) Provision(ctx caddy.Context) error {
	a.log = ctx.Logger()
	text, err := caddy.NewReplacer().ReplaceOrErr(a.Root, true, true)
	if err != nil {
		return fmt.Errorf("root: %w", err)
	}
	if a.root, err = caddyafs.ParseRoot(text); err != nil {
		return fmt.Errorf("root %q: %w", text, err)
	}
	if a.ReleaseCheck == 0 {
		a.ReleaseCheck = caddy.Duration(5 * time.Second)
	}
	if a.Timeout == 0 {
		a.Timeout = caddy.Duration(caddyafs.DefaultTimeout)
	}
	if a.ReleaseCheck < 0 || a.Timeout < 0 {
		return errors.New("a duration is negative")
	}
	a.root.Check = time.Duration(a.ReleaseCheck)
	a.root.ReadWrite = a.ReadWrite
	a.name = a.root.String()
	app, err := ctx.App("afs")
	if err != nil {
		return err
	}
	a.app = app.(*caddyafs.App)
	return nil
}

// Cleanup lets go of the tree. What is being read is read to its end.
func (a *AFS) Cleanup() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if t := a.tree.Load(); t != nil {
		return t.Close()
	}
	return nil
}

// String is the root, placeholders replaced.
func (a *AFS) String() string { return a.name }

// FailoverTime implements Failover.
func (a *AFS) FailoverTime() time.Duration { return afs.FailoverTime }

func (a *AFS) live() (*afs.Tree, error) {
	if t := a.tree.Load(); t != nil {
		return t, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.tree.Load(); t != nil {
		return t, nil
	}
	if a.closed {
		return nil, fmt.Errorf("%w: %w", ErrAway, fs.ErrClosed)
	}
	c, err := a.app.Client()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAway, err)
	}
	t, err := c.Tree(a.root)
	if err == nil {
		a.tree.Store(t)
	}
	return t, err
}

// askAFS makes one call to the tree.
func askAFS[T any](ctx context.Context, a *AFS, count *atomic.Uint64, f func(context.Context, *afs.Tree) (T, error)) (T, error) {
	count.Add(1)
	ctx, cancel := a.patience(ctx)
	defer cancel()
	v, err := guarded(a, func() (v T, err error) {
		t, err := a.live()
		if err != nil {
			return v, err
		}
		return f(ctx, t)
	})
	return v, a.outcome(ctx, err)
}

// guarded calls f, and turns a panic into an error.
func guarded[T any](a *AFS, f func() (T, error)) (v T, err error) {
	defer Recover(a.log, "origin afs", &err)
	return f()
}

// outcome counts how a call ended, and returns its error as an origin's.
func (a *AFS) outcome(ctx context.Context, err error) error {
	switch {
	case err == nil:
		a.back()
		return nil
	case errors.Is(err, afs.ErrIsDir):
		a.back()
		return ErrIsDir
	case !errors.Is(err, afs.ErrUnavailable) && !errors.Is(err, ErrAway) &&
		(errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrInvalid)):
		a.back()
		return err
	case errors.Is(err, fs.ErrClosed):
		return err // the body, or the configuration: says nothing about the cell
	}
	kind := ErrAway
	if errors.Is(err, afs.ErrBusy) {
		kind = ErrBusy
	}
	err = fmt.Errorf("%w: %w", kind, err)
	if errors.Is(ctx.Err(), context.Canceled) {
		return err // says nothing about the cell
	}
	a.count.failed(err)
	if kind == ErrBusy || errors.Is(err, afs.ErrChanged) || isPanic(err) ||
		ctx.Err() != nil && context.Cause(ctx) != errPatience { // the caller's own deadline
		return err
	}
	a.count.away.Store(true)
	if !a.count.taken.Load() && a.tell() {
		a.log.Warn("origin is away", zap.String("origin", a.name), zap.Error(err))
	}
	return err
}

// errPatience is why the context of a call ends when the origin's time-out is over.
var errPatience = fmt.Errorf("the origin's time-out is over: %w", context.DeadlineExceeded)

// patience bounds a call by the origin's time-out.
func (a *AFS) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, time.Duration(a.Timeout), errPatience)
}

// back notes that the origin answers.
func (a *AFS) back() {
	if a.count.away.Load() && a.count.away.Swap(false) && a.count.taken.Swap(false) {
		a.log.Info("origin is back", zap.String("origin", a.name))
	}
}

// tell reports whether it should be logged that the origin is away: not again and
// again where only a part of it is.
func (a *AFS) tell() bool {
	const again = 60
	now, last := time.Now().Unix(), a.count.told.Load()
	if now-last < again || !a.count.told.CompareAndSwap(last, now) {
		return false
	}
	a.count.taken.Store(true)
	return true
}

func afsInfo(i afs.Info) Info {
	info := Info{Name: i.Name, Dir: i.Dir(), Symlink: i.Symlink, Size: i.Size, ModTime: i.ModTime}
	if !i.Dir() && !i.Denied {
		info.Validator = i.Validator()
		info.ETag = i.ETag()
	}
	return info
}

// Stat describes the file or directory at name.
func (a *AFS) Stat(ctx context.Context, name string) (Info, error) {
	return askAFS(ctx, a, &a.count.stats, func(ctx context.Context, t *afs.Tree) (Info, error) {
		i, err := t.Stat(ctx, name)
		return afsInfo(i), err
	})
}

// ReadDir lists the directory at name, sorted by name. It reads all of it first.
func (a *AFS) ReadDir(ctx context.Context, name string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		list, err := askAFS(ctx, a, &a.count.lists, func(ctx context.Context, t *afs.Tree) ([]afs.Info, error) {
			return t.ReadDir(ctx, name)
		})
		if err != nil {
			yield(Info{}, err)
			return
		}
		for _, i := range list {
			if !yield(afsInfo(i), nil) {
				return
			}
		}
	}
}

// Open opens the file at name for reading from offset on.
func (a *AFS) Open(ctx context.Context, name string, offset int64) (Body, error) {
	if offset < 0 {
		return nil, fmt.Errorf("open %q at %d: %w", name, offset, fs.ErrInvalid)
	}
	f, err := askAFS(ctx, a, &a.count.reads, func(ctx context.Context, t *afs.Tree) (*afs.File, error) {
		return t.Open(ctx, name)
	})
	if err != nil {
		return nil, err
	}
	return &afsBody{a: a, f: f, r: f.Reader(offset)}, nil
}

// Release is the state of the tree's volumes as last seen.
func (a *AFS) Release(ctx context.Context) Release {
	t, err := a.live()
	if err != nil {
		return Release{}
	}
	r := t.Release(ctx)
	return Release{Token: r.Token, Seen: r.Seen}
}

// Status tells the state of the origin, for operators. It asks nobody.
func (a *AFS) Status() Status {
	st := a.count.status()
	st.Origin, st.State = a.name, "up"
	if t := a.tree.Load(); t != nil {
		r := t.Last()
		st.Release, st.Seen = r.Token, r.Seen
	}
	if unseen := 3*time.Duration(a.ReleaseCheck) + time.Duration(a.Timeout); a.count.away.Load() ||
		!st.Seen.IsZero() && time.Since(st.Seen) > unseen {
		st.State = "away"
	}
	return st
}

// afsBody is a file being read. Its version was confirmed when it was opened, and
// the client of AFS gives bytes of no other.
type afsBody struct {
	a *AFS
	f *afs.File
	r *afs.Reader
}

func (b *afsBody) Info() Info { return afsInfo(b.f.Info()) }

func (b *afsBody) Read(p []byte) (int, error) {
	ctx, cancel := b.a.patience(context.Background())
	defer cancel()
	n, err := guarded(b.a, func() (int, error) { return b.r.ReadContext(ctx, p) })
	b.a.count.readBytes.Add(uint64(n))
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, b.a.outcome(ctx, err)
}

// WriteTo writes the rest of the file, as it comes and without a copy.
func (b *afsBody) WriteTo(w io.Writer) (int64, error) {
	var written int64
	for {
		data, err := b.next()
		if err == io.EOF {
			return written, nil
		}
		if err != nil {
			return written, err
		}
		n, err := w.Write(data)
		written += int64(n)
		if err != nil {
			return written, err
		}
	}
}

func (b *afsBody) next() ([]byte, error) {
	ctx, cancel := b.a.patience(context.Background())
	defer cancel()
	data, err := guarded(b.a, func() ([]byte, error) { return b.r.Next(ctx) })
	if err == nil || err == io.EOF {
		b.a.count.readBytes.Add(uint64(len(data)))
		return data, err
	}
	return nil, b.a.outcome(ctx, err)
}

func (b *afsBody) Close() error {
	return errors.Join(b.r.Close(), b.f.Close())
}

// Interface guards
var (
	_ Tree               = (*AFS)(nil)
	_ io.WriterTo        = (*afsBody)(nil)
	_ caddy.Provisioner  = (*AFS)(nil)
	_ caddy.CleanerUpper = (*AFS)(nil)
)
