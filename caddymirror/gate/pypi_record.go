package gate

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// What projects had when the tree was last released is kept as an index like that of
// shrink: its entries are "project/file", with a pageSet for a size. It is read and written
// project by project, so that all of PyPI, with millions of files, takes no memory.

// projectFiles are the files that a project's pages list.
type projectFiles struct {
	key     string // the name of the project, normalized
	dir     string // in the tree
	pages   pageSet
	files   map[string]projectFile
	unknown bool // a page could not be read
}

type projectFile struct {
	pages  pageSet
	yanked bool // on one page at least
}

func (p *projectFiles) add(name string, page pageSet, yanked bool) {
	f := p.files[name]
	p.files[name] = projectFile{f.pages | page, f.yanked || yanked}
}

// same notes that a page is the same file as another, which was read.
func (p *projectFiles) same(read, page pageSet) {
	for name, f := range p.files {
		if f.pages&read != 0 {
			p.add(name, page, false)
		}
	}
}

// merge adds the files of the same project in another directory: bandersnatch moves them.
func (p *projectFiles) merge(q *projectFiles) {
	p.pages |= q.pages
	p.unknown = p.unknown || q.unknown
	for name, f := range q.files {
		p.add(name, f.pages, f.yanked)
	}
}

// pypiRecord goes along what was released last and what the pages list now, both in the
// order of the projects' names.
type pypiRecord struct {
	old  *indexReader // nil if nothing was released yet
	head *entry       // of old, not yet compared
	ends bool         // old has
	next *indexWriter
	now  total
	run  string
	hint string // how to let a tree pass that has lost something
	web  string

	project *projectFiles // the one that is gathered

	lost     problems // by project
	files    int64    // how many are lost
	projects int64    // how many have lost some
}

// recordFile returns the name of the file with what was released last.
func (g *Pypi) recordFile() string {
	name := "pypi"
	if g.Dir != "" { // a job may have several web directories
		name += "." + strings.ReplaceAll(path.Clean(g.Dir), "/", "%2F")
	}
	return recordName(name)
}

// Remembers implements Recorder.
func (g *Pypi) Remembers() string { return g.recordFile() }

const nextSuffix = ".next" // of the file with what may be released next

// openRecord opens what was released last, and begins what may be released next.
func (c *pypiCheck) openRecord() (*pypiRecord, error) {
	file := filepath.Join(c.run.State, c.recordFile())
	r := &pypiRecord{run: c.run.ID, hint: forgetHint(c.run.Job, "pypi", file), web: c.web}
	var err error
	if r.old, err = openIndex(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, r.unreadable(err)
	}
	if r.next, err = createIndex(file + nextSuffix); err != nil {
		r.close()
		return nil, fmt.Errorf("keeping what the pages list: %w", err)
	}
	return r, nil
}

func (r *pypiRecord) unreadable(err error) error {
	return fmt.Errorf("reading what was released last: %w (%s: the next tree is compared with nothing then)", err, r.hint)
}

// close closes what is open. It may follow end.
func (r *pypiRecord) close() {
	if r.old != nil {
		r.old.close()
	}
	if r.next != nil {
		r.next.abandon()
	}
}

// add adds what a project lists, in the order of the names of projects. The directories of
// one project come one after the other.
func (r *pypiRecord) add(p *projectFiles) error {
	if r.project != nil && r.project.key == p.key {
		r.project.merge(p)
		return nil
	}
	err := r.flush()
	r.project = p
	return err
}

// flush compares the project that is gathered with what it was, and keeps it.
func (r *pypiRecord) flush() error {
	p := r.project
	if p == nil {
		return nil
	}
	was, err := r.skipTo(p.key)
	if err != nil {
		return err
	}
	if !p.unknown {
		r.compare(p, was)
	}
	for _, name := range slices.Sorted(maps.Keys(p.files)) {
		f := p.files[name]
		if f.yanked {
			continue // it may go
		}
		r.now.entries++
		if err := r.next.add(entry{p.key + "/" + name, int64(f.pages)}); err != nil {
			return fmt.Errorf("keeping what the pages list: %w", err)
		}
	}
	return nil
}

// skipTo returns the entries of a project in what was released last. Projects before it
// are gone.
func (r *pypiRecord) skipTo(key string) ([]entry, error) {
	for {
		head, err := r.peek()
		if err != nil || head == nil {
			return nil, err
		}
		name, _, _ := strings.Cut(head.name, "/")
		if name > key {
			return nil, nil
		}
		was, err := r.take(name)
		if err != nil || name == key {
			return was, err
		}
		r.gone(name, was)
	}
}

