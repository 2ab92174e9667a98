package format

import (
	"path"
	"strings"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/format/wheelindex"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

func init() {
	caddy.RegisterModule(new(Wheel))
}

// Wheel is the format of a tree of wheels and source distributions (`.tar.gz`, `.zip`). A
// Python package index is made from the files: each is read once, in the background, and
// what was read is kept in the mount's cache.
//
// The tree is one index, or has one in each directory `DISTRIBUTION-VERSION-ARCH`, such
// as `ubuntu-22.04-x86_64`. In an index, files lie in its directory, in a directory for
// each project, or in such directories by the project's first character (`f/foo`).
//
// Pages of the simple repository API, in HTML and JSON, are at `simple/` and
// `simple/PROJECT/`, as for the format pypi, and at `PROJECT/`, in any spelling of the
// project. So an index is used with the URL of its `simple/`, or with its own. A wheel's
// metadata are at its URL and `.metadata`.
//
// Corrupt files, and files that are being written, are left out; the mount's status
// names them. Files that the tree itself has are served as they are.
type Wheel struct{}

// CaddyModule returns the Caddy module information.
func (*Wheel) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.formats.wheel", New: func() caddy.Module { return new(Wheel) }}
}

// Class implements Format. Wheels are volatile: builders do not overwrite one, but a tree
// can be repaired by hand. Then pages have the checksum of the new file at once, and no
// client could install the old one from the cache.
func (*Wheel) Class(string) Class { return Volatile }

// Plan implements Planner.
func (*Wheel) Plan(r Request) (Plan, bool) {
	dir, rest := wheelindex.Split(strings.TrimSuffix(r.Path, "/"))
	first, rest, _ := strings.Cut(rest, "/")
	if first == simple {
		return planSimple(r, path.Join(dir, simple), rest, false)
	}
	if dir = strings.TrimSuffix(r.Path, "/"); dir == r.Path || !wheelindex.IsProject(dir) {
		return Plan{}, false
	}
	// Whether that is a project is not known here. It may also be a directory with an
	// index.html that somebody has written, for clients that accept no page of an index.
	p := planPage(r, dir)
	p.Others, p.Tree = nil, true
	return p, true
}

// Over implements Overlay.
func (*Wheel) Over(from origin.Tree, env Env) (origin.Tree, error) {
	return wheelindex.New(from, wheelindex.Config{Context: env.Context, Log: env.Log, Hidden: env.Hidden, Facts: env.Facts}), nil
}

// Interface guards
var (
	_ Format  = (*Wheel)(nil)
	_ Planner = (*Wheel)(nil)
	_ Overlay = (*Wheel)(nil)
)
