package gate

import (
	"context"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
)

// root checks that the list of all projects has none that has no page. Where there is no
// list, clients may ask for whatever has a directory.
func (c *pypiCheck) root(ctx context.Context, simple string, entries []fs.DirEntry) error {
	known := make(map[string]bool, len(c.projects))
	for _, p := range c.projects {
		if p.pages != 0 {
			known[p.key] = true
		}
	}
	at := int64(len(c.projects)+1) * perProject
	listed := false
	for _, name := range pypi.PageNames {
		if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == name }) {
			continue
		}
		listed = true
		file := path.Join(simple, name)
		f, _, err := c.t.open(file)
		if err != nil {
			if err := c.found.note(at, file, err); err != nil {
				return err
			}
			continue
		}
		p := c.list(file, &at, known)
		if strings.HasSuffix(name, "json") {
			err = p.JSON(bounded.WithContext(ctx, f), "projects")
		} else {
			err = p.HTML(bounded.WithContext(ctx, f))
		}
		f.Close()
		if err := c.found.note(at, file, fault.Of(err)); err != nil {
			return err
		}
	}
	if !listed {
		c.empty()
	}
	return nil
}

// list is what the list of all projects, in a file, is read with.
func (c *pypiCheck) list(file string, at *int64, known map[string]bool) pypi.Reader {
	remark := func(text string) { c.remarks.add(file, text) }
	return pypi.Reader{Remark: remark, See: func(k pypi.File) error {
		*at++
		name, err := pypi.Resolve("simple", k.URL, c.RootURI, true)
		switch {
		case strings.HasPrefix(k.URL, "#") || err == nil && (name == "" || name == "." || name == "simple"):
			remark("has links that are to no project") // up, or to itself
			return nil
		case err == nil && !known[pypi.Normalize(path.Base(name))]:
			err = fault.Errorf("lists project %s, which has no page", fault.Show(path.Base(name)))
		}
		return c.found.note(*at, file, err)
	}}
}

// empty finds the projects without a page, other than directories of those with the same
// first character.
func (c *pypiCheck) empty() {
	above := map[string]bool{}
	for _, p := range c.projects {
		if p.initial {
			above[path.Dir(p.dir())] = true
		}
	}
	for i, p := range c.projects {
		if p.pages == 0 && !above[p.dir()] {
			c.found.add(int64(i+1)*perProject, path.Join(c.web, p.dir()), "has no page")
		}
	}
}
