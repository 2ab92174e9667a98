package pypi

import "strings"

// Normalize returns the normalized name of a project (PEP 503): in lower case, with one
// hyphen for each run of `-`, `_` and `.`.
func Normalize(project string) string {
	if isNormal(project) {
		return project
	}
	b := make([]byte, 0, len(project))
	for i := range len(project) {
		if c := project[i]; !isSeparator(c) {
			b = append(b, c)
		} else if i == 0 || !isSeparator(project[i-1]) {
			b = append(b, '-')
		}
	}
	return strings.ToLower(string(b))
}

func isNormal(project string) bool {
	for i := range len(project) {
		c := project[i]
		if c >= 0x80 || 'A' <= c && c <= 'Z' || c == '_' || c == '.' || c == '-' && i > 0 && project[i-1] == '-' {
			return false
		}
	}
	return true
}

func isSeparator(c byte) bool { return c == '-' || c == '_' || c == '.' }
