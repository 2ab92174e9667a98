package check

import (
	"context"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
)

// pipAccept is what pip asks for; oldAccept is what pips before 22.2 do, and easy_install.
const (
	pipAccept = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
	oldAccept = "text/html"
)

func accept(types string) http.Header { return http.Header{"Accept": {types}} }

// index looks at a package index: the list of its projects is at list, and the page of each
// below pages. Of several lists that there may be, the first that is there counts.
func (l *mountLook) index(ctx context.Context, pages *url.URL, lists ...*url.URL) {
	projects := picker[string]{n: l.Sample}
	crew := newCrew(ctx)
	defer crew.wait()
	look := func(name string) {
		crew.do(func(ctx context.Context) { l.project(ctx, l.pageOf(ctx, name, pages, lists)) })
	}
	if l.All {
		projects.all = look
	}
	initials := map[string]bool{} // there are no more than 36
	see := func(name string) {
		if l.Kind == Wheel && len(name) == 1 {
			initials[name] = true
			return
		}
		projects.see(name)
	}
	var at *url.URL
	var err error
	for _, at = range lists {
		if err = l.projects(ctx, at, see); !isMissing(err) {
			break
		}
	}
	for name := range initials {
		l.initial(ctx, at, name, projects.see)
	}
	l.listed(projects.seen)
	switch {
	case err == nil && projects.seen == 0:
		err = fault.Errorf("lists no projects")
	case isMissing(err) && l.Kind == PyPI && path.Base(l.Path) == "simple":
		err = fault.Errorf("%s: the mount is the path that simple/ is below, --%s %s", err, PyPI, path.Dir(l.Path))
	}
	l.failed(ctx, Index, at, err)
	for _, name := range projects.kept {
		look(name)
	}
}

// projects calls see with the projects that a page lists.
func (l *mountLook) projects(ctx context.Context, at *url.URL, see func(name string)) error {
	last := ""
	return l.page(ctx, at, pipAccept, "projects", func(page *url.URL, f pypi.File) error {
		if name := projectOf(page, f.URL); name != "" && name != last { // the same in two spellings
			last = name
			see(name)
		}
		return nil
	})
}

// initial looks at what may be the directory of all projects whose names begin with a
// character, as OpenDev's mirrors have them, or a project of that name. Pages of projects
// are beside it.
func (l *mountLook) initial(ctx context.Context, list *url.URL, character string, see func(name string)) {
	found := false
	err := l.projects(ctx, list.JoinPath(character+"/"), func(name string) {
		if strings.HasPrefix(name, character) && name != character {
			found = true
			see(name)
		}
	})
	if err != nil || !found {
		see(character)
	}
}

// pageOf returns the address of the page of a project: below pages, or below one of the lists
// if it is only there.
func (l *mountLook) pageOf(ctx context.Context, name string, pages *url.URL, lists []*url.URL) *url.URL {
	u := pages.JoinPath(name + "/")
	if len(lists) == 1 || l.isThere(ctx, u) {
		return u
	}
	for _, list := range lists {
		if other := list.JoinPath(name + "/"); list != pages && l.isThere(ctx, other) {
			l.noteOnce(Index, pages, "has pages of projects only below simple/: clients need that in their URL")
			return other
		}
	}
	return u
}

// projectOf returns the normalized name of the project that a link on the list of all leads
// to, "" if it is no project: one level below the list, which has other links, too.
func projectOf(page *url.URL, href string) string {
	u, err := page.Parse(href)
	if err != nil || u.Host != page.Host {
		return ""
	}
	rest, ok := strings.CutPrefix(u.Path, page.Path)
	rest = strings.TrimSuffix(rest, "/")
	if !ok || u.RawQuery != "" || !wheel.ValidProject(rest) || strings.HasPrefix(rest, "index.") || pypi.IsDistribution(rest) {
		return ""
	}
	return pypi.Normalize(rest)
}

// page reads a page, and calls see with what it lists and the address that it is from. Its
// error is a fault of the page.
func (l *mountLook) page(ctx context.Context, at *url.URL, types, key string, see func(page *url.URL, f pypi.File) error) error {
	s, err := l.spool(ctx, at, accept(types), maxPage, digest.Digest{}, "")
	if err != nil {
		return err
	}
	defer s.Close()
	r := pypi.Reader{
		See:    func(f pypi.File) error { return see(s.at, f) },
		Remark: func(text string) { l.noteOnce(Index, at, text) },
	}
	kind, _, _ := mime.ParseMediaType(s.kind)
	read, known := map[string]func(io.Reader) error{
		"text/html":                           r.HTML,
		"application/vnd.pypi.simple.v1+html": r.HTML,
		"application/vnd.pypi.simple.v1+json": func(in io.Reader) error { return r.JSON(in, key) },
	}[kind]
	switch {
	case !known:
		return fault.Errorf("is of the type %s, which pip does not take for a page", fault.Show(s.kind))
	case types == oldAccept && kind != "text/html":
		return fault.Errorf("is of the type %s though text/html was asked for", fault.Show(s.kind))
	}
	return fault.Of(read(s))
}

