package format

import (
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
)

func init() {
	caddy.RegisterModule(new(Pypi))
}

// Pypi is the format of a Python package index, as bandersnatch writes it into its
// `web` directory.
//
// Pages of the simple repository API are at `simple/` and `simple/PROJECT/`; other
// spellings of a project, and paths without the slash, are redirected there (PEP 503).
// Of the pages that there are (`index.v1_json`, `index.v1_html`, `index.html`), the
// request gets the one that its Accept field, or the parameter `format`, prefers (PEP
// 691); if it accepts none of them, the answer is 406. Projects may also be in a
// directory by their first character (bandersnatch's `hash_index`).
//
// `pypi/PROJECT/json` and `json/PROJECT` are the JSON API. Files below `packages` never
// change. Pages have their serial in the field `X-PyPI-Last-Serial`.
type Pypi struct{}

// CaddyModule returns the Caddy module information.
func (*Pypi) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.formats.pypi", New: func() caddy.Module { return new(Pypi) }}
}

// Class implements Format.
func (*Pypi) Class(name string) Class {
	if strings.HasPrefix(name, "packages/") {
		return Immutable
	}
	return Volatile
}

// Plan implements Planner.
func (*Pypi) Plan(r Request) (Plan, bool) {
	dir, rest, _ := strings.Cut(r.Path, "/")
	switch dir {
	case simple:
		return planSimple(r, simple, rest, true)
	case "pypi", "json":
		return planJSON(dir, rest)
	}
	return Plan{}, false
}

// The files of a page, and the media types that they are served as: the one that is
// made for it before the other of the same kind, which PEP 691 calls an alias.
var pageFiles = map[pypi.MediaType][]string{
	pypi.JSON:     {"index.v1_json"},
	pypi.HTML:     {"index.v1_html", "index.html"},
	pypi.TextHTML: {"index.html", "index.v1_html"},
}

// mediaTypes are those of pages that are asked for by the names of their files.
var mediaTypes = map[string]string{
	"index.v1_json": string(pypi.JSON),
	"index.v1_html": string(pypi.HTML),
	"index.html":    textHTML,
}

const textHTML = "text/html; charset=utf-8"

// simple is the directory of pages.
const simple = "simple"

// planSimple plans what is at rest below the directory top of pages. hashed says that
// projects may be in directories by their first character.
func planSimple(r Request, top, rest string, hashed bool) (Plan, bool) {
	slash := strings.HasSuffix(r.Path, "/")
	parts := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	last := parts[len(parts)-1]
	if t := mediaTypes[last]; t != "" && !slash {
		return Plan{Candidates: []Candidate{{Name: r.Path, MediaType: t}}}, true
	}
	var project string
	switch {
	case len(parts) == 1:
		project = last
	case hashed && len(parts) == 2 && parts[0] == last[:1] && last != "versions":
		// A page of a hash_index tree: its links are made for the canonical path.
		return Plan{Redirect: top + "/" + pypi.Normalize(last) + "/"}, isProject(last)
	default:
		return Plan{}, false
	}
	if project != "" && !isProject(project) {
		return Plan{}, false
	}
	dir := path.Join(top, pypi.Normalize(project))
	if dir+"/" != r.Path {
		return Plan{Redirect: dir + "/"}, true
	}
	dirs := []string{dir}
	if hashed && project != "" {
		dirs = append(dirs, path.Join(top, project[:1], project))
	}
	return planPage(r, dirs...), true
}

// planPage plans a page that is in the first of dirs that has it.
func planPage(r Request, dirs ...string) Plan {
	all := []pypi.MediaType{pypi.JSON, pypi.HTML, pypi.TextHTML}
	var p Plan
	var wanted []pypi.MediaType
	if t, told := pypi.Requested(r.Query); !told {
		wanted = pypi.Negotiate(r.Accept)
		p.Vary = []string{"Accept"}
	} else if t != "" {
		wanted = []pypi.MediaType{t}
	}
	seen := map[pypi.MediaType]bool{}
	for _, t := range wanted {
		seen[t] = true
		p.Candidates = append(p.Candidates, filesOf(t, dirs)...)
	}
	for _, t := range all {
		if !seen[t] {
			p.Others = append(p.Others, filesOf(t, dirs)...)
		}
	}
	return p
}

func filesOf(t pypi.MediaType, dirs []string) (files []Candidate) {
	mediaType := string(t)
	if t == pypi.TextHTML {
		mediaType = textHTML
	}
	for _, file := range pageFiles[t] {
		for _, dir := range dirs {
			files = append(files, Candidate{Name: dir + "/" + file, MediaType: mediaType})
		}
	}
	return files
}

// planJSON plans what is at rest below json or pypi: json/PROJECT, which
// bandersnatch links to from pypi/PROJECT/json, and pypi/PROJECT/VERSION/json.
func planJSON(dir, rest string) (Plan, bool) {
	parts := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	project := parts[0]
	if !isProject(project) {
		return Plan{}, false
	}
	name := pypi.Normalize(project)
	var canonical string
	files := []string{"pypi/" + name + "/json", "json/" + name}
	switch {
	case dir == "json" && len(parts) == 1:
		canonical = files[1]
		files = []string{files[1], files[0]}
	case dir == "pypi" && len(parts) == 2 && parts[1] == "json":
		canonical = files[0]
	case dir == "pypi" && len(parts) == 3 && parts[2] == "json":
		canonical = "pypi/" + name + "/" + parts[1] + "/json"
		files = []string{canonical}
	default:
		return Plan{}, false
	}
	if canonical != dir+"/"+rest {
		return Plan{Redirect: canonical}, true
	}
	var p Plan
	for _, file := range files {
		p.Candidates = append(p.Candidates, Candidate{Name: file, MediaType: "application/json"})
	}
	return p, true
}

// isProject reports whether a project may have this name: all others are not worth
// a redirect, and may mean something else.
func isProject(name string) bool {
	if strings.Trim(name, "-_.") == "" {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// Interface guards
// Ask implements [Asker]. Files are packed already. Of pages there are as many variants as
// orders of media types, and not as clients.
func (f *Pypi) Ask(name, accept string) (as, encoding string) {
	if f.Class(name) == Immutable {
		return "", "identity"
	}
	if dir, _, _ := strings.Cut(name, "/"); dir != simple {
		return accept, "gzip"
	}
	types := pypi.Negotiate(accept)
	if len(types) == 0 {
		return accept, "gzip"
	}
	for i, t := range types {
		types[i] = t + pypi.MediaType([]string{"", ";q=0.5", ";q=0.1"}[min(i, 2)])
	}
	return string(types[0]) + joined(types[1:]), "gzip"
}

func joined(types []pypi.MediaType) (s string) {
	for _, t := range types {
		s += ", " + string(t)
	}
	return s
}

// Published implements [Dated]: a file was last changed when it was uploaded.
func (f *Pypi) Published(name string, header map[string][]string) (time.Time, bool) {
	if f.Class(name) != Immutable || len(header["Last-Modified"]) == 0 {
		return time.Time{}, false
	}
	at, err := http.ParseTime(header["Last-Modified"][0])
	return at, err == nil
}

var (
	_ Format    = (*Pypi)(nil)
	_ Dated     = (*Pypi)(nil)
	_ Asker     = (*Pypi)(nil)
	_ Planner   = (*Pypi)(nil)
	_ Inspector = (*Pypi)(nil)
)
