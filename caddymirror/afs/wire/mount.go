package wire

import "strings"

// MaxMount is how long the text of a mount point can be.
const MaxMount = 1024

// Mount is what a mount point says. Which volume it leads to is up to the reader:
// '#' prefers the read-only volume when coming from one, '%' takes the volume as
// it is named.
type Mount struct {
	Kind   byte   // '#' or '%'
	Cell   string // empty: the cell the mount point is in
	Volume string // a name, with or without suffix, or a number
}

// ParseMount reads the contents of a symbolic link that is a mount point, see
// [Status.IsMountPoint]. A mount point that leads to a file within a volume
// (volume:vnode:unique) is refused, as no one makes any.
func ParseMount(text []byte) (Mount, error) {
	m, problem := parseMount(string(text))
	if problem != "" {
		if len(text) > 64 {
			text = text[:64]
		}
		d := decoder{what: "mount point"}
		d.fail("%q: %s", text, problem)
		return Mount{}, d.err
	}
	return m, nil
}

func parseMount(s string) (m Mount, problem string) {
	if len(s) > MaxMount {
		return m, "too long"
	}
	if !strings.HasPrefix(s, "#") && !strings.HasPrefix(s, "%") {
		return m, "begins with neither # nor %"
	}
	m.Kind = s[0]
	m.Volume = s[1:]
	if !strings.HasSuffix(m.Volume, ".") {
		return m, "does not end with a dot"
	}
	m.Volume = m.Volume[:len(m.Volume)-1]
	if cell, volume, ok := strings.Cut(m.Volume, ":"); ok {
		if !validCellName(cell) {
			return m, "bad cell name"
		}
		m.Cell, m.Volume = cell, volume
	}
	if !validVolumeName(m.Volume) {
		return m, "bad volume name"
	}
	return m, ""
}

// String is the text of the mount point.
func (m Mount) String() string {
	if m.Cell == "" {
		return string(m.Kind) + m.Volume + "."
	}
	return string(m.Kind) + m.Cell + ":" + m.Volume + "."
}

// validVolumeName is generous: no one ever checked what a volume is called. What
// would be mistaken for something else has to go.
func validVolumeName(s string) bool {
	bad := func(r rune) bool { return r <= ' ' || r == 0x7f || r == '/' || r == ':' }
	return s != "" && strings.IndexFunc(s, bad) < 0
}

// validCellName wants what can be a domain name.
func validCellName(s string) bool {
	const good = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"
	return s != "" && len(s) <= 255 && s[0] != '.' && strings.Trim(s, good) == ""
}
