package format

import (
	"errors"
	"io"
	"path"
	"regexp"
	"strings"
)

// serialField is the field in which PyPI tells of which serial a page is, in its
// canonical spelling.
const serialField = "X-Pypi-Last-Serial"

// serialWindow is how much of the beginning, and of the end, of a page is looked
// through for its serial. bandersnatch writes it behind the files, and before the
// versions; into the list of projects before these.
const serialWindow = 128 << 10

// Where pages have their serial. A quotation mark within a string of JSON has a
// backslash before it, so these are names of fields.
var (
	htmlSerial = regexp.MustCompile(`<!--\s*SERIAL (\d{1,20})\s*-->\s*$`)
	metaSerial = regexp.MustCompile(`"meta"\s*:\s*\{[^{}]*"_last-serial"\s*:\s*"?(\d{1,20})"?\s*[,}]`)
	jsonSerial = regexp.MustCompile(`"last_serial"\s*:\s*(\d{1,20})\s*[,}]`)
)

// serialOf is how the serial of an object with this name is found in it, nil if it
// has none.
func serialOf(name string) *regexp.Regexp {
	switch dir, rest, _ := strings.Cut(name, "/"); dir {
	case "simple":
		switch path.Base(rest) {
		case "index.v1_json":
			return metaSerial
		case "index.v1_html", "index.html":
			return htmlSerial
		}
	case "json":
		return jsonSerial
	case "pypi":
		if path.Base(rest) == "json" {
			return jsonSerial
		}
	}
	return nil
}

// Inspects implements Inspector.
func (*Pypi) Inspects(name string) bool { return serialOf(name) != nil }

// Fields implements Inspector: the serial of a page.
func (*Pypi) Fields(name string, page io.ReaderAt, size int64) (map[string]string, error) {
	at := serialOf(name)
	if size > 2*serialWindow {
		if at != htmlSerial {
			if serial, err := findSerial(at, page, 0, serialWindow); serial != nil || err != nil {
				return serial, err
			}
		}
		return findSerial(at, page, size-serialWindow, serialWindow)
	}
	return findSerial(at, page, 0, size)
}

func findSerial(at *regexp.Regexp, page io.ReaderAt, off, n int64) (map[string]string, error) {
	part := make([]byte, n)
	got, err := page.ReadAt(part, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	found := at.FindSubmatch(part[:got])
	if found == nil {
		return nil, nil
	}
	return map[string]string{serialField: string(found[1])}, nil
}
