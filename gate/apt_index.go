package gate

import (
	"bytes"
	"strconv"
)

// aptFile is what a Packages or Sources file says of one file.
type aptFile struct {
	name string // as it stands there
	size int64
	sum  digest
}

// packagesIndex reads a Packages file.
type packagesIndex struct {
	d     deb822
	file  func(aptFile) error
	count int64

	pkg, filename, size, sum []byte
	kind                     string
}

func newPackagesIndex(file func(aptFile) error) *packagesIndex {
	x := &packagesIndex{file: file}
	x.d.field, x.d.end = x.field, x.end
	return x
}

func (x *packagesIndex) field(name, value []byte, first bool) error {
	if !first {
		return nil
	}
	var to *[]byte
	switch {
	case is(name, "package"):
		to = &x.pkg
	case is(name, "filename"):
		to = &x.filename
	case is(name, "size"):
		to = &x.size
	case is(name, "sha256"):
		x.digest("sha256", value)
	case is(name, "sha512"):
		x.digest("sha512", value)
	case is(name, "sha1"):
		x.digest("sha1", value)
	case is(name, "md5sum"):
		x.digest("md5", value)
	}
	if to == nil {
		return nil
	}
	if len(*to) > 0 {
		return bad("line %d is a second %s of one package", x.d.line, name)
	}
	*to = append(*to, value...)
	return nil
}

// digest keeps a checksum if it is better than the one kept.
func (x *packagesIndex) digest(kind string, value []byte) {
	for _, k := range digestKinds {
		if k == x.kind {
			return
		}
		if k == kind {
			break
		}
	}
	x.kind = kind
	x.sum = append(x.sum[:0], value...)
}

func (x *packagesIndex) end() error {
	defer func() {
		x.pkg, x.filename, x.size, x.sum = x.pkg[:0], x.filename[:0], x.size[:0], x.sum[:0]
		x.kind = ""
	}()
	x.count++
	if len(x.filename) == 0 {
		return bad("has no Filename for package %s, before line %d", show(string(x.pkg)), x.d.line)
	}
	f := aptFile{name: string(x.filename)}
	var err error
	if f.size, err = strconv.ParseInt(string(x.size), 10, 64); err != nil || f.size < 0 {
		return bad("has no Size for %s, before line %d", show(f.name), x.d.line)
	}
	if x.kind != "" {
		if f.sum, err = parseDigest(x.kind, string(x.sum)); err != nil {
			return err
		}
	}
	return x.file(f)
}

// sourcesIndex reads a Sources file.
type sourcesIndex struct {
	d     deb822
	file  func(aptFile) error
	count int64

	dir   []byte
	lists map[string][]aptFile // by the kind of their checksums
}

// sourceLists are the fields with the files of a package.
var sourceLists = []struct{ field, kind string }{
	{"checksums-sha256", "sha256"},
	{"checksums-sha512", "sha512"},
	{"checksums-sha1", "sha1"},
	{"files", "md5"},
}

func newSourcesIndex(file func(aptFile) error) *sourcesIndex {
	x := &sourcesIndex{file: file, lists: map[string][]aptFile{}}
	x.d.field, x.d.end = x.field, x.end
	return x
}

func (x *sourcesIndex) field(name, value []byte, first bool) error {
	if first && is(name, "directory") {
		x.dir = append(x.dir[:0], value...)
		return nil
	}
	for _, l := range sourceLists {
		if !is(name, l.field) || len(value) == 0 {
			continue
		}
		parts := bytes.Fields(value)
		if len(parts) != 3 {
			return bad("line %d has no checksum, size and name", x.d.line)
		}
		size, err := strconv.ParseInt(string(parts[1]), 10, 64)
		if err != nil || size < 0 {
			return bad("line %d has %s for a size", x.d.line, show(string(parts[1])))
		}
		sum, err := parseDigest(l.kind, string(parts[0]))
		if err != nil {
			return err
		}
		x.lists[l.kind] = append(x.lists[l.kind], aptFile{string(parts[2]), size, sum})
	}
	return nil
}

func (x *sourcesIndex) end() error {
	defer func() {
		x.dir = x.dir[:0]
		clear(x.lists)
	}()
	x.count++
	dir := "."
	if len(x.dir) > 0 {
		dir = string(x.dir)
	}
	for _, l := range sourceLists {
		files := x.lists[l.kind]
		for _, f := range files {
			f.name = dir + "/" + f.name
			if err := x.file(f); err != nil {
				return err
			}
		}
		if len(files) > 0 {
			return nil
		}
	}
	return bad("has no files for a package, before line %d", x.d.line)
}
