package afs

import (
	"strings"
	"testing"
)

// FakeCell is a cell of two file servers, for tests of those who read AFS.
type FakeCell struct {
	Name     string
	Locators []string // its volume location servers

	cell *fakeCell
	date uint32
}

// NewFakeCell starts a cell. Its root volume is empty, and not released yet.
func NewFakeCell(t testing.TB) *FakeCell {
	c := newFakeCell(t, 2)
	f := &FakeCell{Name: c.name, cell: c, date: firstDate}
	for _, db := range c.dbs {
		f.Locators = append(f.Locators, db.addr.String())
	}
	return f
}

// Put makes or replaces files of the root volume, and releases it. A name that ends
// in a slash is a directory. It returns the date of the release.
func (f *FakeCell) Put(files map[string][]byte) (date uint32) {
	f.cell.do(func() {
		v := f.cell.vols["root.cell"]
		for name, body := range files {
			if dir, ok := strings.CutSuffix(name, "/"); ok {
				v.mkdir(dir)
			} else {
				v.write(name, string(body))
			}
		}
		f.date++
		v.release(f.date)
		date = f.date
	})
	return date
}

// Twin replaces a file by one of the same mtime, and releases the volume.
func (f *FakeCell) Twin(name string, body []byte) (date uint32) {
	f.cell.do(func() {
		v := f.cell.vols["root.cell"]
		mtime := v.find(name).mtime
		v.write(name, string(body))
		v.find(name).mtime = mtime
		f.date++
		v.release(f.date)
		date = f.date
	})
	return date
}
