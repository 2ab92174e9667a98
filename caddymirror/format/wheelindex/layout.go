package wheelindex

import (
	"context"
	"path"
	"regexp"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
)

// simple is the directory of an index that has its pages.
const simple = "simple"

// platform is how directories are named that are indexes of their own:
// `DISTRIBUTION-VERSION-ARCH`.
var platform = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._]*-[0-9][A-Za-z0-9._-]*-(x86_64|amd64|x64|i[3-6]86|aarch64|arm64|armv[0-9]+[a-z]*|armhf|ppc64le|ppc64el|ppc64|s390x|riscv64|loongarch64|loong64|mips64el|mips64|mipsel|sparc64|alpha|ia64)$`)

// Split returns the directory of the index that a name is in, "." for the tree's root,
// and the name relative to it, "" for the directory itself.
func Split(name string) (root, rel string) {
	if name == "." {
		return ".", ""
	}
	if first, rest, _ := strings.Cut(name, "/"); platform.MatchString(first) {
		return first, rest
	}
	return ".", name
}

// A place is what a directory may stand for in an index.
type place struct {
	root    string
	list    bool   // of all projects
	project string // its normalized name
}

// placeOf tells what a directory may stand for. It says nothing of whether there is such
// a project.
func placeOf(dir string) (p place, ok bool) {
	root, rel := Split(dir)
	p.root = root
	if rel == simple {
		p.list = true
		return p, true
	}
	first, last, two := strings.Cut(rel, "/")
	if !two {
		first, last = simple, first
	}
	if !wheel.ValidProject(last) || first != simple && !isInitial(first, last) {
		return p, false
	}
	p.project = pypi.Normalize(last)
	return p, true
}

// IsProject reports whether a directory may be that of a project; it need not exist.
func IsProject(dir string) bool {
	p, ok := placeOf(dir)
	return ok && !p.list
}

// isInitial reports whether a directory may be that of projects by their first character.
func isInitial(dir, project string) bool {
	return len(dir) == 1 && project != "" && dir[0]|0x20 == project[0]|0x20
}

// alias returns the name of what a client may mean that asks for something in a
// directory `PROJECT` of an index: the project's directory may have another spelling, and
// may be in one by its first character.
func (x *Index) alias(ctx context.Context, name string) (other string, ok bool) {
	root, rel := Split(name)
	first, rest, _ := strings.Cut(rel, "/")
	if !wheel.ValidProject(first) || first == simple {
		return "", false
	}
	project := pypi.Normalize(first)
	t := x.tree(ctx)
	// A file may also lie outside of the directory.
	if rest != "" && !strings.Contains(rest, "/") {
		for _, f := range x.files(ctx, t, root, project) {
			if f.name == rest {
				return f.path, true
			}
		}
	}
	ctx, cancel := x.patient(ctx)
	defer cancel()
	dirs, _ := t.dirsOf(ctx, root, project)
	for _, dir := range dirs {
		if dir != path.Join(root, first) {
			return path.Join(dir, rest), true
		}
	}
	return "", false
}

// isDir reports whether a directory is made, or stands for that of a project.
func (x *Index) isDir(ctx context.Context, name string) bool {
	p, ok := placeOf(name)
	if !ok {
		return false
	}
	if p.list {
		return x.hasProjects(ctx, p.root)
	}
	t := x.tree(ctx)
	ctx, cancel := x.patient(ctx)
	defer cancel()
	dirs, _ := t.dirsOf(ctx, p.root, p.project)
	return len(dirs) > 0 || len(x.files(ctx, t, p.root, p.project)) > 0
}

func (x *Index) hasProjects(ctx context.Context, root string) bool {
	for range x.projects(ctx, x.tree(ctx), root) {
		return true
	}
	return false
}

// made lists a directory that is made.
func (x *Index) made(ctx context.Context, name string) (infos []origin.Info, ok bool) {
	p, ok := placeOf(name)
	_, rel := Split(name)
	if !ok || rel != simple && !strings.HasPrefix(rel, simple+"/") {
		return nil, false
	}
	for _, page := range pageNames {
		b, ok, err := x.page(ctx, path.Join(name, page))
		if !ok || err != nil {
			return nil, false
		}
		infos = append(infos, b.info())
	}
	if p.list {
		for project := range x.projects(ctx, x.tree(ctx), p.root) {
			infos = append(infos, origin.Info{Name: project, Dir: true})
		}
	}
	return infos, true
}
