package diskcache

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Meta is what is stored with an object's bytes.
type Meta struct {
	// Size of the body in bytes; in Fill.Start, -1 if it is not known yet.
	Size int64 `json:"-"` // the file's header has it

	// ModTime is when the object last changed.
	ModTime time.Time `json:"mod_time,omitzero"`

	// DateWeak says that another version has, or may have, a ModTime within the
	// same second, which is all that HTTP tells of it.
	DateWeak bool `json:"date_weak,omitempty"`

	// Validator tells two versions of the object apart; empty if nothing can.
	Validator string `json:"validator,omitempty"`

	// Header holds fields to be served with the object, by canonical name: the
	// values of each field's lines, in order.
	Header map[string][]string `json:"header,omitempty"`
}

// Get is the value of a field's first line, or empty. The name is canonical.
func (m *Meta) Get(name string) string {
	if lines := m.Header[name]; len(lines) > 0 {
		return lines[0]
	}
	return ""
}

type fileMeta struct {
	Key Key `json:"key"`
	Meta
}

// eachText replaces all strings that may be other than UTF-8.
func (m *fileMeta) eachText(f func(string) string) {
	for _, s := range []*string{&m.Key.Group, &m.Key.Name, &m.Validator} {
		*s = f(*s)
	}
	if m.Header == nil {
		return
	}
	header := make(map[string][]string, len(m.Header))
	for name, lines := range m.Header {
		lines = slices.Clone(lines)
		for n, line := range lines {
			lines[n] = f(line)
		}
		header[f(name)] = lines
	}
	m.Header = header
}

// decodeMeta reads metadata as files of a magic have it.
func decodeMeta(magic string, b []byte) (m fileMeta, err error) {
	if magic == magicV1 {
		return decodeMetaV1(b)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, err
	}
	m.eachText(fromUTF8)
	return m, nil
}

// decodeMetaV1 reads metadata whose fields have one line each.
func decodeMetaV1(b []byte) (m fileMeta, err error) {
	v1 := struct {
		*fileMeta
		Header map[string]string `json:"header"`
	}{fileMeta: &m}
	if err := json.Unmarshal(b, &v1); err != nil {
		return m, err
	}
	m.eachText(fromUTF8)
	for name, value := range v1.Header {
		if m.Header == nil {
			m.Header = make(map[string][]string, len(v1.Header))
		}
		m.Header[name] = []string{fromUTF8(value)}
	}
	return m, nil
}

// JSON has no strings but UTF-8. Others are stored as Go writes them in
// programs, behind a mark.
const quoteMark = "\uFFFD"

func toUTF8(s string) string {
	if utf8.ValidString(s) && !strings.HasPrefix(s, quoteMark) {
		return s
	}
	return quoteMark + strconv.Quote(s)
}

func fromUTF8(s string) string {
	quoted, ok := strings.CutPrefix(s, quoteMark)
	if !ok {
		return s
	}
	s, _ = strconv.Unquote(quoted) // toUTF8 has written it
	return s
}

// encodeMeta is the metadata as a line of JSON, without its end.
func encodeMeta(key Key, m Meta) ([]byte, error) {
	fm := fileMeta{key, m}
	fm.eachText(toUTF8)
	b, err := json.Marshal(fm)
	if err != nil {
		return nil, err
	}
	if len(b) >= maxMeta {
		return nil, fmt.Errorf("metadata of %d bytes", len(b))
	}
	return b, nil
}

// Metadata may be rewritten in place, so there is room for more of it. A 304 (Not
// Modified) mostly brings fields as long as they were, in Date and Expires, or a
// few dozen bytes more; minRoom is for one or two fields that the first response
// did not have, even where it had next to none. Long fields may grow by more, so
// the room is half of what is there; but no file has more than another block of
// the file system for it.
const (
	minRoom = 256
	maxRoom = 4 << 10
)

// withRoom ends a line of metadata, with room for it to grow.
func withRoom(line []byte) []byte {
	n := len(line) + min(max(len(line)/2, minRoom), maxRoom) + len("\n")
	return endLine(line, min(n, maxMeta))
}

// endLine ends a line with spaces and a newline, so that it has n bytes.
func endLine(line []byte, n int) []byte {
	spaces := bytes.Repeat([]byte(" "), n-len(line)-1)
	return slices.Concat(line, spaces, []byte("\n"))
}
