package gate

import (
	"encoding/xml"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// rpmFile is what the metadata of an RPM repository say of a file.
type rpmFile struct {
	kind string        // of metadata: "primary"
	href string        // as it stands there
	base string        // xml:base, where that is not nil
	away bool          // there is an xml:base
	size int64         // -1 if it is not told
	sum  digest.Digest // empty if it is not told
}

// rpmReader reads the metadata of RPM repositories.
type rpmReader struct {
	x      *xmlReader
	remark func(text string) // of what dnf takes, though it should be otherwise
	text   strings.Builder   // of the element that is open
}

// elements reads the file to its end, and calls start and end with each element, and the
// level it is on, 1 for the root. Names with a prefix are not known to dnf either, and
// begin with that here. text is what stands in the element, where start returned true.
func (r *rpmReader) elements(in io.Reader, start func(level int, e xml.StartElement) (text bool, err error), end func(level int, name, text string) error) error {
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

// parseRepomd reads a repomd.xml, and when the newest of the metadata were made, zero
// if it does not say. Its error is a fault.Error.
func parseRepomd(text io.Reader, remark func(string)) (files []rpmFile, made time.Time, err error) {
	r := rpmReader{remark: remark}
	var f rpmFile
	kind := "" // of checksum
	err = r.elements(text, func(level int, e xml.StartElement) (bool, error) {
		name := tagName(e.Name)
		switch {
		case level == 1 && name != "repomd":
			return false, fault.Errorf("is not a list of metadata, but %s", fault.Show(name))
		case level == 2 && name == "data":
			f = rpmFile{kind: attr(e, "type"), size: -1}
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
			if f.sum.Kind == "" {
				remark("has no checksum for some of its metadata")
			}
			files = append(files, f)
		case level != 3:
		case name == "checksum":
			// dnf compares the text.
			if text != strings.ToLower(text) {
				return fault.Errorf("has %s for a checksum; dnf compares it as text, and takes lower case only", fault.Show(text))
			}
			var err error
			f.sum, err = digest.Parse(rpmDigest(kind), text)
			return err
		case name == "size":
			f.size = r.size(text)
		case name == "timestamp":
			if t := parseTimestamp(text); t.After(made) {
				made = t
			}
		}
		return nil
	})
	err = fault.Of(err)
	if err == nil && len(files) == 0 {
		err = fault.Errorf("lists no metadata")
	}
	return files, made, err
}

// location takes the attributes of a location.
func (f *rpmFile) location(e xml.StartElement) {
	f.href, f.base, f.away = attr(e, "href"), "", false
	for _, a := range e.Attr {
		if tagName(a.Name) == "xml:base" {
			f.base, f.away = a.Value, true
		}
	}
}

// size reads a size of a file as dnf does: what is no number is not known.
func (r *rpmReader) size(text string) int64 {
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

// rpmDigest returns the name that a kind of checksum has here.
func rpmDigest(kind string) string {
	if kind = strings.ToLower(kind); kind == "sha" {
		return "sha1"
	}
	return kind
}

// readPrimary reads a primary.xml and calls see with each package. It does not keep
// them. Its error may be a fault.Error.
func readPrimary(text io.Reader, remark func(string), see func(rpmFile) error) error {
	r := rpmReader{remark: remark}
	var (
		pkg  rpmFile
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
			pkg = rpmFile{size: -1}
		case level != 3:
		case name == "checksum":
			kind = attr(e, "type")
			return true, nil
		case name == "size":
			size := attr(e, "package")
			if strings.HasPrefix(strings.TrimSpace(size), "-") {
				return false, fault.Errorf("has a size of %s for a package, before byte %d", fault.Show(size), r.x.d.InputOffset())
			}
			if pkg.size = r.size(size); pkg.size == 0 {
				remark("has a package of 0 bytes, which dnf takes for a size that is not known")
				pkg.size = -1
			}
		case name == "location":
			pkg.location(e)
		}
		return false, nil
	}, func(level int, name, text string) error {
		switch {
		case level == 2 && name == "package":
			n++
			if pkg.href == "" || pkg.sum.Kind == "" {
				return fault.Errorf("has no location, or no checksum, for a package, before byte %d", r.x.d.InputOffset())
			}
			return see(pkg)
		case level == 3 && name == "checksum":
			var err error
			pkg.sum, err = digest.Parse(rpmDigest(kind), text)
			return err
		}
		return nil
	})
	if err == nil && said != strconv.Itoa(n) {
		remark("does not say rightly in packages how many packages it has")
	}
	return err
}

// elsewhere reports whether a file is not in the repository, but at an address. Its
// error is a fault.Error.
func (f *rpmFile) elsewhere() (bool, error) {
	address := f.href
	if f.away {
		address = f.base
	}
	scheme, _, ok := strings.Cut(address, "://")
	switch {
	case !ok && !f.away:
		return false, nil
	case ok && (scheme == "http" || scheme == "https" || scheme == "ftp"):
		return true, nil
	case f.away:
		return false, fault.Errorf("has %s for the xml:base of %s, which is no address: dnf does not find it", fault.Show(f.base), fault.Show(f.href))
	}
	return false, fault.Errorf("lists %s, which no client can download", fault.Show(f.href))
}

// rpmPath returns where the file that a repository in dir has by this href is in the tree,
// as dnf makes an address of it: all is relative to the repository, and "..", where it
// leads up, is resolved by its text. Its error is a fault.Error.
func rpmPath(dir, href string) (string, error) {
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

// hasUp reports whether a name has a part "..".
func hasUp(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}
