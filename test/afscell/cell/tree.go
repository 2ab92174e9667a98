package cell

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// writers is how many files are written at a time.
const writers = 16

// WriteTree writes all files, directories and symbolic links of a file system below
// a directory, which is made if it is not there. Files that are there are replaced,
// no file is removed. Modes and modification times are kept.
func (v *Volume) WriteTree(ctx context.Context, tree fs.FS, dir string) error {
	if err := v.MkdirAll(ctx, dir); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	files := make(chan string)
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for name := range files {
				if err := v.copyFrom(ctx, tree, name, path.Join(dir, name)); err != nil {
					cancel(err)
				}
			}
		})
	}
	dirs, err := v.walk(ctx, tree, dir, files)
	close(files)
	wg.Wait()
	if err == nil {
		err = context.Cause(ctx)
	}
	// Writing into a directory sets its time.
	for name, info := range dirs {
		if err == nil && !info.ModTime().IsZero() {
			err = v.Chtimes(ctx, name, info.ModTime())
		}
	}
	if err != nil {
		return fmt.Errorf("writing a tree: %w", err)
	}
	return nil
}

// walk makes the directories and the symbolic links of a tree, and sends the names
// of the files.
func (v *Volume) walk(ctx context.Context, tree fs.FS, dir string, files chan<- string) (map[string]fs.FileInfo, error) {
	dirs := make(map[string]fs.FileInfo)
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		to := path.Join(dir, name)
		switch {
		case d.IsDir():
			info, err := d.Info()
			if err != nil {
				return err
			}
			dirs[to] = info
			return v.MkdirAll(ctx, to)
		case d.Type() == fs.ModeSymlink:
			target, err := fs.ReadLink(tree, name)
			if err != nil {
				return err
			}
			return v.relink(ctx, target, to)
		case !d.Type().IsRegular():
			return fmt.Errorf("%s is a %v, which AFS has not", name, d.Type())
		}
		select {
		case files <- name:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return dirs, err
}

// relink makes a symbolic link in place of what is there.
func (v *Volume) relink(ctx context.Context, target, name string) error {
	err := v.Symlink(ctx, target, name)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := v.Remove(ctx, name); err != nil {
		return err
	}
	return v.Symlink(ctx, target, name)
}

func (v *Volume) copyFrom(ctx context.Context, tree fs.FS, from, to string) error {
	f, err := tree.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return v.Copy(ctx, to, f, Attr{Mode: info.Mode().Perm(), ModTime: info.ModTime()})
}

// Mount makes a mount point of the same cell that prefers read-only volumes, the
// usual kind.
func (v *Volume) Mount(ctx context.Context, name, volume string) error {
	return v.MountPoint(ctx, name, wire.Mount{Kind: '#', Volume: volume})
}
