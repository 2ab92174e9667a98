package gate

import (
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/dustin/go-humanize"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/apt"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/packed"
)

// index reads an index and has looked at what it lists.
func (c *aptCheck) index(p aptPlan) error {
	at := c.files.place()
	f, _, err := c.t.open(p.name)
	if err != nil {
		return c.found.note(at, p.name, err)
	}
	defer f.Close()
	err = readIndex(c.ctx, f, p.sum, p.by, &c.done, func(in io.Reader) error { return c.parse(p, in) })
	return c.found.note(at, p.name, err)
}

// parse reads an index. Unpacked, it must have what the Release says that its plain form
// has: apt compares that, too.
func (c *aptCheck) parse(p aptPlan, in io.Reader) error {
	z, err := packed.Open(p.packing, in)
	if err != nil {
		return err
	}
	defer z.Close()
	text := packed.Bound(z, packed.MaxUnpacked)
	h := digest.NewHash(p.plain.Kind)
	if p.packing == "" {
		h = nil // it was compared as it was read
	}
	if h != nil {
		text = io.TeeReader(text, h)
	}
	odd := func(what string) { c.remarks.add(p.name, what) }
	r := apt.Reader{See: func(f apt.File) error { return c.listed(p, f) }, Odd: odd, Weak: c.AllowExpired}
	if p.sources {
		err = r.Sources(text)
	} else {
		err = r.Packages(text)
	}
	if err != nil {
		return err
	}
	if z.More() {
		odd(oddMore)
	}
	if h == nil {
		return nil
	}
	if got := string(h.Sum(nil)); got != p.plain.Sum {
		return fault.Errorf("unpacked, its %s is %x, %s says that it is %x", p.plain.Kind, got, p.by, p.plain.Sum)
	}
	return nil
}

// aptName returns a name that an index lists, of a repository in the directory base, as one
// in the tree: as servers answer for it when apt asks for it below the repository's address.
func (c *aptCheck) aptName(p aptPlan, name string) (string, error) {
	switch {
	case strings.IndexByte(name, 0) >= 0 || strings.IndexByte(name, '\n') >= 0:
		return "", fault.Errorf("lists %s, which is not a name", fault.Show(name))
	case strings.IndexByte(name, '?') >= 0:
		return "", fault.Errorf("lists %s: apt asks for it with a query, from the question mark on", fault.Show(name))
	}
	if err := c.settle(p.base, name); err != nil {
		return "", err
	}
	full := path.Join(p.base.dir, name)
	if !fs.ValidPath(full) {
		return "", fault.Errorf("lists %s, which leads out of the tree", fault.Show(name))
	}
	if name[0] == '/' {
		c.remarks.add(p.name, oddAbsolute)
	}
	if strings.Contains(name, "../") {
		c.remarks.add(p.name, oddUp)
	}
	return full, nil
}

// listed has looked at what an index lists.
func (c *aptCheck) listed(p aptPlan, f apt.File) error {
	name, err := c.aptName(p, f.Name)
	if err != nil {
		return err
	}
	if c.count++; c.count%batchSize == 0 {
		part := -1.0
		if c.todo > 0 {
			part = float64(c.done) / float64(c.todo)
		}
		c.progress.report(part, "%s files, %s", humanize.Comma(c.count), p.name)
	}
	return c.files.add(name, p.name, f.Size, f.Digest)
}
