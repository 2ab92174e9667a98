// Package apt reads the indexes of Debian's archives as apt does (compared with 2.6.1): what
// apt refuses is an error; what apt accepts against the specification is reported as odd.
package apt

import (
	"bytes"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/packed"
)

// MaxRelease is how large a Release file may be, and its signature, in bytes.
const MaxRelease = 64 << 20

// A Release is what a Release or InRelease file says.
type Release struct {
	ByHash bool      // indexes are also named by their checksums, see [Index.ByHash]
	Date   time.Time // when it was made; zero if it does not say
	Until  time.Time // Valid-Until; zero if it does not end

	// Kind is that of the checksums: the best of those that the file has.
	Kind string

	// Index are the files that it lists, sorted by name. They are below its directory, and
	// there is at least one.
	Index []Index
}

// An Index is a file that a Release lists.
type Index struct {
	Name   string // relative to the directory of the Release
	Size   int64  // in bytes
	Digest digest.Digest

	// Fault is why nothing can be of this size and checksum, a [fault.Error]; or nil.
	Fault error
}

// ByHash returns the name that the index has by its checksum, relative to the directory of
// the Release.
func (x *Index) ByHash() string {
	return path.Join(path.Dir(x.Name), "by-hash", byHashDirs[x.Digest.Kind], fmt.Sprintf("%x", x.Digest.Sum))
}

// byHashDirs are the directories of the kinds of checksums.
var byHashDirs = map[string]string{"sha256": "SHA256", "sha512": "SHA512", "sha1": "SHA1", "md5": "MD5Sum"}

// A Group is an index in all the forms that a Release lists: plain, and compressed.
type Group struct {
	Name  string // of the plain form, relative to the directory of the Release
	Forms []Index

	// Plain is whether the plain form is listed, and PlainDigest its checksum. apt finds no
	// index of packages of which it is not, and compares what it has unpacked with it.
	Plain       bool
	PlainDigest digest.Digest
}

// Lists reports whether the index lists packages.
func (g *Group) Lists() bool {
	base := path.Base(g.Name)
	return base == "Packages" || base == "Sources"
}

// Groups returns the indexes in the order of the Release.
func (r *Release) Groups() []*Group {
	byName := map[string]*Group{}
	var all []*Group
	for _, x := range r.Index {
		ending := packed.Ending(x.Name)
		name := strings.TrimSuffix(x.Name, ending)
		g := byName[name]
		if g == nil {
			g = &Group{Name: name}
			byName[name] = g
			all = append(all, g)
		}
		g.Forms = append(g.Forms, x)
		if ending == "" {
			g.Plain, g.PlainDigest = true, x.Digest
		}
	}
	return all
}

// MaxAhead is how far ahead of this host's clock a Date may be: as much as apt allows by
// default (Acquire::Max-FutureTime).
const MaxAhead = 10 * time.Second

// releaseLists are the fields with checksums.
var releaseLists = map[string]string{"sha256": "sha256", "sha512": "sha512", "sha1": "sha1", "md5sum": "md5"}

// StrongKinds are the kinds of checksums that apt trusts.
var StrongKinds = []string{"sha256", "sha512"}

// Oddities of a Release.
const (
	oddParagraphs = "there is more than one paragraph; apt reads the first"
	oddDate       = "its Date is none that apt can read: it takes it for not said"
	oddIndex      = "lists a file that is not below its directory, or by a name that is not clean; apt does not find it"
	oddListed     = "lists a file twice, with different sizes or checksums; apt takes the first"
	oddValid      = "its Valid-Until is in a form that is not in the specification"
)

