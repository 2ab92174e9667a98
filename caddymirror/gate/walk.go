package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// entry is what a tree has: a file, a directory, a symbolic link, or something
// else. Only files have a size.
type entry struct {
	name string
	size int64
}

// walk calls see with all entries of the tree, in the order of compareNames.
// Symbolic links are not followed.
func (t *tree) walk(ctx context.Context, see func(entry) error) error {
	return walkDir(ctx, t.root, "", see)
}

func walkDir(ctx context.Context, dir *os.Root, name string, see func(entry) error) error {
	infos, err := describe(ctx, dir)
	if err != nil {
		return fmt.Errorf("listing %q: %w", path.Clean(name), err)
	}
	for _, info := range infos {
		if info == nil {
			continue // gone meanwhile
		}
		e := entry{name: path.Join(name, info.Name())}
		if info.Mode().IsRegular() {
			e.size = info.Size()
		}
		if err := see(e); err != nil {
			return err
		}
		if !info.IsDir() {
			continue
		}
		sub, err := dir.OpenRoot(info.Name())
		if err != nil {
			return fmt.Errorf("opening %q: %w", e.name, err)
		}
		err = walkDir(ctx, sub, e.name, see)
		sub.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// describe describes what is in a directory, sorted, some of it at a time: on a
// network file system, each waits for an answer.
func describe(ctx context.Context, dir *os.Root) ([]fs.FileInfo, error) {
	f, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	infos := make([]fs.FileInfo, len(names))
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(lookers, (len(names)+batchSize-1)/batchSize) {
		g.Go(func() error {
			for {
				from := int(next.Add(batchSize)) - batchSize
				if from >= len(names) {
					return nil
				}
				if err := lstats(ctx, dir, names[from:], infos[from:min(from+batchSize, len(names))]); err != nil {
					return err
				}
			}
		})
	}
	return infos, g.Wait()
}

func lstats(ctx context.Context, dir *os.Root, names []string, infos []fs.FileInfo) (err error) {
	for i := range infos {
		if err := ctx.Err(); err != nil {
			return err
		}
		infos[i], err = dir.Lstat(names[i])
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err != nil {
			infos[i] = nil
		}
	}
	return nil
}
