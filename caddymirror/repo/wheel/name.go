package wheel

import (
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// Name is what the file name of a wheel says.
type Name struct {
	// Project is as it is written there, see [pypi.Normalize].
	Project string

	// Version is as it is written there, but for underscores, which stand for what a
	// file name can not have.
	Version string

	// Build sorts wheels of one version. It begins with a digit, or is empty.
	Build string

	// Python, ABI and Platform are compressed sets of tags: `py2.py3`.
	Python, ABI, Platform string
}

// ParseName reads the file name of a wheel.
//
// Its errors are [fault.Error].
func ParseName(file string) (Name, error) {
	stem, ok := strings.CutSuffix(file, ".whl")
	if !ok {
		return Name{}, fault.Errorf("has a file name that does not end in .whl")
	}
	parts := strings.Split(stem, "-")
	if len(parts) == 5 {
		parts = append(parts[:2:2], "", parts[2], parts[3], parts[4])
	}
	if len(parts) != 6 {
		return Name{}, fault.Errorf("has a file name of %d parts between hyphens, not 5 or 6", len(parts))
	}
	n := Name{
		Project: parts[0], Version: strings.ReplaceAll(parts[1], "_", "-"), Build: parts[2],
		Python: parts[3], ABI: parts[4], Platform: parts[5],
	}
	switch {
	case !ValidProject(n.Project) || strings.Contains(n.Project, "__"):
		return Name{}, fault.Errorf("has a file name without a valid project name")
	case len(parts[2]) > 0 && !isDigit(n.Build[0]) || !isTag(strings.ReplaceAll(n.Build, ".", ""), true):
		return Name{}, fault.Errorf("has the build tag %s in its file name, which has to begin with a digit", fault.Show(n.Build))
	case strings.Count(stem, "-") == 5 && n.Build == "":
		return Name{}, fault.Errorf("has an empty build tag in its file name")
	}
	if _, err := ParseVersion(n.Version); err != nil {
		return Name{}, fault.Errorf("has a file name in which %v", err)
	}
	if _, err := expand(n.Python, n.ABI, n.Platform); err != nil {
		return Name{}, fault.Errorf("has a file name in which %v", err)
	}
	return n, nil
}

// Tags are all that the wheel's file name stands for, in lower case.
func (n Name) Tags() []Tag {
	tags, _ := expand(n.Python, n.ABI, n.Platform) // as ParseName has seen
	return tags
}

// SourceName is what the file name of a source distribution says.
type SourceName struct{ Project, Version string }

// ParseSource reads the file name of a source distribution, a `.tar.gz` or `.zip`: its
// version is what comes after the last hyphen.
//
// Its errors are [fault.Error].
func ParseSource(file string) (SourceName, error) {
	stem, ok := strings.CutSuffix(file, ".tar.gz")
	if !ok {
		if stem, ok = strings.CutSuffix(file, ".zip"); !ok {
			return SourceName{}, fault.Errorf("has a file name that does not end in .tar.gz or .zip")
		}
	}
	i := strings.LastIndexByte(stem, '-')
	if i < 0 || !ValidProject(stem[:i]) {
		return SourceName{}, fault.Errorf("has a file name without a valid project name")
	}
	n := SourceName{stem[:i], stem[i+1:]}
	if _, err := ParseVersion(n.Version); err != nil {
		return SourceName{}, fault.Errorf("has a file name in which %v", err)
	}
	return n, nil
}

// ValidProject reports whether a project can have this name: ASCII letters, digits, and
// between them `-`, `_` and `.`.
func ValidProject(name string) bool {
	if name == "" || isSeparator(name[0]) || isSeparator(name[len(name)-1]) {
		return false
	}
	for i := range len(name) {
		if !isAlnum(name[i]) && !isSeparator(name[i]) {
			return false
		}
	}
	return true
}

func isSeparator(c byte) bool { return c == '-' || c == '_' || c == '.' }

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isAlnum(c byte) bool {
	return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z'
}
