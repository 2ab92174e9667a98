package syncer

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// A layout is where reprepro has what it uses.
type layout struct {
	conf, base, out, db, lists string
}

// layout finds it as reprepro does: by its options, else by those in the file of that
// name, else below the working directory.
func (p *Reprepro) layout(dir string) (*layout, error) {
	l := &layout{base: absolute(dir, p.BaseDir)}
	l.conf = l.find(dir, p.ConfDir)
	text, err := step.ReadFile(filepath.Join(l.conf, "options"), step.MaxConfig)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	options := map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(line), "\t", " "), " ")
		options[name] = strings.TrimSpace(value)
	}
	l.base = absolute(dir, cmp.Or(p.BaseDir, options["basedir"]))
	l.out = l.find(dir, cmp.Or(p.OutDir, options["outdir"], "+b/"))
	l.db = l.find(dir, cmp.Or(p.DBDir, options["dbdir"], "+b/db"))
	l.lists = l.find(dir, cmp.Or(p.ListDir, options["listdir"], "+b/lists"))
	return l, nil
}

// find is where a path leads that may be relative to another directory of the layout.
func (l *layout) find(dir, path string) string {
	for prefix, of := range map[string]string{"+b/": l.base, "+o/": l.out, "+c/": l.conf} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			return filepath.Join(of, rest)
		}
	}
	if strings.HasPrefix(path, "+") {
		return path // reprepro says what is wrong with it
	}
	return absolute(dir, path)
}

func absolute(dir, path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return filepath.Clean(path)
}

// check refuses to publish what reprepro has for itself. The directory of the job is
// published if the repository is there.
func (l *layout) check(dir string) error {
	published := step.Resolve(l.out)
	if dir = step.Resolve(dir); step.Within(published, dir) {
		published = dir
	}
	for _, own := range []struct{ what, path, by string }{
		{"configuration", l.conf, "the argument of reprepro"},
		{"database", l.db, "basedir or dbdir"},
		{"directory of lists", l.lists, "basedir or listdir"},
	} {
		if step.Within(step.Resolve(own.path), published) {
			return fmt.Errorf("the %s of reprepro, %s, would be published with %s: have outdir and the job's directory be one for pool and dists alone, and tell by %s where the %[1]s is",
				own.what, own.path, published, own.by)
		}
	}
	return nil
}
