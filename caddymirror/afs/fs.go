package afs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// FS returns the tree as a file system. Each call takes no longer than timeout.
// It implements [fs.StatFS] and [fs.ReadDirFS]; files can be read at any offset.
func (t *Tree) FS(timeout time.Duration) fs.FS { return treeFS{t, timeout} }

type treeFS struct {
	t       *Tree
	timeout time.Duration
}

func (f treeFS) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(f.t.ctx, f.timeout)
}

// Open implements [fs.FS].
func (f treeFS) Open(name string) (fs.File, error) {
	ctx, cancel := f.context()
	defer cancel()
	file, err := f.t.Open(ctx, name)
	if errors.Is(err, ErrIsDir) {
		info, err := f.t.Stat(ctx, name)
		if err != nil {
			return nil, err
		}
		return &dirFile{fsys: f, name: name, info: info}, nil
	}
	if err != nil {
		return nil, err
	}
	return &openFile{fsys: f, f: file}, nil
}

// Stat implements [fs.StatFS].
func (f treeFS) Stat(name string) (fs.FileInfo, error) {
	ctx, cancel := f.context()
	defer cancel()
	info, err := f.t.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	return fileInfo{info}, nil
}

// ReadDir implements [fs.ReadDirFS].
func (f treeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	ctx, cancel := f.context()
	defer cancel()
	list, err := f.t.ReadDir(ctx, name)
	if err != nil {
		return nil, err
	}
	entries := make([]fs.DirEntry, len(list))
	for i, info := range list {
		entries[i] = fs.FileInfoToDirEntry(fileInfo{info})
	}
	return entries, nil
}

// fileInfo is an Info as the standard library wants it.
type fileInfo struct{ i Info }

func (i fileInfo) Name() string       { return i.i.Name }
func (i fileInfo) Size() int64        { return i.i.Size }
func (i fileInfo) ModTime() time.Time { return i.i.ModTime }
func (i fileInfo) IsDir() bool        { return i.i.Dir() }
func (i fileInfo) Sys() any           { return i.i }

func (i fileInfo) Mode() fs.FileMode {
	mode := fs.FileMode(i.i.Mode & 0o777)
	if i.i.Type == wire.Directory {
		mode |= fs.ModeDir
	}
	return mode
}

// openFile is a file that can be read from any offset on.
type openFile struct {
	fsys treeFS
	f    *File
	r    *Reader // at off; nil: to be made
	off  int64
	err  error // it is closed
}

func (o *openFile) Stat() (fs.FileInfo, error) { return fileInfo{o.f.Info()}, nil }

func (o *openFile) Read(b []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	ctx, cancel := o.fsys.context()
	defer cancel()
	if o.r == nil {
		o.r = o.f.Reader(o.off)
	}
	n, err := o.r.ReadContext(ctx, b)
	o.off += int64(n)
	return n, err
}

func (o *openFile) ReadAt(b []byte, off int64) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	ctx, cancel := o.fsys.context()
	defer cancel()
	return o.f.ReadAt(ctx, b, off)
}

func (o *openFile) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += o.off
	case io.SeekEnd:
		off += o.f.Info().Size
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "seek", Path: o.f.Info().Name, Err: fs.ErrInvalid}
	}
	if off != o.off {
		o.drop()
		o.off = off
	}
	return off, nil
}

func (o *openFile) drop() {
	if o.r != nil {
		o.r.Close()
		o.r = nil
	}
}

func (o *openFile) Close() error {
	o.drop()
	o.err = fs.ErrClosed
	return o.f.Close()
}

// dirFile is an open directory.
type dirFile struct {
	fsys treeFS
	name string
	info Info
	left []fs.DirEntry
	read bool
}

func (d *dirFile) Stat() (fs.FileInfo, error) { return fileInfo{d.info}, nil }
func (d *dirFile) Close() error               { return nil }

func (d *dirFile) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: ErrIsDir}
}

// ReadDir implements [fs.ReadDirFile].
func (d *dirFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if !d.read {
		list, err := d.fsys.ReadDir(path.Clean(d.name))
		if err != nil {
			return nil, err
		}
		d.left, d.read = list, true
	}
	if n <= 0 {
		n = len(d.left)
	} else if len(d.left) == 0 {
		return nil, io.EOF
	}
	n = min(n, len(d.left))
	list := d.left[:n]
	d.left = slices.Clone(d.left[n:])
	return list, nil
}

// Interface guards
var (
	_ fs.StatFS      = treeFS{}
	_ fs.ReadDirFS   = treeFS{}
	_ fs.ReadDirFile = (*dirFile)(nil)
	_ io.ReadSeeker  = (*openFile)(nil)
	_ io.ReaderAt    = (*openFile)(nil)
)
