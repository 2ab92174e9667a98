package afs

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/cells"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// Root says where a tree begins.
type Root struct {
	// Cell is the name of the cell. Required.
	Cell string

	// Volume is the name, or number, of the volume that Path begins in. Default:
	// root.cell, the root of the cell.
	Volume string

	// Path leads from the root of the volume to that of the tree, with slashes
	// and without `.` and `..`. Default: the root of the volume.
	Path string

	// ReadWrite allows volumes that are not read-only: those without read-only
	// copies, and mount points that name them. They have no releases.
	ReadWrite bool

	// Check is how often to look for a new release. Default: 5s.
	Check time.Duration
}

// RootCell is the volume at the root of a cell.
const RootCell = "root.cell"

// Validate checks the root, without asking anybody.
func (r Root) Validate() error {
	base, typ := wire.SplitVolumeName(r.Volume)
	switch {
	case !cells.ValidName(r.Cell):
		return fmt.Errorf("%q is not the name of a cell", r.Cell)
	case base == "" && r.Volume != "", strings.ContainsAny(r.Volume, "/: \x00"):
		return fmt.Errorf("%q is not the name of a volume", r.Volume)
	case typ == wire.Backup:
		return errors.New("backup volumes are not served")
	case r.Path != "" && !validPath(r.Path):
		return fmt.Errorf("%q is not a path", r.Path)
	case r.Check < 0:
		return errors.New("the time between two looks for a release is negative")
	}
	return nil
}

// String is the root in the form of a URL: afs://CELL/PATH, or
// afs://CELL:VOLUME/PATH.
func (r Root) String() string {
	s := "afs://" + r.Cell
	if r.Volume != "" && r.Volume != RootCell {
		s += ":" + r.Volume
	}
	return s + "/" + strings.Join(elements(r.Path), "/")
}

func validPath(p string) bool {
	return path.Clean("/"+p) == "/"+strings.TrimSuffix(p, "/") && !strings.Contains(p, "\x00")
}

// Tree is a part of AFS. Names in it are slash-separated paths relative to its
// root, in the form of [fs.ValidPath] but for being any bytes; the root is ".".
// Symbolic links are followed, but not out of the tree. It is safe for
// concurrent use.
type Tree struct {
	c    *Client
	root Root
	base []string // elements of the path to the root of the tree

	start sync.Once
	seen  chan struct{} // closed after the first look for releases
	kick  chan struct{}
	stop  context.CancelFunc
	ctx   context.Context //nolint:containedctx // ends with the tree

	mu      sync.Mutex // guards what follows
	volumes map[*volume]bool
	own     map[*volume]bool // those on the way to the root

	// last is made of the volumes, and anew once moves has grown: with the lock of the
	// volume that has moved held, or mu.
	last  atomic.Pointer[lastRelease]
	moves atomic.Uint64
}

// Tree returns the tree at a root. It asks nobody yet. It has to be closed.
func (c *Client) Tree(r Root) (*Tree, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if r.Volume == "" {
		r.Volume = RootCell
	}
	if r.Check == 0 {
		r.Check = 5 * time.Second
	}
	t := &Tree{
		c: c, root: r, base: elements(r.Path),
		seen: make(chan struct{}), kick: make(chan struct{}, 1), volumes: map[*volume]bool{}, own: map[*volume]bool{},
	}
	t.ctx, t.stop = context.WithCancel(c.ctx)
	return t, nil
}

// Close ends the tree. Files that are open stay so.
func (t *Tree) Close() error {
	t.stop()
	t.mu.Lock()
	defer t.mu.Unlock()
	for v := range t.volumes {
		v.forget(t)
	}
	return nil
}

// elements splits a path.
func elements(p string) []string {
	return slices.DeleteFunc(strings.Split(p, "/"), func(e string) bool { return e == "" || e == "." })
}

// Info describes a file or directory.
type Info struct {
	Name        string // the last element
	Type        wire.FileType
	Symlink     bool // it was reached through a symbolic link (of ReadDir only)
	Size        int64
	ModTime     time.Time
	Mode        uint32 // permission bits
	FID         wire.FID
	DataVersion uint64

	// Denied tells that a directory lists it, and that more is not to be known.
	Denied bool

	changed time.Time // as the server saw it
}

// Dir reports whether it is a directory.
func (i Info) Dir() bool { return i.Type == wire.Directory }

