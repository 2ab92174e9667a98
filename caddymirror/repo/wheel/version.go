package wheel

import (
	"strings"

	pep440 "github.com/aquasecurity/go-pep440-version"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// Version is a version of PEP 440.
type Version struct{ v pep440.Version }

// ParseVersion reads a version in any of its spellings.
//
// Its errors are [fault.Error].
func ParseVersion(s string) (Version, error) {
	if len(s) > 200 {
		return Version{}, fault.Errorf("the version %s is too long", fault.Show(s))
	}
	// The library does not know that these separators are one.
	public, local, _ := strings.Cut(s, "+")
	if local != "" {
		local = "+" + strings.NewReplacer("-", ".", "_", ".").Replace(local)
	} else if len(public) < len(s) {
		return Version{}, fault.Errorf("%s is no version", fault.Show(s))
	}
	v, err := pep440.Parse(public + local)
	if err != nil {
		return Version{}, fault.Errorf("%s is no version", fault.Show(s))
	}
	return Version{v}, nil
}

// String is the version's normal form.
func (v Version) String() string { return v.v.String() }

// Compare returns -1, 0 or 1: v is older than o, the same, or newer.
func (v Version) Compare(o Version) int { return v.v.Compare(o.v) }
