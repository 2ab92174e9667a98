package gate

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"
	"golang.org/x/sync/errgroup"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(new(Pypi))
}

// Pypi lets a tree pass in which the mirror of a Python package index is whole, as
// bandersnatch makes it: each link of each page below `simple` (`index.html`,
// `index.v1_html`, `index.v1_json`), also where projects are in a directory by
// their first character, leads to a file within the web directory, and that has the
// size that the page tells. The list of all projects has none that has no page; where
// there is no list, each directory of a project has a page.
//
// Each project has the files that it had when the tree was last released, unless they were
// yanked: on each page that there still is, and on `index.html`, which all clients can
// read. To let a tree pass that lacks some on purpose, see `deletions`, or run `caddy mirror
// forget JOB pypi`, or remove the file that the gate names.
//
// What pip takes passes, with a note in the log of the run where it is otherwise than it
// should be; what pip refuses does not pass. pip 23.2.1 was asked, and 23.0.1 of Debian 12
// and 24.2, which differ in little. The gate is stricter in this: files that pip does not choose must be there
// too; a page whose `html` has no end is taken for cut off; a size must be right, unless
// checksums are compared; JSON is in UTF-8, has no NaN, and no field twice; and a base comes
// before all links.
type Pypi struct {
	// The web directory, relative to the tree: the one that `simple` is in.
	// Default: `web` if there is one, else the tree itself.
	Dir string `json:"dir,omitempty"`

	// What links begin with that are not relative to their page, such as
	// `https://mirror.example.org/pypi`; bandersnatch's `root_uri`. Default: all
	// links are relative.
	RootURI string `json:"root_uri,omitempty"`

	// Compare the checksums of all files too, which reads the whole tree.
	Hash bool `json:"hash,omitempty"`

	// How many of the files that pages had when the tree was last released, and that were
	// not yanked then, they may have no more: a number, or a percentage such as `0.1%`.
	// Authors do delete files: a mirror of all of PyPI needs some. Default: 0.
	Deletions string `json:"deletions,omitempty"`

	deletions budget
}

// CaddyModule returns the Caddy module information.
func (*Pypi) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.gates.pypi", New: func() caddy.Module { return new(Pypi) }}
}

// Provision reads the budget.
func (g *Pypi) Provision(caddy.Context) (err error) {
	if g.deletions, err = parseBudget(g.Deletions, false); err != nil {
		return fmt.Errorf("deletions: %w", err)
	}
	return nil
}

// Validate checks the directory.
func (g *Pypi) Validate() error {
	if g.Dir == "" {
		return nil
	}
	return validPath(g.Dir)
}

// Check implements Gate.
func (g *Pypi) Check(ctx context.Context, r *step.Run) error {
	c := &pypiCheck{Pypi: g, run: r, web: path.Clean(g.Dir), progress: newProgress(ctx, r, "pypi")}
	err := within(ctx, c.check)
	if ctx.Err() == nil { // else it may have been left behind
		c.remarks.write(r.Out, "pypi")
	}
	return err
}

func (c *pypiCheck) check(ctx context.Context) error {
	t, err := openTree(c.run)
	if err != nil {
		return err
	}
	defer t.close()
	c.t = t
	if c.Dir == "" {
		there, err := t.exists("web/simple")
		if err != nil {
			return err
		}
		if there {
			c.web = "web"
		}
	}
	if err := c.look(ctx); err != nil {
		return err
	}
	return c.found.err("pypi")
}

// pypiCheck is one check of a tree.
type pypiCheck struct {
	*Pypi
	run   *step.Run
	t     *tree
	web   string
	found problems
	turns *pypiTurns

	remarks remarks

	projects []project
	next     atomic.Int64

	mu       sync.Mutex
	progress *progress
	done     int
	files    int64
}

// A project is a directory of pages.
type project struct {
	name    string
	key     string // its name, normalized
	initial bool   // the directory is one below that of its first character
	pages   pageSet
}

// A pageSet is a set of pages of a project, by their places in pypi.PageNames.
type pageSet uint8

// indexHTML is the page that servers answer with where they know of no others.
const indexHTML pageSet = 1

// perProject is how many places in the order of problems a project has.
const perProject = 1 << 24

