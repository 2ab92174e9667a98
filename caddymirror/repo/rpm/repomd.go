// Package rpm reads the metadata of RPM repositories as dnf does: what dnf refuses is an
// error; what it accepts though it is wrong is remarked, with one of a few sentences.
package rpm

import (
	"encoding/xml"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// MaxRepomd is how large a repomd.xml may be, and its signature, in bytes.
const MaxRepomd = 16 << 20

// A File is what the metadata of a repository say of a file: of other metadata, or of a
// package.
type File struct {
	Kind string // of metadata: "primary"
	Href string // as it stands there, see [File.Elsewhere] and [Path]
	Base string // xml:base, where that is not nil
	Away bool   // there is an xml:base
	Size int64  // in bytes; -1 if it is not told

	// Digest is empty if none is told.
	Digest digest.Digest
}

// A Repomd is a repomd.xml: the list of the metadata of a repository.
type Repomd struct {
	Files []File

	// Made is when the newest of the metadata were made, zero if it does not say.
	Made time.Time
}

// reader reads the metadata of RPM repositories.
type reader struct {
	x      *xmlReader
	remark func(text string) // of what dnf takes, though it should be otherwise
	text   strings.Builder   // of the element that is open
}

// elements reads the file to its end, and calls start and end with each element, and the
// level it is on, 1 for the root. Names with a prefix are not known to dnf either, and
// begin with that here. text is what stands in the element, where start returned true.
func (r *reader) elements(in io.Reader, start func(level int, e xml.StartElement) (text bool, err error), end func(level int, name, text string) error) error {
	x, err := newXML(in)
	if err != nil {
		return err
	}
	r.x = x
	wanted := 0 // the level of the element whose text is wanted
	for {
		token, err := x.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch token := token.(type) {
		case xml.StartElement:
			want, err := start(x.depth(), token)
			if err != nil {
				return err
			}
			if want {
				wanted = x.depth()
				r.text.Reset()
			}
		case xml.CharData:
			if wanted == 0 || wanted != x.depth() {
				continue
			}
			if r.text.Len()+len(token) > bounded.MaxToken {
				return bounded.ErrTooLong
			}
			r.text.Write(token)
		case xml.EndElement:
			level, text := x.depth()+1, ""
			if level == wanted {
				text, wanted = r.text.String(), 0
			}
			if err := end(level, tagName(token.Name), text); err != nil {
				return err
			}
		}
	}
}

// ParseRepomd reads a repomd.xml, of up to [MaxRepomd]. Its error is a [fault.Error], or one
// of reading.
func ParseRepomd(text io.Reader, remark func(string)) (*Repomd, error) {
	var m Repomd
	r := reader{remark: remark}
	var f File
	kind := "" // of checksum
	err := r.elements(text, func(level int, e xml.StartElement) (bool, error) {
		name := tagName(e.Name)
		switch {
		case level == 1 && name != "repomd":
			return false, fault.Errorf("is not a list of metadata, but %s", fault.Show(name))
		case level == 2 && name == "data":
			f = File{Kind: attr(e, "type"), Size: -1}
		case level != 3:
		case name == "checksum":
			kind = attr(e, "type")
			return true, nil
		case name == "location":
			f.location(e)
		default:
			return name == "size" || name == "timestamp", nil
		}
		return false, nil
	}, func(level int, name, text string) error {
		switch {
		case level == 2 && name == "data":
			if f.Digest.Kind == "" {
				remark("has no checksum for some of its metadata")
			}
			m.Files = append(m.Files, f)
		case level != 3:
		case name == "checksum":
			// dnf compares the text.
			if text != strings.ToLower(text) {
				return fault.Errorf("has %s for a checksum; dnf compares it as text, and takes lower case only", fault.Show(text))
			}
			var err error
			f.Digest, err = digest.Parse(digestKind(kind), text)
			return err
		case name == "size":
			f.Size = r.size(text)
		case name == "timestamp":
			if t := parseTimestamp(text); t.After(m.Made) {
				m.Made = t
			}
		}
		return nil
	})
	err = fault.Of(err)
	if err == nil && len(m.Files) == 0 {
		err = fault.Errorf("lists no metadata")
	}
	if err != nil {
		return nil, err
	}
	return &m, nil
}

// location takes the attributes of a location.
func (f *File) location(e xml.StartElement) {
	f.Href, f.Base, f.Away = attr(e, "href"), "", false
	for _, a := range e.Attr {
		if tagName(a.Name) == "xml:base" {
			f.Base, f.Away = a.Value, true
		}
	}
}

// size reads a size of a file as dnf does: what is no number is not known.
func (r *reader) size(text string) int64 {
	text = strings.TrimSpace(text)
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && n >= 0 {
		return n
	}
	r.remark("has something else for the size of a file than a number of bytes")
	return -1
}

// parseTimestamp reads seconds since 1970, with fractions from some. It is zero for
// what is no time, which does not make metadata bad.
func parseTimestamp(text string) time.Time {
	seconds, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || seconds < 1 || seconds > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// digestKind returns the name that a kind of checksum has here.
func digestKind(kind string) string {
	if kind = strings.ToLower(kind); kind == "sha" {
		return "sha1"
	}
	return kind
}

// ReadPrimary reads a primary.xml, unpacked, and calls see with each package. It does not
// keep them. Its error may be a fault of the file, see [fault.Of].
func ReadPrimary(text io.Reader, remark func(string), see func(File) error) error {
	r := reader{remark: remark}
	var (
		pkg  File
		kind string // of checksum
		said string // how many packages
		n    int
	)
	err := r.elements(text, func(level int, e xml.StartElement) (bool, error) {
		name := tagName(e.Name)
		switch {
		case level == 1 && name != "metadata":
			return false, fault.Errorf("is not a list of packages, but %s", fault.Show(name))
		case level == 1:
			said = attr(e, "packages")
		case level == 2 && name == "package":
			pkg = File{Size: -1}
		case level != 3:
		case name == "checksum":
			kind = attr(e, "type")
			return true, nil
		case name == "size":
			size := attr(e, "package")
			if strings.HasPrefix(strings.TrimSpace(size), "-") {
				return false, fault.Errorf("has a size of %s for a package, before byte %d", fault.Show(size), r.x.d.InputOffset())
			}
			if pkg.Size = r.size(size); pkg.Size == 0 {
				remark("has a package of 0 bytes, which dnf takes for a size that is not known")
				pkg.Size = -1
			}
		case name == "location":
			pkg.location(e)
		}
		return false, nil
	}, func(level int, name, text string) error {
		switch {
		case level == 2 && name == "package":
			n++
			if pkg.Href == "" || pkg.Digest.Kind == "" {
				return fault.Errorf("has no location, or no checksum, for a package, before byte %d", r.x.d.InputOffset())
			}
			return see(pkg)
		case level == 3 && name == "checksum":
			var err error
			pkg.Digest, err = digest.Parse(digestKind(kind), text)
			return err
		}
		return nil
	})
	if err == nil && said != strconv.Itoa(n) {
		remark("does not say rightly in packages how many packages it has")
	}
	return err
}

// Elsewhere reports whether a file is not in the repository, but at an address. Its
// error is a [fault.Error].
func (f *File) Elsewhere() (bool, error) {
	address := f.Href
	if f.Away {
		address = f.Base
	}
	scheme, _, ok := strings.Cut(address, "://")
	switch {
	case !ok && !f.Away:
		return false, nil
	case ok && (scheme == "http" || scheme == "https" || scheme == "ftp"):
		return true, nil
	case f.Away:
		return false, fault.Errorf("has %s for the xml:base of %s, which is no address: dnf does not find it", fault.Show(f.Base), fault.Show(f.Href))
	}
	return false, fault.Errorf("lists %s, which no client can download", fault.Show(f.Href))
}

// Path returns where the file that a repository in dir has by this href is in the tree,
// as dnf makes an address of it: all is relative to the repository, and "..", where it
// leads up, is resolved by its text. Its error is a [fault.Error].
func Path(dir, href string) (string, error) {
	switch {
	case href == "":
		return "", fault.Errorf("lists a file without a name")
	case strings.IndexByte(href, 0) >= 0 || strings.HasSuffix(href, "/"):
		return "", fault.Errorf("lists %s, which is not the name of a file", fault.Show(href))
	}
	name := path.Join(dir, strings.TrimLeft(href, "/"))
	if name == ".." || strings.HasPrefix(name, "../") {
		return "", fault.Errorf("lists %s, which leads out of the tree", fault.Show(href))
	}
	return name, nil
}

// HasUp reports whether a name has a part "..".
func HasUp(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

// dnfMetadata are the kinds of metadata that dnf downloads, to the same name below a
// directory of its own, in which there is a repodata.
var dnfMetadata = []string{"primary", "filelists", "group", "group_gz", "updateinfo", "modules", "prestodelta"}

// CheckPlace returns what is wrong with where a repomd.xml says that metadata are. It is a
// [fault.Error].
func (f *File) CheckPlace() error {
	if slices.Contains(dnfMetadata, f.Kind) && !inRepodata(f.Href) {
		return fault.Errorf("lists %s; dnf takes %s only from repodata itself", fault.Show(f.Href), fault.Show(f.Kind))
	}
	return nil
}

// inRepodata reports whether dnf has a place for metadata with this name.
func inRepodata(href string) bool {
	dir := path.Dir(strings.TrimLeft(href, "/"))
	return (dir == "." || dir == "repodata") && !HasUp(href)
}
