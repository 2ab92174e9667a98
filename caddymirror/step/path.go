package step

import (
	"errors"
	"path/filepath"
)

// ErrNoDirectory says that a step needs a tree, and the job has none.
var ErrNoDirectory = errors.New("the job has no directory")

// NeedDirectory is [Placer] for steps that work on any tree.
func NeedDirectory(dir string) error {
	if dir == "" {
		return ErrNoDirectory
	}
	return nil
}

// Within reports whether a path is a directory or lies in it, by their names.
func Within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// Resolve is a path without symbolic links, whether it is there or not.
func Resolve(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	dir := filepath.Dir(path)
	if dir == path {
		return path
	}
	return filepath.Join(Resolve(dir), filepath.Base(path))
}