func (c *pypiCheck) look(ctx context.Context) error {
	simple := path.Join(c.web, "simple")
	entries, err := c.t.list(simple)
	if err != nil {
		return c.found.note(0, simple, err)
	}
	if err := c.search(ctx, simple, entries); err != nil {
		return err
	}
	if len(c.projects) == 0 {
		c.found.add(0, simple, "has no projects")
		return nil
	}
	slices.SortFunc(c.projects, func(a, b project) int {
		return cmp.Or(strings.Compare(a.key, b.key), strings.Compare(a.dir(), b.dir()))
	})
	record, err := c.openRecord()
	if err != nil {
		return err
	}
	defer record.close()
	g, gctx := errgroup.WithContext(ctx)
	c.turns = newTurns(gctx, record)
	workers := lookers
	if c.Hash {
		workers = readers
	}
	for range workers {
		g.Go(func() error { return guarded(func() error { return c.work(gctx) }) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := c.root(ctx, simple, entries); err != nil {
		return err
	}
	if err := record.end(); err != nil {
		return err
	}
	c.miss(record)
	return nil
}

// search finds the projects.
func (c *pypiCheck) search(ctx context.Context, simple string, entries []fs.DirEntry) error {
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		isDir, err := c.t.isDir(simple, e)
		if err != nil {
			if err := c.found.note(0, path.Join(simple, e.Name()), err); err != nil {
				return err
			}
		}
		if !isDir {
			continue
		}
		c.projects = append(c.projects, project{name: e.Name(), key: pypi.Normalize(e.Name())})
		if len(e.Name()) != 1 {
			continue
		}
		dir := path.Join(simple, e.Name())
		below, err := c.t.list(dir)
		if err != nil {
			return fmt.Errorf("listing %s: %w", dir, err)
		}
		for _, e := range below {
			if e.IsDir() && e.Name() != "versions" { // which bandersnatch keeps old pages in
				c.projects = append(c.projects, project{name: e.Name(), key: pypi.Normalize(e.Name()), initial: true})
			}
		}
	}
	return nil
}

// dir returns the directory of a project, relative to the web directory.
func (p *project) dir() string {
	if p.initial {
		return path.Join("simple", p.name[:1], p.name)
	}
	return path.Join("simple", p.name)
}

func (c *pypiCheck) work(ctx context.Context) error {
	cur := cursor{t: c.t}
	defer cur.close()
	for {
		i := int(c.next.Add(1)) - 1
		if i >= len(c.projects) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.turns.wait(i); err != nil {
			return err
		}
		p := &c.projects[i]
		l := pypiLook{pypiCheck: c, cur: &cur, p: p, at: int64(i+1) * perProject, refs: map[string]int{}, most: maxLinks}
		l.has = projectFiles{key: p.key, dir: path.Join(c.web, p.dir()), files: map[string]projectFile{}}
		if err := l.look(ctx); err != nil {
			return err
		}
		if err := c.turns.done(i, &l.has); err != nil {
			return err
		}
		c.report(len(l.list))
	}
}

func (c *pypiCheck) report(files int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	c.files += int64(files)
	c.progress.report(float64(c.done)/float64(len(c.projects)), "%s of %s projects, %s files",
		humanize.Comma(int64(c.done)), humanize.Comma(int64(len(c.projects))), humanize.Comma(c.files))
}

// UnmarshalCaddyfile sets up the gate:
//
//	pypi [<webdir>] {
//		root_uri <address>
//		hash
//		deletions <number>|<percent>%
//	}
func (g *Pypi) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the gate's name
	if d.NextArg() {
		g.Dir = d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	if err := g.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return options(d, map[string]option{
		"root_uri": {1, 1, func(args []string) error {
			g.RootURI = args[0]
			return nil
		}},
		"hash": flag(&g.Hash),
		"deletions": {1, 1, func(args []string) error {
			g.Deletions = args[0]
			_, err := parseBudget(g.Deletions, false)
			return err
		}},
	})
}

// Interface guards
var (
	_ Recorder              = (*Pypi)(nil)
	_ caddy.Provisioner     = (*Pypi)(nil)
	_ caddy.Validator       = (*Pypi)(nil)
	_ caddyfile.Unmarshaler = (*Pypi)(nil)
)
