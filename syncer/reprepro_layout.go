package syncer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A layout is where reprepro has what it uses.
type layout struct {
	conf, out, db, lists string
}

// layout finds it as reprepro does: by its options, else by those in the file of that
// name, else below the working directory.
func (p *Reprepro) layout(dir string) (*layout, error) {
	l := &layout{conf: absolute(dir, p.ConfDir)}
	text, err := os.ReadFile(filepath.Join(l.conf, "options"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	options := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(line), "\t", " "), " ")
		options[name] = strings.TrimSpace(value)
	}
	base := absolute(dir, cmp.Or(p.BaseDir, options["basedir"]))
	find := func(path string) string {
		for prefix, of := range map[string]string{"+b/": base, "+o/": l.out, "+c/": l.conf} {
			if rest, ok := strings.CutPrefix(path, prefix); ok {
				return filepath.Join(of, rest)
			}
		}
		return absolute(dir, path)
	}
	l.out = find(cmp.Or(p.OutDir, options["outdir"], "+b/"))
	l.db = find(cmp.Or(p.DBDir, options["dbdir"], "+b/db"))
	l.lists = find(cmp.Or(p.ListDir, options["listdir"], "+b/lists"))
	return l, nil
}

func absolute(dir, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// check refuses to publish what reprepro has for itself. The directory of the job is
// published if the repository is there.
func (l *layout) check(dir string) error {
	published := resolve(l.out)
	if dir = resolve(dir); within(published, dir) {
		published = dir
	}
	for _, own := range []struct{ what, path, by string }{
		{"configuration", l.conf, "the argument of reprepro"},
		{"database", l.db, "basedir or dbdir"},
		{"directory of lists", l.lists, "basedir or listdir"},
	} {
		if within(resolve(own.path), published) {
			return fmt.Errorf("the %s of reprepro, %s, would be published with %s: have outdir and the job's directory be one for pool and dists alone, and tell by %s where the %[1]s is",
				own.what, own.path, published, own.by)
		}
	}
	return nil
}

func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

// resolve is path without symbolic links, whether it is there or not.
func resolve(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	dir := filepath.Dir(path)
	if dir == path {
		return path
	}
	return filepath.Join(resolve(dir), filepath.Base(path))
}
