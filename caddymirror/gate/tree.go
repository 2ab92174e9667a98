package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// A tree is what a job has brought up to date. Nothing outside of it is looked
// at: neither ".." nor a symbolic link leads out.
type tree struct {
	root *os.Root
}

// openTree opens the tree of a run.
func openTree(r *step.Run) (*tree, error) {
	if r.Dir == "" {
		return nil, step.ErrNoDirectory
	}
	root, err := os.OpenRoot(r.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening the tree: %w", err)
	}
	return &tree{root}, nil
}

func (t *tree) close() { t.root.Close() }

// isMissing is what is wrong with most files.
const isMissing = "is missing"

// reasonOf says what an error of looking at a file tells of the file. If it tells
// nothing, ok is false: then one could not look.
func reasonOf(err error) (reason string, ok bool) {
	var errno syscall.Errno
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG):
		return isMissing, true
	case errors.Is(err, syscall.ELOOP):
		return "is a symbolic link that leads nowhere", true
	case errors.Is(err, fs.ErrClosed), errors.As(err, &errno):
		return "", false
	}
	// Only what an os.Root says by itself has no number.
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return "is a symbolic link that leads out of the tree", true
	}
	return "", false
}

// missing reports whether an error says that there is no such file.
func missing(err error) bool {
	b, ok := errors.AsType[*fault.Error](err)
	return ok && b.Reason == isMissing
}

// judge turns an error of looking at the file name into a fault.Error, if it is the
// file's fault.
func judge(err error) error {
	if err == nil {
		return nil
	}
	if reason, ok := reasonOf(err); ok {
		return fault.Errorf("%s", reason)
	}
	return err
}

// note files err with the problems if it is the fault of the file. Otherwise it
// returns it.
func (p *problems) note(at int64, file string, err error) error {
	if err == nil {
		return nil
	}
	if b, ok := errors.AsType[*fault.Error](err); ok {
		p.add(at, file, "%s", b.Reason)
		return nil
	}
	return err
}

// open opens the file at name, which must be a regular one.
func (t *tree) open(name string) (*os.File, fs.FileInfo, error) {
	// Opening a FIFO does not wait for its other end.
	f, err := t.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, judge(err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fault.Errorf("is not a file")
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// read reads the file at name, which may have up to limit bytes.
func (t *tree) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	f, info, err := t.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, fault.Errorf("has %d bytes, more than a file of its kind may have", info.Size())
	}
	return io.ReadAll(io.LimitReader(bounded.WithContext(ctx, f), limit))
}

// exists reports whether there is something at name. Its error says that one
// could not look.
func (t *tree) exists(name string) (bool, error) {
	_, err := t.root.Stat(name)
	if err == nil {
		return true, nil
	}
	if _, ok := reasonOf(err); ok {
		return false, nil
	}
	return false, err
}

// list lists the directory at name, sorted.
func (t *tree) list(name string) ([]fs.DirEntry, error) {
	f, err := t.root.Open(name)
	if err != nil {
		return nil, judge(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, fault.Errorf("is not a directory")
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// isDir reports whether the entry of dir is a directory, or a symbolic link to
// one. If the link leads nowhere or out, its error is a fault.Error.
func (t *tree) isDir(dir string, e fs.DirEntry) (bool, error) {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir(), nil
	}
	info, err := t.root.Stat(path.Join(dir, e.Name()))
	if err != nil {
		return false, judge(err)
	}
	return info.IsDir(), nil
}

// check compares the file at name with the checksum that by has of it. Its error
// may be a fault.Error.
func (t *tree) check(ctx context.Context, name string, want digest.Digest, by string) error {
	f, _, err := t.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := digest.Of(ctx, f, want.Kind)
	if err != nil {
		return err
	}
	if got != want {
		return digest.Differ(got, want, by)
	}
	return nil
}