// take takes the entries of a project, the first of which is the head.
func (r *pypiRecord) take(name string) (was []entry, err error) {
	for {
		head, err := r.peek()
		if err != nil || head == nil || !strings.HasPrefix(head.name, name+"/") {
			return was, err
		}
		was = append(was, *head)
		r.head = nil
	}
}

func (r *pypiRecord) peek() (*entry, error) {
	if r.old == nil || r.ends || r.head != nil {
		return r.head, nil
	}
	e, err := r.old.next()
	if err == io.EOF {
		r.ends = true
		return nil, nil //nolint:nilnil // there is no more
	}
	if err != nil {
		return nil, r.unreadable(err)
	}
	r.head = &e
	return r.head, nil
}

// gone notes a project that is gone.
func (r *pypiRecord) gone(key string, was []entry) {
	lost := make([]entry, len(was))
	for i, e := range was {
		lost[i] = entry{name: e.name}
	}
	r.miss(path.Join(r.web, "simple", key), "has no page any more, and had %d files when last released: %s", lost)
}

// compare notes what a project has lost.
func (r *pypiRecord) compare(p *projectFiles, was []entry) {
	var lost []entry // with the pages that lack it, unless all do
	for _, e := range was {
		f := p.files[path.Base(e.name)]
		switch missing := pageSet(e.size) & (p.pages | indexHTML) &^ f.pages; {
		case f.pages == 0:
			lost = append(lost, entry{name: e.name})
		case missing != 0 && !f.yanked:
			lost = append(lost, entry{e.name, int64(missing)})
		}
	}
	switch {
	case len(lost) == 0:
	case len(lost) == len(was) && !slices.ContainsFunc(lost, func(e entry) bool { return e.size != 0 }):
		r.miss(p.dir, "has lost all %d files that it had when last released, none of them yanked: %s", lost)
	default:
		r.miss(p.dir, "has lost %d files that it had when last released, none of them yanked: %s", lost)
	}
}

// maxLost is how many files of a project a message names.
const maxLost = 3

func (r *pypiRecord) miss(dir, format string, lost []entry) {
	n := len(lost)
	var names []string
	for _, e := range lost[:min(n, maxLost)] {
		on := []string{fault.Show(path.Base(e.name))}
		for i, page := range pypi.PageNames {
			if pageSet(e.size)&(1<<i) != 0 {
				on = append(on, page)
			}
		}
		names = append(names, strings.Join(on, " on "))
	}
	if n > maxLost {
		names = append(names, fmt.Sprintf("and %d more", n-maxLost))
	}
	r.files += int64(n)
	r.projects++
	r.lost.add(r.projects, dir, format+" (%s)", n, strings.Join(names, ", "), r.hint)
}

// end compares the rest, and makes what may be released next appear under its name.
func (r *pypiRecord) end() error {
	if err := r.flush(); err != nil {
		return err
	}
	r.project = nil
	for {
		head, err := r.peek()
		if err != nil {
			return err
		}
		if head == nil {
			break
		}
		name, _, _ := strings.Cut(head.name, "/")
		was, err := r.take(name)
		if err != nil {
			return err
		}
		r.gone(name, was)
	}
	if err := r.next.finish(r.run, r.now); err != nil {
		return fmt.Errorf("keeping what the pages list: %w", err)
	}
	return nil
}

// miss notes what is lost, unless that is as much as may be.
func (c *pypiCheck) miss(r *pypiRecord) {
	if r.files == 0 {
		return
	}
	most := int64(0)
	if c.deletions.set {
		most = c.deletions.of(r.old.total.entries)
	}
	if r.files <= most {
		for _, q := range r.lost.first { // a few; the log is for people
			c.remarks.add(q.File, q.Reason)
		}
		return
	}
	c.found.addAll(&r.lost, int64(len(c.projects)+2)*perProject)
	if most > 0 {
		c.found.add(int64(len(c.projects)+1)*perProject, "", "%d files of %d are lost, and deletions allows %d", r.files, r.old.total.entries, most)
	}
}

// Released implements Recorder.
func (g *Pypi) Released(r *step.Run) error {
	file := filepath.Join(r.State, g.recordFile())
	if err := keepIndex(file, file+nextSuffix, r.ID); err != nil {
		return fmt.Errorf("pypi: keeping what was released: %w", err)
	}
	return nil
}