// ParseRelease reads a Release, of up to [MaxRelease], or an InRelease without its signature.
// odd is called with what is off the specification, in one of a few sentences; it may be
// nil. Its error is a [fault.Error].
func ParseRelease(text []byte, odd func(what string)) (*Release, error) {
	r := new(Release)
	lists := map[string][]Index{}
	values := map[string]string{}
	d := deb822{odd: odd, end: func() error { return errStop }}
	d.field = func(name, value []byte, first bool) error {
		field := strings.ToLower(string(name))
		if kind, ok := releaseLists[field]; ok {
			if len(value) == 0 {
				return nil
			}
			x, err := parseIndexLine(kind, value)
			if err != nil {
				return fault.Errorf("line %d %s", d.line, err)
			}
			if x.Name == "" {
				d.isOdd(oddIndex)
				return nil
			}
			lists[kind] = append(lists[kind], x)
			return nil
		}
		switch field {
		case "acquire-by-hash", "date", "valid-until":
		default:
			return nil
		}
		if !first {
			values[field] += "\n" + string(value)
			return nil
		}
		if values[field] != "" {
			d.isOdd(oddTwice)
		}
		values[field] = string(value)
		return nil
	}
	if err := d.read(bytes.NewReader(text)); err != nil {
		return nil, err
	}
	if rest := bytes.SplitN(text, []byte{'\n'}, d.line+1); len(rest) > d.line && len(bytes.TrimSpace(rest[d.line])) > 0 {
		d.isOdd(oddParagraphs)
	}
	if err := r.take(values, &d); err != nil {
		return nil, err
	}
	for _, kind := range digest.Kinds {
		if len(lists[kind]) > 0 {
			r.Kind = kind
			r.Index = lists[kind]
			r.unique(&d)
			return r, nil
		}
	}
	return nil, fault.Errorf("lists no indexes")
}

// take takes the values of fields.
func (r *Release) take(values map[string]string, d *deb822) error {
	r.ByHash = strings.EqualFold(values["acquire-by-hash"], "yes")
	if text := values["date"]; text != "" {
		var ok bool
		if r.Date, ok = parseDate(text); !ok {
			d.isOdd(oddDate)
			// What apt can not read is of no consequence to clients, but tells what is older.
			if r.Date, _ = parseZoned(text); time.Until(r.Date) > MaxAhead {
				r.Date = time.Time{}
			}
		}
	}
	text := values["valid-until"]
	if text == "" {
		return nil
	}
	until, ok := parseDate(text)
	if !ok {
		return fault.Errorf("has %s for Valid-Until, which is no date that apt can read", fault.Show(text))
	}
	if _, err := time.Parse(releaseDate, text); err != nil {
		d.isOdd(oddValid)
	}
	r.Until = until
	return nil
}

// unique drops what is listed twice.
func (r *Release) unique(d *deb822) {
	slices.SortStableFunc(r.Index, func(a, b Index) int { return strings.Compare(a.Name, b.Name) })
	r.Index = slices.CompactFunc(r.Index, func(a, b Index) bool {
		if a.Name != b.Name {
			return false
		}
		if a.Size != b.Size || a.Digest != b.Digest {
			d.isOdd(oddListed)
		}
		return true
	})
}

// parseIndexLine reads the checksum, size and name of a file. The name is empty if apt
// looks for none such.
func parseIndexLine(kind string, line []byte) (x Index, err error) {
	parts := bytes.Fields(line)
	if len(parts) != 3 {
		return x, fault.Errorf("has no checksum, size and name")
	}
	x.Name = string(parts[2])
	if !fs.ValidPath(x.Name) || strings.IndexByte(x.Name, 0) >= 0 {
		return Index{}, nil
	}
	x.Digest, x.Fault = aptDigest(kind, string(parts[0]))
	size, err := strconv.ParseInt(string(parts[1]), 10, 64)
	if err != nil || size < 0 {
		x.Fault = fault.Errorf("has %s for a size", fault.Show(string(parts[1])))
	}
	x.Size = size
	return x, nil
}

// releaseDate is how the specification has the dates of a Release (RFC 1123, in UTC).
const releaseDate = "Mon, 2 Jan 2006 15:04:05 UTC"

// aptDates are the forms of dates that apt reads; those with a zone only with one of utc.
var aptDates = []string{"Mon, 2 Jan 2006 15:04:05 ", "Monday, 2-Jan-06 15:04:05 ", "Monday, 2-Jan-2006 15:04:05 "}

// utc are the names that apt knows for the only zone that it takes.
var utc = []string{"UTC", "GMT", "Z", "+0000", "-0000", "+0", "-0"}

// parseDate reads a date as apt does. ok is whether it can.
func parseDate(text string) (t time.Time, ok bool) {
	at := strings.LastIndexByte(text, ' ') + 1
	if slices.Contains(utc, text[at:]) {
		for _, layout := range aptDates {
			if t, err := time.Parse(layout, text[:at]); err == nil {
				return t, true
			}
		}
	}
	t, err := time.Parse(time.ANSIC, text)
	return t, err == nil
}

// parseZoned reads a date in any zone.
func parseZoned(text string) (time.Time, error) {
	return time.Parse("Mon, 2 Jan 2006 15:04:05 -0700", text)
}
