package wheel

import (
	"bytes"
	"strings"
	"unicode"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// Metadata is what an index needs to know of a wheel's METADATA ("Core metadata
// specifications").
type Metadata struct {
	Name, Version string

	// RequiresPython says which Pythons the wheel is for (`>=3.9`), empty if it does not
	// say.
	RequiresPython string

	// Bytes are those of the file, as indexes serve them beside the wheel (PEP 658).
	Bytes []byte
}

// parseMetadata reads METADATA as Python does.
func parseMetadata(b []byte) (Metadata, error) {
	m := Metadata{Bytes: b}
	seen := map[string]bool{}
	for name, value := range headers(b) {
		var to *string
		switch strings.ToLower(name) {
		case "name":
			to = &m.Name
		case "version":
			to = &m.Version
		case "requires-python":
			to = &m.RequiresPython
		default:
			continue
		}
		if seen[name] && *to != value {
			return m, fault.Errorf("has METADATA with more than one %s", name)
		}
		*to, seen[name] = value, true
	}
	switch {
	case m.Name == "":
		return m, fault.Errorf("has METADATA without Name")
	case m.Version == "":
		return m, fault.Errorf("has METADATA without Version")
	case len(m.RequiresPython) > 1000 || strings.ContainsFunc(m.RequiresPython, unicode.IsControl):
		return m, fault.Errorf("has METADATA with %s for Requires-Python", fault.Show(m.RequiresPython))
	}
	return m, nil
}

// headers are the fields in front of the first empty line, in which continued lines are
// joined by a blank. As in Python, a line that is no field ends them.
func headers(b []byte) func(yield func(name, value string) bool) {
	return func(yield func(name, value string) bool) {
		name, value := "", ""
		b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))
		for line := range bytes.Lines(b) {
			line = bytes.TrimRight(line, "\r\n")
			if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') && name != "" {
				if len(value) < maxInfo { // what is longer is a description
					value += " " + string(bytes.TrimSpace(line))
				}
				continue
			}
			if name != "" && !yield(name, strings.TrimSpace(value)) {
				return
			}
			n, v, ok := bytes.Cut(line, []byte(":"))
			if !ok || len(n) == 0 || bytes.ContainsAny(n, " \t") {
				return
			}
			name, value = string(n), string(v)
		}
		if name != "" {
			yield(name, strings.TrimSpace(value))
		}
	}
}
