package gate

import (
	"io"

	"github.com/dustin/go-humanize"
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

// parse reads an index.
func (c *aptCheck) parse(p aptPlan, in io.Reader) error {
	z, err := unpack(p.packing, in)
	if err != nil {
		return err
	}
	defer z.Close()
	see := func(f aptFile) error { return c.listed(p, f) }
	if p.sources {
		return newSourcesIndex(see).d.read(z)
	}
	return newPackagesIndex(see).d.read(z)
}

// listed has looked at what an index lists.
func (c *aptCheck) listed(p aptPlan, f aptFile) error {
	if err := c.settle(p.base, f.name); err != nil {
		return err
	}
	name, err := local(p.base.dir, f.name)
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
	return c.files.add(name, p.name, f.size, f.sum)
}
