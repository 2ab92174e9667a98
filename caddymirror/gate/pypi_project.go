package gate

import (
	"context"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
)

// pypiLook is a look at one project.
type pypiLook struct {
	*pypiCheck
	cur  *cursor
	p    *project
	at   int64
	list []ref
	refs map[string]int // places in the list
	has  projectFiles
	most int // of the list
}

func (l *pypiLook) place() int64 {
	l.at++
	return l.at
}

func (l *pypiLook) look(ctx context.Context) error {
	dir := path.Join(l.web, l.p.dir())
	entries, err := l.t.list(dir)
	if err != nil {
		return l.note(l.place(), dir, err)
	}
	var seen []seenPage
	for i, name := range pypi.PageNames {
		if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name }) {
			continue
		}
		l.p.pages |= 1 << i
		if seen, err = l.page(ctx, path.Join(dir, name), 1<<i, seen); err != nil {
			return err
		}
	}
	l.has.pages = l.p.pages
	for i := range l.list {
		if err := ctx.Err(); err != nil {
			return err
		}
		r := &l.list[i]
		if !l.Hash {
			r.sum = digest.Digest{}
		}
		if err := r.note(&l.found, r.look(ctx, l.cur)); err != nil {
			return err
		}
	}
	return nil
}

// A seenPage is a page that was read.
type seenPage struct {
	fs.FileInfo
	page pageSet // which it is
}

// page reads a page, unless it is one of those that were seen.
func (l *pypiLook) page(ctx context.Context, name string, which pageSet, seen []seenPage) ([]seenPage, error) {
	at := l.place()
	f, info, err := l.t.open(name)
	if err != nil {
		return seen, l.note(at, name, err)
	}
	defer f.Close()
	for _, s := range seen {
		if os.SameFile(s.FileInfo, info) {
			l.has.same(s.page, which)
			return seen, nil
		}
	}
	p := pypi.Reader{
		See:    func(k pypi.File) error { return l.link(name, which, k) },
		Remark: func(text string) { l.remarks.add(name, text) },
	}
	if strings.HasSuffix(name, "json") {
		err = p.JSON(bounded.WithContext(ctx, f), "files")
	} else {
		err = p.HTML(bounded.WithContext(ctx, f))
	}
	return append(seen, seenPage{info, which}), l.note(at, name, fault.Of(err))
}

// note files an error, if it is the fault of a page. What that lists is not known then.
func (l *pypiLook) note(at int64, page string, err error) error {
	l.has.unknown = l.has.unknown || err != nil
	return l.found.note(at, page, err)
}

// link adds what a link leads to, to what is looked at.
func (l *pypiLook) link(page string, which pageSet, k pypi.File) error {
	base := path.Join("simple", l.p.name)
	name, err := pypi.Resolve(base, k.URL, l.RootURI, false)
	if err != nil && l.p.initial {
		// Servers show such a project without the first character, but not all.
		name, err = pypi.Resolve(l.p.dir(), k.URL, l.RootURI, false)
	}
	sum := k.Digest
	if err == nil && sum.Kind == "" {
		sum, err = pypi.DigestOfURL(k.URL)
	}
	if err == nil && k.Metadata && strings.Contains(k.URL, "?") {
		err = fault.Errorf("links %s, which has a query, and whose metadata pip does not find therefore", fault.Show(k.URL))
	}
	if err != nil {
		return l.note(l.place(), page, err)
	}
	if name == "" {
		l.remarks.add(page, "has links that are to no file of a project: pip does not follow them")
		return nil
	}
	l.has.add(path.Base(name), which, k.Yanked)
	name = path.Join(l.web, name)
	if _, ok := l.refs[name]; !ok && len(l.list) >= l.most {
		return fault.Errorf("lists more files than a project may have, %s", humanize.Comma(int64(l.most)))
	}
	l.add(page, name, k.Size, sum)
	if k.Metadata {
		l.add(page, name+".metadata", -1, k.MetadataDigest)
	}
	return nil
}

// add adds a file, or what a further page has of it.
func (l *pypiLook) add(page, name string, size int64, sum digest.Digest) {
	i, ok := l.refs[name]
	if !ok {
		l.refs[name] = len(l.list)
		l.list = append(l.list, ref{at: l.place(), name: name, by: page, size: size, sum: sum, lenient: func() { l.remarks.add(page, "has a wrong size for a file whose checksum is right") }})
		return
	}
	r := &l.list[i]
	switch {
	case r.size >= 0 && size >= 0 && r.size != size:
		l.found.add(l.place(), name, "has different sizes in %s and %s", r.by, page)
	case r.sum.Kind == sum.Kind && r.sum != sum:
		l.found.add(l.place(), name, "has different checksums in %s and %s", r.by, page)
	}
	if r.size < 0 && size >= 0 {
		r.size, r.by = size, page
	}
	if r.sum.Kind == "" {
		r.sum = sum
	}
}