// Validator is equal for two files only if their contents are. It is made of FID
// and data version; and of time and size as well, since a volume that was
// restored from a backup counts its versions on from there.
func (i Info) Validator() string {
	b := make([]byte, 0, 64)
	for _, n := range [...]uint64{uint64(i.FID.Volume), uint64(i.FID.Vnode), uint64(i.FID.Unique), i.DataVersion} {
		b = append(strconv.AppendUint(b, n, 10), '.')
	}
	b = strconv.AppendInt(b, i.Size, 36)
	b = append(b, '.')
	return string(strconv.AppendInt(b, i.changed.Unix(), 36))
}

// ETag is a strong entity tag (RFC 9110 section 8.8.3) of the contents, quotes
// included: the same for all who read the cell.
func (i Info) ETag() string {
	h := fnv.New64a()
	h.Write([]byte(i.Validator()))
	return `"` + strconv.FormatUint(h.Sum64(), 36) + "-" + strconv.FormatInt(i.Size, 36) + `"`
}

func infoOf(name string, fid wire.FID, st wire.Status) Info {
	return Info{
		Name: name, Type: st.Type, Size: st.Length, ModTime: st.ModTime, Mode: st.Mode,
		FID: fid, DataVersion: st.DataVersion, changed: st.ServerModTime,
	}
}

// Stat describes the file or directory at name.
func (t *Tree) Stat(ctx context.Context, name string) (Info, error) {
	var info Info
	err := t.walk(ctx, "stat", name, func(w *walk) error {
		n, err := w.resolve()
		if err != nil {
			return err
		}
		st, err := w.status(n)
		if err != nil {
			return err
		}
		if err := w.confirmTold(); err != nil {
			return err
		}
		info = infoOf(path.Base(name), n.fid, st)
		return readable(st)
	})
	return info, err
}

// readable is whether the file server would give a file's contents to us.
func readable(st wire.Status) error {
	const owner = 0o500
	switch {
	case st.Type == wire.Directory && st.CallerAccess&wire.AccessLookup == 0,
		st.Type == wire.File && (st.CallerAccess&wire.AccessRead == 0 || st.Mode&owner == 0):
		return fs.ErrPermission
	}
	return nil
}

// Open opens the file at name. Its error is [ErrIsDir] for a directory.
func (t *Tree) Open(ctx context.Context, name string) (*File, error) {
	var f *File
	err := t.walk(ctx, "open", name, func(w *walk) error {
		var err error
		f, err = w.open(path.Base(name))
		return err
	})
	return f, err
}

// ErrIsDir is returned by Open for a directory.
var ErrIsDir = errors.New("is a directory")

// ReadDir lists the directory at name, sorted by name. Symbolic links and mount
// points are described as what they lead to; those that lead nowhere are left
// out.
func (t *Tree) ReadDir(ctx context.Context, name string) ([]Info, error) {
	var list []Info
	err := t.walk(ctx, "list", name, func(w *walk) error {
		var err error
		if list, err = w.list(); err == nil {
			err = w.confirmTold()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	list, err = t.followAll(ctx, name, list)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// maxFollow is how many links of a listing are followed at a time.
const maxFollow = 16

// followAll describes the symbolic links in a listing as what they lead to.
func (t *Tree) followAll(ctx context.Context, dir string, list []Info) ([]Info, error) {
	var g errgroup.Group
	g.SetLimit(maxFollow)
	lost := make([]bool, len(list))
	for i := range list {
		if list[i].Type != wire.Symlink {
			continue
		}
		g.Go(func() (err error) {
			list[i], lost[i], err = t.followOne(ctx, dir, list[i])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	kept := list[:0]
	for i, info := range list {
		if !lost[i] {
			kept = append(kept, info)
		}
	}
	return kept, nil
}

// followOne describes a symbolic link or mount point as what it leads to. It is
// lost if that is nothing. A volume that cannot be read just now is no reason for
// not listing the rest.
func (t *Tree) followOne(ctx context.Context, dir string, link Info) (to Info, lost bool, err error) {
	isMount := link.Mode&0o111 == 0
	to, err = t.Stat(ctx, path.Join(dir, link.Name))
	switch {
	case err == nil:
	case ctx.Err() != nil, !isMount && errors.Is(err, ErrUnavailable):
		return Info{}, true, err
	case errors.Is(err, fs.ErrPermission), isMount && errors.Is(err, ErrUnavailable):
		to = Info{Name: link.Name, Type: wire.File, Denied: true}
		if isMount {
			to.Type = wire.Directory
		}
	default:
		return Info{}, true, nil
	}
	to.Symlink = !isMount
	return to, false, nil
}

// use notes that the tree has a part in a volume, or its root.
func (t *Tree) use(v *volume, own bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if own {
		t.own[v] = true
	}
	if t.volumes[v] || t.ctx.Err() != nil {
		return
	}
	t.volumes[v] = true
	v.remember(t)
	t.moved()
}
