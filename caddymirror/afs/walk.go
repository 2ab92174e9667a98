package afs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"syscall"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

const (
	maxLinks  = 40
	maxMounts = 32
	maxNames  = 1024       // on the way, links included
	maxDir    = 1023 << 11 // bytes
	walkTries = 8
)

const eio = syscall.EIO

var (
	errLoop = fmt.Errorf("too many symbolic links: %w", fs.ErrNotExist)

	// ErrRefused says that a volume is not read-only, and that such are not
	// allowed.
	ErrRefused = fmt.Errorf("only read-only volumes are served: %w", fs.ErrPermission)
)

// node is a file or directory on the way.
type node struct {
	vol *volume
	fid wire.FID

	// listed tells that its directory may be listed, and the files in it not read.
	listed bool
}

// walk is the way to a file. All that it sees of a volume is of one release.
type walk struct {
	ctx  context.Context //nolint:containedctx // a walk is one call
	t    *Tree
	name string

	stack  []node
	left   []string // names to go
	inside int      // how many of those are within the tree
	floor  int      // the height of the stack at the root of the tree; 0: it is not there yet
	links  int
	mounts int
	seen   int
	pins   map[*volume]uint32    // releases
	told   map[*volume][]*server // who has told of statuses in this walk
}

// walk takes the way to name, and does something there. When a volume is released
// on the way, it starts over.
func (t *Tree) walk(ctx context.Context, op, name string, do func(*walk) error) error {
	fail := func(err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }
	if !validName(name) {
		return fail(fs.ErrInvalid)
	}
	t.begin()
	for n := 1; ; n++ {
		err := t.c.contained("afs walk", func() error { return t.walkOnce(ctx, name, do) })
		switch {
		case err == nil:
			return nil
		case n < walkTries && (errors.Is(err, errRenewed) || n < 3 && errors.Is(err, wire.VNoVnode)) && ctx.Err() == nil:
			continue
		case errors.Is(err, errRenewed):
			return fail(fmt.Errorf("%w: %w", ErrUnavailable, err))
		case errors.Is(err, wire.VNoVnode):
			return fail(fmt.Errorf("%w: %w", fs.ErrNotExist, err))
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			if !errors.Is(err, ErrUnavailable) {
				err = fmt.Errorf("%w: %w", ErrUnavailable, err)
			}
		}
		return fail(err)
	}
}

