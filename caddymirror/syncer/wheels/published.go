package wheels

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/constraints"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
)

// published are the wheels that the platform's directory has.
type published struct {
	mu     sync.Mutex
	files  map[string]bool
	wheels map[string][]wheel.Name // by project
}

// scan looks for them, and removes what a killed run has left.
func (f *farm) scan(ctx context.Context) (*published, error) {
	p := &published{files: map[string]bool{}, wheels: map[string][]wheel.Name{}}
	var left []string
	err := filepath.WalkDir(f.dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case isPart(d.Name()):
			left = append(left, path)
		case d.Type().IsRegular():
			p.add(d.Name())
		}
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, path := range left {
		if err := f.helper(ctx, "remove", path); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *published) add(file string) {
	n, err := wheel.ParseName(file)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	project := pypi.Normalize(n.Project)
	p.files[file] = true
	p.wheels[project] = append(p.wheels[project], n)
}

func (p *published) hasFile(file string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.files[file]
}

// has reports whether there is a wheel that a Python can use.
func (p *published) has(req constraints.Requirement, tags map[string]bool) bool {
	if req.URL != "" {
		return false // which version that is nobody knows
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.wheels[req.Name] {
		if req.Allows(n.Version) && compatible(n, tags) {
			return true
		}
	}
	return false
}

// place is where a wheel goes: n/name/name-1.0-py3-none-any.whl.
func (f *farm) place(file string, n wheel.Name) string {
	project := pypi.Normalize(n.Project)
	return filepath.Join(f.dir, project[:1], project, file)
}

func isPart(name string) bool {
	return strings.HasPrefix(name, ".") && strings.HasSuffix(name, partEnding)
}

const partEnding = ".whl.part"

// placeFile copies a wheel to its place: beside it, under a name that nobody serves, and
// then by a new name, since the place may be on another file system, as AFS. What is there
// already is left as it is.
func placeFile(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return nil
	}
	dir := filepath.Dir(to)
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // it is served
		return err
	}
	part := filepath.Join(dir, "."+filepath.Base(to)+".part")
	if err := copyFile(from, part); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	// The job has the lock of the directory: nobody else writes there.
	return os.Rename(part, to)
}
