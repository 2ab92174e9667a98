package gate

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/apt"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/packed"
)

// aptForm is one form of an index, as it was found.
type aptForm struct {
	name string // relative to the tree
	size int64
	sum  digest.Digest
}

// aptPlan is an index to be parsed.
type aptPlan struct {
	aptForm
	by      string // the Release that lists it
	base    *aptBase
	packing string        // the ending of its name there
	plain   digest.Digest // what it has unpacked; empty if the Release does not say
	sources bool
}

// aptPlanner finds the indexes of a Release.
type aptPlanner struct {
	*aptCheck
	rel    *release
	cur    cursor
	byHash map[string]bool // the directories that are there
}

// plan has the indexes of a Release looked at, and returns those to be parsed.
func (c *aptCheck) plan(rel *release) ([]aptPlan, error) {
	p := aptPlanner{c, rel, cursor{t: c.t}, map[string]bool{}}
	defer p.cur.close()
	var plans []aptPlan
	some, plain := false, false
	for _, g := range p.rel.Groups() {
		there, found, err := p.find(g)
		if err != nil {
			return nil, err
		}
		if err := p.required(g, there); err != nil {
			return nil, err
		}
		some = some || there && g.Lists()
		plain = plain || g.Lists() && g.Plain
		if there && g.Lists() && !g.Plain {
			c.remarks.add(rel.file, oddPacked)
		}
		if !g.Lists() {
			err = p.queue(found)
		} else if len(found) > 0 {
			slices.SortStableFunc(found, func(a, b aptPlan) int { return a.cost() - b.cost() })
			if found[0].cost() == len(packed.Endings) {
				return nil, fmt.Errorf("%s: this form can not be read, and there is no other", found[0].name)
			}
			err = p.queue(found[1:])
			if !c.planned[found[0].aptForm] {
				c.planned[found[0].aptForm] = true
				found[0].plain = g.PlainDigest
				c.todo += found[0].size
				plans = append(plans, found[0])
			}
		}
		if err != nil {
			return nil, err
		}
	}
	switch {
	case !some:
		c.add(rel.file, "lists no Packages or Sources that is here")
	case !plain:
		c.add(rel.file, "lists Packages and Sources in compressed forms only: apt does not find them unless the plain form is listed, too")
	}
	return plans, nil
}

// cost puts the forms in the order in which they are best read.
func (p *aptPlan) cost() int {
	if i := slices.Index(packed.Endings, p.packing); i >= 0 {
		return i
	}
	return len(packed.Endings)
}

// find returns the forms of an index that are there with the right size, each
// under one name. there is whether any is there at all.
func (p *aptPlanner) find(g *apt.Group) (there bool, found []aptPlan, err error) {
	for _, x := range g.Forms {
		infos := make([]fs.FileInfo, 0, 2)
		names, err := p.names(x)
		if err != nil {
			return false, nil, err
		}
		for i, name := range names {
			info, err := p.cur.stat(name)
			if missing(err) {
				if x.Fault != nil {
					p.remarks.add(p.rel.file, oddFault)
				}
				// Of other indexes, many mirrors have those only that they use.
				if i > 0 && len(infos) > 0 && g.Lists() {
					p.add(name, "is missing, %s lists it and there are others by hash", p.rel.file)
				}
				continue
			}
			there = true
			if err == nil {
				err = x.Fault
			}
			if err == nil && info.Size() != x.Size {
				err = fault.Errorf("its size is %d, %s says %d", info.Size(), p.rel.file, x.Size)
			}
			if err != nil {
				if err := p.note(name, err); err != nil {
					return false, nil, err
				}
				continue
			}
			if !slices.ContainsFunc(infos, func(o fs.FileInfo) bool { return os.SameFile(o, info) }) {
				found = append(found, aptPlan{
					aptForm: aptForm{name, x.Size, x.Digest},
					by:      p.rel.file, base: p.rel.base, packing: packed.Ending(x.Name), sources: path.Base(g.Name) == "Sources",
				})
			}
			infos = append(infos, info)
		}
	}
	return there, found, nil
}

// names returns the names that a form of an index has in the tree.
func (p *aptPlanner) names(x apt.Index) ([]string, error) {
	names := []string{path.Join(p.rel.dir, x.Name)}
	if !p.rel.ByHash || x.Digest.Kind == "" {
		return names, nil
	}
	name := path.Join(p.rel.dir, x.ByHash())
	dir := path.Dir(name)
	there, ok := p.byHash[dir]
	if !ok {
		var err error
		if there, err = p.t.exists(dir); err != nil {
			return nil, err
		}
		p.byHash[dir] = there
	}
	if there {
		names = append(names, name)
	}
	return names, nil
}

// required keeps that an index is there, or notes that it is not, if it should be.
func (p *aptPlanner) required(g *apt.Group, there bool) error {
	index := g.Name
	if there {
		now := p.now.Repositories[p.rel.dir]
		now.Indexes = append(now.Indexes, index)
		p.now.Repositories[p.rel.dir] = now
		return nil
	}
	file := path.Join(p.rel.dir, index)
	needed, err := p.needed(g)
	switch {
	case err != nil:
		return err
	case needed:
		p.add(file, "is missing in all forms, %s lists it", p.rel.file)
	case p.last.had(p.rel.dir, index) && !strings.HasSuffix(path.Dir(g.Name), ".diff"):
		p.add(file, "is missing in all forms, %s lists it and it was there when last released%s", p.rel.file, p.hint(""))
	}
	return nil
}

// needed reports whether an index must be there even if it never was: one of packages
// whose directory is there, or whose architecture is asked for. A flat repository has all
// in one directory, and not always sources.
func (p *aptPlanner) needed(g *apt.Group) (bool, error) {
	dir := path.Dir(g.Name)
	if !g.Lists() || dir == "." {
		return false, nil
	}
	if slices.Contains(p.Architectures, strings.TrimPrefix(path.Base(dir), "binary-")) {
		return true, nil
	}
	return p.t.exists(path.Join(p.rel.dir, dir))
}

// queue has files looked at that are not parsed.
func (p *aptPlanner) queue(plans []aptPlan) error {
	for _, f := range plans {
		if err := p.files.addIndex(f.name, f.by, f.size, f.sum); err != nil {
			return err
		}
	}
	return nil
}
