package gate

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/apt"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/packed"
)

// aptSuite is a directory that has a Release, or should.
type aptSuite struct {
	dir  string // relative to the tree
	base *aptBase
}

// aptBase is the directory that the names of a repository's packages are relative to.
type aptBase struct {
	dir string // relative to the tree

	// top is set for a flat repository while dir is not known: it depends on how clients
	// have it in their sources.list. In `deb URL/sub ./` it is that of the Release, in
	// `deb URL sub/` one above. It is settled by the first package that is there, and
	// not above top.
	top string
}

// flatBase is the base of a flat repository in dir, at or below root.
func flatBase(root, dir string) *aptBase { return &aptBase{dir: dir, top: root} }

// suites returns the directories that have a Release, or should.
func (c *aptCheck) suites() ([]aptSuite, error) {
	root := path.Clean(c.Root)
	if len(c.Dists) > 0 {
		var suites []aptSuite
		for _, dist := range c.Dists {
			if flat, ok := strings.CutSuffix(dist, "/"); ok {
				dir := path.Join(root, flat)
				suites = append(suites, aptSuite{dir, flatBase(root, dir)})
			} else {
				suites = append(suites, aptSuite{path.Join(root, "dists", dist), &aptBase{dir: root}})
			}
		}
		return suites, nil
	}
	s := suiteSearch{c: c}
	if err := s.tree(root); err != nil {
		return nil, err
	}
	found := make([]string, len(s.suites))
	for i := range s.suites {
		found[i] = s.suites[i].dir
	}
	dirs, err := c.known(root, found, "InRelease", "Release")
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs[len(found):] {
		s.suites = append(s.suites, knownSuite(root, dir))
	}
	if len(s.suites) == 0 && !c.found.any() {
		c.add(c.Root, "there is no repository: no directory has an InRelease or a Release")
	}
	return s.suites, nil
}

// knownSuite is the suite in a directory of which only the name is known.
func knownSuite(root, dir string) aptSuite {
	parts := strings.Split(dir, "/")
	if i := slices.Index(parts, "dists"); i >= 0 && i < len(parts)-1 {
		return aptSuite{dir, &aptBase{dir: path.Join(parts[:i]...)}}
	}
	return aptSuite{dir, flatBase(root, dir)}
}

// maxSuiteDepth is how deep below dists a Release may be.
const maxSuiteDepth = 4

// suiteSearch looks for the directories that have a Release.
type suiteSearch struct {
	c      *aptCheck
	suites []aptSuite
}

// tree finds the suites of the repositories in dir and below it. Symbolic links are not
// followed, but for dists: what they lead to is found where it is.
func (s *suiteSearch) tree(dir string) error {
	if err := s.c.ctx.Err(); err != nil {
		return err
	}
	s.c.progress.report(-1, "%d distributions found", len(s.suites))
	entries, err := s.c.t.list(dir)
	if err != nil {
		return s.c.note(dir, err)
	}
	flat, err := s.isFlat(dir, entries)
	if err != nil {
		return err
	}
	if flat {
		s.suites = append(s.suites, aptSuite{dir, flatBase(path.Clean(s.c.Root), dir)})
	}
	pooled := false
	for _, e := range entries {
		if e.Name() != "dists" {
			continue
		}
		if pooled, err = s.c.t.isDir(dir, e); err == nil && pooled {
			err = s.dists(path.Join(dir, "dists"), &aptBase{dir: dir})
		} else {
			err = s.c.note(path.Join(dir, "dists"), err)
		}
		if err != nil {
			return err
		}
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name()[0] == '.' || pooled && (e.Name() == "dists" || e.Name() == "pool") {
			continue
		}
		if err := s.tree(path.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// isFlat reports whether a directory is a flat repository: it has an InRelease, or a
// Release beside an index or one that lists files. Other files are called Release, too.
func (s *suiteSearch) isFlat(dir string, entries []fs.DirEntry) (bool, error) {
	listing, index := false, false
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		switch name := e.Name(); strings.TrimSuffix(name, packed.Ending(name)) {
		case "InRelease":
			return true, nil
		case "Release":
			listing = listing || name == "Release"
		case "Packages", "Sources":
			index = true
		}
	}
	if !listing || index {
		return listing, nil
	}
	text, err := s.c.t.read(s.c.ctx, path.Join(dir, "Release"), apt.MaxRelease)
	if err == nil {
		_, err = apt.ParseRelease(text, nil)
	}
	if fault.Is(err) {
		return false, nil
	}
	return err == nil, err
}

// dists finds the suites in the directory top.
func (s *suiteSearch) dists(top string, base *aptBase) error {
	d := distSearch{suiteSearch: s, base: base}
	if err := d.search(top, 0); err != nil {
		return err
	}
	for _, alias := range d.aliases {
		if !d.isNew(alias) {
			s.c.now.Aliases = append(s.c.now.Aliases, alias)
		} else if err := d.search(alias, 0); err != nil {
			return err
		}
	}
	return nil
}

// distSearch looks for the suites of one repository.
type distSearch struct {
	*suiteSearch
	base    *aptBase
	seen    []fs.FileInfo
	aliases []string // symbolic links to directories
}

func (s *distSearch) search(dir string, depth int) error {
	entries, err := s.c.t.list(dir)
	if err != nil {
		return s.c.note(dir, err)
	}
	for _, e := range entries {
		if e.Name() == "Release" || e.Name() == "InRelease" {
			s.suites = append(s.suites, aptSuite{dir, s.base})
			return s.remember(dir)
		}
	}
	if depth == maxSuiteDepth {
		return nil
	}
	for _, e := range entries {
		if e.Name()[0] == '.' {
			continue
		}
		name := path.Join(dir, e.Name())
		isDir, err := s.c.t.isDir(dir, e)
		switch {
		case err != nil:
			err = s.c.note(name, err)
		case isDir && !e.IsDir():
			s.aliases = append(s.aliases, name)
		case isDir:
			err = s.search(name, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *distSearch) remember(dir string) error {
	info, err := s.c.t.root.Stat(dir)
	if err == nil {
		s.seen = append(s.seen, info)
	}
	return err
}

// isNew reports whether a symbolic link leads to a directory that was not found
// by another way.
func (s *distSearch) isNew(alias string) bool {
	info, err := s.c.t.root.Stat(alias)
	if err != nil {
		return true // which search will tell
	}
	for _, seen := range s.seen {
		if os.SameFile(info, seen) {
			return false
		}
	}
	return true
}

// settle finds out what the names of a flat repository are relative to, by one of them.
func (c *aptCheck) settle(base *aptBase, name string) error {
	if base.top == "" {
		return nil
	}
	for dir := base.dir; ; dir = path.Dir(dir) {
		there, err := c.t.exists(path.Join(dir, name))
		if err != nil {
			return err
		}
		if there {
			*base = aptBase{dir: dir}
			return nil
		}
		if dir == base.top || dir == "." {
			return nil
		}
	}
}
