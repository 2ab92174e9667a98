package apt

import (
	"bytes"
	"io"
	"strconv"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// A File is what a Packages or Sources file says of one file.
type File struct {
	Name   string // relative to the repository, as it stands there: it may lead anywhere
	Size   int64  // in bytes
	Digest digest.Digest
}

// A Reader reads a Packages or Sources file, unpacked, as apt does. It keeps nothing of it.
type Reader struct {
	// See is called with each file of a package. Its error ends the reading.
	See func(File) error

	// Odd is called with what is off the specification, in one of a few sentences. It may
	// be nil.
	Odd func(what string)

	// Weak lets packages pass of which there is no checksum that apt trusts, see
	// [StrongKinds].
	Weak bool
}

// Packages reads a Packages file. Its error may be one of reading, or a fault of the file,
// see [fault.Of].
func (r Reader) Packages(in io.Reader) error {
	x := &packagesIndex{file: r.See, weak: r.Weak}
	x.d.field, x.d.end, x.d.odd, x.d.packages = x.field, x.end, r.Odd, true
	return x.d.read(in)
}

// Sources reads a Sources file. Its error is as that of [Reader.Packages].
func (r Reader) Sources(in io.Reader) error {
	x := &sourcesIndex{file: r.See, lists: map[string][]File{}}
	x.d.field, x.d.end, x.d.odd = x.field, x.end, r.Odd
	return x.d.read(in)
}

// packagesIndex reads a Packages file.
type packagesIndex struct {
	d    deb822
	file func(File) error
	weak bool

	pkg, filename, size []byte
	sums                [len(packageSums)][]byte
}

// packageSums are the fields with checksums, the one to rely on first. The first
// strongSums are those that apt trusts.
var packageSums = [...]struct{ field, kind string }{
	{"sha256", "sha256"},
	{"sha512", "sha512"},
	{"sha1", "sha1"},
	{"md5sum", "md5"},
}

const strongSums = 2

// value is where the value of a field is kept; nil if it is of no interest.
func (x *packagesIndex) value(name []byte) *[]byte {
	switch {
	case is(name, "package"):
		return &x.pkg
	case is(name, "filename"):
		return &x.filename
	case is(name, "size"):
		return &x.size
	}
	for i := range packageSums {
		if is(name, packageSums[i].field) {
			return &x.sums[i]
		}
	}
	return nil
}

func (x *packagesIndex) field(name, value []byte, first bool) error {
	to := x.value(name)
	if to == nil {
		return nil
	}
	if first && len(*to) > 0 {
		x.d.isOdd(oddTwice)
		*to = (*to)[:0]
	}
	if len(*to) > 0 {
		*to = append(*to, '\n')
	}
	*to = append(*to, value...)
	return nil
}

func (x *packagesIndex) end() error {
	defer x.reset()
	if len(x.pkg) == 0 {
		return fault.Errorf("has a paragraph without a Package, before line %d: apt can not read it", x.d.line)
	}
	if len(x.filename) == 0 {
		return fault.Errorf("has no Filename for package %s, before line %d", fault.Show(string(x.pkg)), x.d.line)
	}
	f := File{Name: string(x.filename)}
	digits, odd := leadingDigits(x.size)
	var err error
	if f.Size, err = strconv.ParseInt(digits, 10, 64); err != nil || f.Size == 0 {
		return fault.Errorf("has no Size for %s, before line %d", fault.Show(f.Name), x.d.line)
	}
	if odd {
		x.d.isOdd(oddSize)
	}
	for i, s := range packageSums {
		if len(x.sums[i]) == 0 {
			continue
		}
		if i >= strongSums && !x.weak {
			break
		}
		if f.Digest, err = aptDigest(s.kind, string(x.sums[i])); err != nil {
			return err
		}
		return x.file(f)
	}
	if !x.weak {
		return fault.Errorf("has no SHA256 or SHA512 for %s, before line %d: apt trusts no other", fault.Show(f.Name), x.d.line)
	}
	return x.file(f)
}

func (x *packagesIndex) reset() {
	x.pkg, x.filename, x.size = x.pkg[:0], x.filename[:0], x.size[:0]
	for i := range x.sums {
		x.sums[i] = x.sums[i][:0]
	}
}

// leadingDigits returns the digits that a number begins with, as strtoull(3) does, and
// whether there is more.
func leadingDigits(text []byte) (digits string, more bool) {
	text = bytes.TrimPrefix(text, []byte{'+'})
	n := 0
	for n < len(text) && '0' <= text[n] && text[n] <= '9' {
		n++
	}
	return string(text[:n]), n < len(text)
}

// aptDigest is [digest.Parse] for what apt compares as text: it knows checksums in lower case.
func aptDigest(kind, text string) (digest.Digest, error) {
	if strings.ToLower(text) != text {
		return digest.Digest{}, fault.Errorf("has %s for a checksum, in upper case, which apt takes for another", fault.Show(text))
	}
	return digest.Parse(kind, text)
}

// sourcesIndex reads a Sources file.
type sourcesIndex struct {
	d    deb822
	file func(File) error

	dir   []byte
	lists map[string][]File // by the kind of their checksums
}

// sourceLists are the fields with the files of a package.
var sourceLists = []struct{ field, kind string }{
	{"checksums-sha256", "sha256"},
	{"checksums-sha512", "sha512"},
	{"checksums-sha1", "sha1"},
	{"files", "md5"},
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
			return fault.Errorf("line %d has no checksum, size and name", x.d.line)
		}
		size, err := strconv.ParseInt(string(parts[1]), 10, 64)
		if err != nil || size < 0 {
			return fault.Errorf("line %d has %s for a size", x.d.line, fault.Show(string(parts[1])))
		}
		sum, err := digest.Parse(l.kind, string(parts[0]))
		if err != nil {
			return err
		}
		x.lists[l.kind] = append(x.lists[l.kind], File{string(parts[2]), size, sum})
	}
	return nil
}

func (x *sourcesIndex) end() error {
	defer func() {
		x.dir = x.dir[:0]
		clear(x.lists)
	}()
	dir := "."
	if len(x.dir) > 0 {
		dir = string(x.dir)
	}
	for _, l := range sourceLists {
		files := x.lists[l.kind]
		for _, f := range files {
			f.Name = dir + "/" + f.Name
			if err := x.file(f); err != nil {
				return err
			}
		}
		if len(files) > 0 {
			return nil
		}
	}
	return fault.Errorf("has no files for a package, before line %d", x.d.line)
}
