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

// A serialPlace is where pages of a kind have their serial.
type serialPlace struct {
	pattern *regexp.Regexp

	// How much of the beginning, and of the end, of a page may have it.
	head, tail int64
}

// A quotation mark within a string of JSON has a backslash before it, so these are
// names of fields. bandersnatch writes meta behind all files of a project and before
// its versions, and before the list of all projects.
var (
	htmlSerial = &serialPlace{regexp.MustCompile(`<!--\s*SERIAL (\d{1,20})\s*-->\s*$`), 0, 4 << 10}
	metaSerial = &serialPlace{
		regexp.MustCompile(`"meta"\s*:\s*\{[^{}]*"_last-serial"\s*:\s*"?(\d{1,20})"?\s*[,}]`), 128 << 10, 128 << 10,
	}
	infoSerial = &serialPlace{regexp.MustCompile(`"last_serial"\s*:\s*(\d{1,20})\s*[,}]`), 128 << 10, 128 << 10}
)

// serialOf is where an object with this name has its serial, nil if it has none.
func serialOf(name string) *serialPlace {
	switch dir, rest, _ := strings.Cut(name, "/"); dir {
	case "simple":
		switch path.Base(rest) {
		case "index.v1_json":
			return metaSerial
		case "index.v1_html", "index.html":
			return htmlSerial
		}
	case "json":
		return infoSerial
	case "pypi":
		if path.Base(rest) == "json" {
			return infoSerial
		}
	}
	return nil
}

// Inspects implements Inspector.
func (*Pypi) Inspects(name string) bool { return serialOf(name) != nil }

// Fields implements Inspector: the serial of a page.
func (*Pypi) Fields(name string, page io.ReaderAt, size int64) (map[string]string, error) {
	at := serialOf(name)
	if size <= at.head+at.tail {
		return at.find(page, 0, size)
	}
	if at.head > 0 {
		if found, err := at.find(page, 0, at.head); found != nil || err != nil {
			return found, err
		}
	}
	return at.find(page, size-at.tail, at.tail)
}

func (at *serialPlace) find(page io.ReaderAt, off, n int64) (map[string]string, error) {
	part := make([]byte, n)
	got, err := page.ReadAt(part, off)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	found := at.pattern.FindSubmatch(part[:got])
	if found == nil {
		return nil, nil
	}
	return map[string]string{serialField: string(found[1])}, nil
}