func (t *Tree) walkOnce(ctx context.Context, name string, do func(*walk) error) error {
	names := elements(name)
	w := &walk{ctx: ctx, t: t, name: name, left: slices.Concat(t.base, names), inside: len(names), pins: map[*volume]uint32{}, told: map[*volume][]*server{}}
	base, typ := wire.SplitVolumeName(t.root.Volume)
	v, err := w.volume(t.c.cell(t.root.Cell), base, typ == wire.ReadOnly || !t.root.ReadWrite, wire.ReadOnly)
	if errors.Is(err, errNoVolume) {
		// The whole tree is gone: more likely an accident than meant.
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err != nil {
		return err
	}
	w.push(v)
	return do(w)
}

// validName is [fs.ValidPath] for names that are not UTF-8.
func validName(name string) bool {
	if name == "." {
		return true
	}
	for e := range strings.SplitSeq(name, "/") {
		if e == "" || e == "." || e == ".." || strings.IndexByte(e, 0) >= 0 {
			return false
		}
	}
	return true
}

// push enters the root directory of a volume.
func (w *walk) push(v *volume) {
	w.stack = append(w.stack, node{vol: v, fid: wire.Root(v.currentID())})
	w.t.use(v, w.floor == 0)
}

func (w *walk) top() node { return w.stack[len(w.stack)-1] }

// resolve walks to the end, through symbolic links.
func (w *walk) resolve() (node, error) {
	for {
		n, err := w.lead()
		if err != nil {
			return node{}, err
		}
		if n.fid.Vnode%2 == 1 {
			return n, nil // a directory
		}
		st, err := w.status(n)
		if err != nil {
			return node{}, err
		}
		if st.Type != wire.Symlink {
			return n, nil
		}
		if err := w.follow(st); err != nil {
			return node{}, err
		}
	}
}

// lead walks along the names that are left. What the last one names may be a
// symbolic link.
func (w *walk) lead() (node, error) {
	for {
		if w.floor == 0 && len(w.left) <= w.inside {
			if again, err := w.arrive(); again || err != nil {
				if err != nil {
					return node{}, err
				}
				continue
			}
		}
		if len(w.left) == 0 {
			return w.top(), nil
		}
		name := w.left[0]
		w.left = w.left[1:]
		if w.seen++; w.seen > maxNames {
			return node{}, errLoop
		}
		if err := w.step(name); err != nil {
			return node{}, err
		}
	}
}

// arrive notes that the walk has come to the root of the tree, unless that is a
// link: then there is more way to go.
func (w *walk) arrive() (again bool, err error) {
	top := w.top()
	if top.fid.Vnode%2 == 0 {
		st, err := w.status(top)
		if err != nil {
			return false, err
		}
		if st.Type == wire.Symlink {
			return true, w.follow(st)
		}
	}
	w.floor = len(w.stack)
	return false, nil
}

// step walks into one name.
func (w *walk) step(name string) error {
	cur := w.top()
	if cur.fid.Vnode%2 == 0 {
		st, err := w.status(cur)
		switch {
		case err != nil:
			return err
		case st.Type != wire.Symlink:
			return fs.ErrNotExist // not a directory
		}
		w.left = slices.Concat([]string{name}, w.left)
		return w.follow(st)
	}
	if name == ".." {
		if len(w.stack) <= max(w.floor, 1) {
			return fmt.Errorf("link out of the tree: %w", fs.ErrNotExist)
		}
		w.stack = w.stack[:len(w.stack)-1]
		return nil
	}
	if strings.HasSuffix(name, "@sys") {
		return fs.ErrNotExist
	}
	dir, access, err := w.dir(cur)
	if err != nil {
		return err
	}
	vnode, unique, ok := dir.Lookup(name)
	if !ok {
		return fs.ErrNotExist
	}
	w.stack = append(w.stack, node{
		vol:    cur.vol,
		fid:    wire.FID{Volume: cur.fid.Volume, Vnode: vnode, Unique: unique},
		listed: access&wire.AccessRead == 0,
	})
	return nil
}

// follow replaces the symbolic link at the top by what it leads to.
func (w *walk) follow(st wire.Status) error {
	link := w.top()
	w.stack = w.stack[:len(w.stack)-1]
	text, err := w.link(link, st)
	if err != nil {
		return err
	}
	if st.IsMountPoint() {
		return w.mount(link.vol, text)
	}
	if w.links++; w.links > maxLinks {
		return errLoop
	}
	to := elements(text)
	if strings.HasPrefix(text, "/") {
		if to, err = w.absolute(to); err != nil {
			return err
		}
	}
	if len(to)+len(w.left) > maxNames {
		return errLoop
	}
	w.left = slices.Concat(to, w.left)
	return nil
}

// absolute starts over at the root of the cell, if that is where a link leads and
// the tree begins there, too. It returns the names to go.
func (w *walk) absolute(to []string) ([]string, error) {
	out := fmt.Errorf("link out of the tree: %w", fs.ErrNotExist)
	if w.t.root.Volume != RootCell || len(to) < 2 || to[0] != "afs" || to[1] != w.t.root.Cell {
		return nil, out
	}
	to = to[2:]
	if w.floor > 0 {
		base := w.t.base
		if len(to) < len(base) || !slices.Equal(to[:len(base)], base) {
			return nil, out
		}
		w.inside = len(to) - len(base) + len(w.left)
		w.floor = 0
	}
	w.stack = w.stack[:1]
	return to, nil
}

// mount enters the volume that a mount point of a volume leads to.
func (w *walk) mount(parent *volume, text string) error {
	m, err := wire.ParseMount([]byte(text))
	if err != nil {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	if w.mounts++; w.mounts > maxMounts {
		return errLoop
	}
	cl := parent.cell
	if m.Cell != "" {
		cl = w.t.c.cell(m.Cell)
	}
	base, typ := wire.SplitVolumeName(m.Volume)
	switch {
	case typ == wire.Backup:
		return ErrRefused
	case typ == wire.ReadWrite && m.Kind == '#' && (parent.typ == wire.ReadOnly || cl != parent.cell):
		typ = wire.ReadOnly
	case typ == wire.ReadOnly:
		m.Kind = '%'
	}
	v, err := w.volume(cl, base, m.Kind == '%', typ)
	if errors.Is(err, errNoVolume) {
		kind := fs.ErrNotExist
		if w.floor == 0 {
			kind = ErrUnavailable // as if it were the root of the tree
		}
		return fmt.Errorf("mount point: %w: %w", kind, err)
	}
	if err != nil {
		return err
	}
	w.push(v)
	return nil
}

// volume returns a volume that is there. Where it need not be exactly the type
// that is wanted, and is not read-only, the read-write one is taken.
func (w *walk) volume(cl *cell, name string, exact bool, typ wire.VolumeType) (*volume, error) {
	if typ == wire.ReadWrite && !w.t.root.ReadWrite {
		return nil, fmt.Errorf("volume %s: %w", name, ErrRefused)
	}
	v := cl.volume(name, typ)
	err := v.ready(w.ctx)
	switch {
	case err == nil:
		return v, nil
	case errors.Is(err, errNoReplica) && !w.t.root.ReadWrite:
		return nil, fmt.Errorf("volume %s has no read-only copies: %w", name, ErrRefused)
	case errors.Is(err, errNoReplica) && !exact:
		v = cl.volume(name, wire.ReadWrite)
		return v, v.ready(w.ctx)
	}
	return nil, err
}

// open opens the file at the end of the way.
func (w *walk) open(name string) (*File, error) {
	for {
		n, err := w.lead()
		if err != nil {
			return nil, err
		}
		if n.fid.Vnode%2 == 1 {
			return nil, ErrIsDir
		}
		if err := w.denied(n); err != nil {
			return nil, err
		}
		// One call for the status and the first bytes.
		f := &File{t: w.t, vol: n.vol, info: Info{Name: name, FID: n.fid}}
		st, err := f.begin(w.ctx)
		if errors.Is(err, fs.ErrPermission) {
			_, _ = w.status(n) // next time it is known
		}
		if err != nil {
			return nil, err
		}
		if err := w.pin(n.vol, f.release); err != nil {
			f.Close()
			return nil, err
		}
		if st.Type == wire.Symlink {
			f.Close()
			if err := w.follow(st); err != nil {
				return nil, err
			}
			continue
		}
		err = readable(st)
		if err == nil {
			err = w.confirm(f)
		}
		if err != nil {
			f.Close()
			return nil, err
		}
		return f, nil
	}
}
