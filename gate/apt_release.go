package gate

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxRelease is how large a Release file may be.
const maxRelease = 64 << 20

// release is what a Release or InRelease file says (Debian's repository format).
type release struct {
	file   string // relative to the tree
	dir    string // what the names of its indexes are relative to
	base   *aptBase
	byHash bool
	date   time.Time // when it was made; zero if it does not say
	until  time.Time // zero if it does not end
	kind   string    // of the checksums
	index  []aptIndex
}

// aptIndex is a file that a Release lists.
type aptIndex struct {
	name string // relative to that of the release
	size int64
	sum  digest
}

// releaseLists are the fields with checksums.
var releaseLists = map[string]string{"sha256": "sha256", "sha512": "sha512", "sha1": "sha1", "md5sum": "md5"}

// parse reads text into r. Its error is a fileError.
func (r *release) parse(text []byte) error {
	lists := map[string][]aptIndex{}
	paragraphs := 0
	d := deb822{}
	d.end = func() error {
		if paragraphs++; paragraphs > 1 {
			return bad("has more than one paragraph")
		}
		return nil
	}
	d.field = func(name, value []byte, first bool) error {
		field := strings.ToLower(string(name))
		switch kind, ok := releaseLists[field]; {
		case ok && len(value) > 0:
			x, err := parseIndexLine(kind, value)
			if err != nil {
				return bad("line %d %s", d.line, err)
			}
			lists[kind] = append(lists[kind], x)
		case field == "acquire-by-hash" && first:
			r.byHash = strings.EqualFold(string(value), "yes")
		case field == "date" && first:
			r.date, _ = parseDate(string(value)) // to clients it is of no consequence
		case field == "valid-until" && first:
			until, err := parseDate(string(value))
			if err != nil {
				return bad("has %s for Valid-Until, which is not a date", show(string(value)))
			}
			r.until = until
		}
		return nil
	}
	if err := d.read(bytes.NewReader(text)); err != nil {
		return err
	}
	for _, kind := range digestKinds {
		if len(lists[kind]) > 0 {
			r.kind = kind
			r.index = lists[kind]
			return r.unique()
		}
	}
	return bad("lists no indexes")
}

// unique drops what is listed twice.
func (r *release) unique() error {
	slices.SortStableFunc(r.index, func(a, b aptIndex) int { return strings.Compare(a.name, b.name) })
	r.index = slices.Compact(r.index)
	for i := range len(r.index) - 1 {
		if r.index[i].name == r.index[i+1].name {
			return bad("lists %s twice, with different sizes or checksums", show(r.index[i].name))
		}
	}
	return nil
}

// parseIndexLine reads the checksum, size and name of a file.
func parseIndexLine(kind string, line []byte) (aptIndex, error) {
	parts := bytes.Fields(line)
	if len(parts) != 3 {
		return aptIndex{}, bad("has no checksum, size and name")
	}
	sum, err := parseDigest(kind, string(parts[0]))
	if err != nil {
		return aptIndex{}, err
	}
	size, err := strconv.ParseInt(string(parts[1]), 10, 64)
	if err != nil || size < 0 {
		return aptIndex{}, bad("has %s for a size", show(string(parts[1])))
	}
	name, err := local("", string(parts[2]))
	if err != nil {
		return aptIndex{}, err
	}
	return aptIndex{name, size, sum}, nil
}

func parseDate(text string) (t time.Time, err error) {
	for _, layout := range []string{"Mon, 2 Jan 2006 15:04:05 MST", "Mon, 2 Jan 2006 15:04:05 -0700"} {
		if t, err = time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return t, err
}
