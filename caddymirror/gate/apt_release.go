package gate

import (
	"bytes"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// release is what a Release or InRelease file says (Debian's repository format), as apt
// reads it.
type release struct {
	file   string // relative to the tree
	dir    string // what the names of its indexes are relative to
	base   *aptBase
	byHash bool
	date   time.Time // when it was made; zero if it does not say
	until  time.Time // zero if it does not end
	kind   string    // of the checksums
	index  []aptIndex

	odd func(what string) // is called with what is off the specification; may be nil
}

// aptIndex is a file that a Release lists.
type aptIndex struct {
	name  string // relative to that of the release
	size  int64
	sum   digest.Digest
	fault error // why nothing can be of this size and checksum: a fault.Error; or nil
}

// releaseLists are the fields with checksums.
var releaseLists = map[string]string{"sha256": "sha256", "sha512": "sha512", "sha1": "sha1", "md5sum": "md5"}

// strongKinds are the kinds of checksums that apt trusts.
var strongKinds = []string{"sha256", "sha512"}

// Oddities of a Release.
const (
	oddParagraphs = "there is more than one paragraph; apt reads the first"
	oddDate       = "its Date is none that apt can read: it takes it for not said"
	oddIndex      = "lists a file that is not below its directory, or by a name that is not clean; apt does not find it"
	oddListed     = "lists a file twice, with different sizes or checksums; apt takes the first"
	oddPacked     = "lists an index of packages in compressed forms only; apt does not find it"
	oddFault      = "lists a file that is not here, with no size or checksum that one can have"
	oddValid      = "its Valid-Until is in a form that is not in the specification"
)

// parse reads text into r. Its error is a fault.Error.
func (r *release) parse(text []byte) error {
	lists := map[string][]aptIndex{}
	values := map[string]string{}
	d := deb822{odd: r.odd, end: func() error { return errStop }}
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
			if x.name == "" {
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
		return err
	}
	if rest := bytes.SplitN(text, []byte{'\n'}, d.line+1); len(rest) > d.line && len(bytes.TrimSpace(rest[d.line])) > 0 {
		d.isOdd(oddParagraphs)
	}
	if err := r.take(values, &d); err != nil {
		return err
	}
	for _, kind := range digest.Kinds {
		if len(lists[kind]) > 0 {
			r.kind = kind
			r.index = lists[kind]
			r.unique(&d)
			return nil
		}
	}
	return fault.Errorf("lists no indexes")
}

// take takes the values of fields.
func (r *release) take(values map[string]string, d *deb822) error {
	r.byHash = strings.EqualFold(values["acquire-by-hash"], "yes")
	if text := values["date"]; text != "" {
		var ok bool
		if r.date, ok = parseDate(text); !ok {
			d.isOdd(oddDate)
			// What apt can not read is of no consequence to clients, but tells what is older.
			if r.date, _ = parseZoned(text); isFuture(r.date) {
				r.date = time.Time{}
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
	r.until = until
	return nil
}

// unique drops what is listed twice.
func (r *release) unique(d *deb822) {
	slices.SortStableFunc(r.index, func(a, b aptIndex) int { return strings.Compare(a.name, b.name) })
	r.index = slices.CompactFunc(r.index, func(a, b aptIndex) bool {
		if a.name != b.name {
			return false
		}
		if a.size != b.size || a.sum != b.sum {
			d.isOdd(oddListed)
		}
		return true
	})
}

// parseIndexLine reads the checksum, size and name of a file. The name is empty if apt
// looks for none such.
func parseIndexLine(kind string, line []byte) (x aptIndex, err error) {
	parts := bytes.Fields(line)
	if len(parts) != 3 {
		return x, fault.Errorf("has no checksum, size and name")
	}
	x.name = string(parts[2])
	if !fs.ValidPath(x.name) || strings.IndexByte(x.name, 0) >= 0 {
		return aptIndex{}, nil
	}
	x.sum, x.fault = aptDigest(kind, string(parts[0]))
	size, err := strconv.ParseInt(string(parts[1]), 10, 64)
	if err != nil || size < 0 {
		x.fault = fault.Errorf("has %s for a size", fault.Show(string(parts[1])))
	}
	x.size = size
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