// project looks at the page of a project, as new and old pips ask for it, and at files
// that it lists: one of them, or all.
func (l *mountLook) project(ctx context.Context, at *url.URL) {
	files := picker[pypi.File]{n: 1}
	var from *url.URL
	see := func(page *url.URL, f pypi.File) error {
		from = page
		name := f.URL
		if i := strings.IndexAny(name, "?#"); i >= 0 {
			name = name[:i]
		}
		if text, err := url.PathUnescape(path.Base(name)); err == nil {
			name = text
		}
		if pypi.IsDistribution(name) { // pip follows no other links
			files.see(f)
		}
		return nil
	}
	if l.All {
		files.all = func(f pypi.File) { l.distribution(ctx, from, f) }
	}
	if err := l.page(ctx, at, pipAccept, "files", see); err != nil {
		l.failed(ctx, Index, at, err)
		return
	}
	if err := l.page(ctx, at, oldAccept, "files", func(*url.URL, pypi.File) error { return nil }); err != nil {
		l.failed(ctx, Index, at, err)
		return
	}
	l.varies(ctx, at)
	l.look(ctx, object{at: at, size: -1, aspect: Index, request: accept(pipAccept), generated: true})
	for _, f := range files.kept {
		l.distribution(ctx, from, f)
	}
}

// varies looks whether a page says so that is of the type that was asked for: else caches on
// the way give JSON to those who cannot read it.
func (l *mountLook) varies(ctx context.Context, at *url.URL) {
	types := map[string]bool{}
	told := true // by each: a cache goes by the one that it has
	for _, asked := range []string{pipAccept, oldAccept} {
		a, err := l.c.ask(ctx, http.MethodHead, at, accept(asked))
		if err != nil {
			l.failed(ctx, Head, at, err)
			return
		}
		a.close()
		if a.StatusCode != http.StatusOK {
			return // which others tell
		}
		kind, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
		types[kind] = true
		vary := strings.Split(strings.Join(a.Header.Values("Vary"), ","), ",")
		told = told && slices.ContainsFunc(vary, func(name string) bool {
			name = strings.TrimSpace(name)
			return name == "*" || strings.EqualFold(name, "Accept")
		})
	}
	if len(types) > 1 && !told {
		l.fault(Index, at, "is of the type that Accept asks for, and does not say Vary: Accept: caches give JSON to clients that cannot read it")
	}
}

// distribution looks at a file of a project, and at the metadata beside it.
func (l *mountLook) distribution(ctx context.Context, page *url.URL, f pypi.File) {
	u, err := page.Parse(strings.TrimSpace(f.URL))
	if err != nil {
		l.fault(Index, page, "links %s, which is no address", fault.Show(f.URL))
		return
	}
	if err := l.c.allows(u); err != nil {
		l.fault(Index, page, "links elsewhere: %s", err)
		return
	}
	sum := f.Digest
	if sum.Kind == "" {
		if sum, err = pypi.DigestOfURL(f.URL); err != nil {
			l.failed(ctx, Index, page, err)
			return
		}
	}
	if sum.Kind == "" {
		l.noteOnce(Index, page, "has no checksums for some files")
	}
	u.Fragment, u.RawFragment = "", ""
	l.look(ctx, object{at: u, size: f.Size, digest: sum, by: shown(page), aspect: File})
	if f.Metadata {
		m := *u
		m.Path += ".metadata"
		m.RawPath = ""
		l.look(ctx, object{at: &m, size: -1, digest: f.MetadataDigest, by: shown(page), aspect: Metadata})
	}
}

// platform is a name of a directory of wheels: distribution, version and architecture.
var platform = regexp.MustCompile(`^[a-z][a-z0-9.]*-[0-9][0-9.a-z]*-[a-z0-9_]+$`)

// wheels looks at the index of each platform, or at the mount itself if it is one. Clients
// are told of the directory of a platform, and find the page of a project below it; a list of
// the projects is in simple/, or in the directory itself.
func (l *mountLook) wheels(ctx context.Context) {
	dirs := l.Names
	if len(dirs) == 0 {
		at := l.at("")
		found, err := l.platforms(ctx, at)
		if len(found) == 0 {
			found = []string{""}
			if isMissing(err) && !l.isThere(ctx, l.at("simple/")) {
				l.failed(ctx, Index, at, fault.Errorf("%s: which platforms? Name them: --%s %s,ubuntu-22.04-x86_64", err, Wheel, l.Path))
				return
			}
		}
		if err != nil && !isMissing(err) {
			l.failed(ctx, Index, at, err)
			return
		}
		dirs = found
	}
	for _, name := range dirs {
		dir := l.at(strings.TrimPrefix(strings.Trim(name, "/")+"/", "/"))
		l.index(ctx, dir, dir.JoinPath("simple/"), dir)
	}
}

// isThere asks whether there is something at an address.
func (l *mountLook) isThere(ctx context.Context, u *url.URL) bool {
	there, err := l.is(ctx, u)
	return there && err == nil
}

// platforms returns those that a mount lists.
func (l *mountLook) platforms(ctx context.Context, at *url.URL) (names []string, err error) {
	err = l.page(ctx, at, oldAccept, "projects", func(page *url.URL, f pypi.File) error {
		u, err := page.Parse(f.URL)
		if err != nil || u.Host != page.Host {
			return nil //nolint:nilerr // it is no platform
		}
		rest, ok := strings.CutPrefix(u.Path, page.Path)
		name, isDir := strings.CutSuffix(rest, "/")
		if ok && isDir && platform.MatchString(name) && len(names) < maxPlatforms {
			names = append(names, name)
		}
		return nil
	})
	return names, err
}
