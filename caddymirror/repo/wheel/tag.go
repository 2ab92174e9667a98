package wheel

import (
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// Tag says what a wheel runs on (PEP 425), in lower case: `cp311`, `cp311`,
// `manylinux_2_17_x86_64`.
type Tag struct{ Python, ABI, Platform string }

func (t Tag) String() string { return t.Python + "-" + t.ABI + "-" + t.Platform }

// ParseTags reads a tag, or a compressed set of tags: `py2.py3-none-any`.
//
// Its errors are [fault.Error].
func ParseTags(s string) ([]Tag, error) {
	parts := strings.Split(s, "-")
	if len(parts) != 3 {
		return nil, fault.Errorf("the tag %s has %d parts between hyphens, not 3", fault.Show(s), len(parts))
	}
	return expand(parts[0], parts[1], parts[2])
}

// expand returns all tags of a compressed set.
func expand(python, abi, platform string) ([]Tag, error) {
	for _, set := range []string{python, abi, platform} {
		for part := range strings.SplitSeq(set, ".") {
			if !isTag(part, false) {
				return nil, fault.Errorf("%s is no set of tags", fault.Show(set))
			}
		}
	}
	pythons, abis, platforms := tagSet(python), tagSet(abi), tagSet(platform)
	// Of a long set any factor may be too large by itself.
	if len(pythons) > maxTags || len(abis) > maxTags || len(platforms) > maxTags ||
		len(pythons)*len(abis) > maxTags || len(pythons)*len(abis)*len(platforms) > maxTags {
		return nil, fault.Errorf("a set of tags stands for more than %d", maxTags)
	}
	tags := make([]Tag, 0, len(pythons)*len(abis)*len(platforms))
	for _, p := range pythons {
		for _, a := range abis {
			for _, l := range platforms {
				tags = append(tags, Tag{p, a, l})
			}
		}
	}
	return tags, nil
}

func tagSet(s string) []string { return strings.Split(strings.ToLower(s), ".") }

func isTag(s string, empty bool) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '_' {
			return false
		}
	}
	return s != "" || empty
}
