package apt

import "strings"

// Bookkeeping reports whether a file of an archive says only when it was mirrored, and by
// whom: Debian's `project/trace/*`, and `Archive-Update-*` of hosts at work. Directories
// may lie in front of these names.
func Bookkeeping(name string) bool {
	dir, base := "", name
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		dir, base = "/"+name[:i], name[i+1:]
	}
	return strings.HasSuffix(dir, "/project/trace") ||
		strings.HasPrefix(base, "Archive-Update-in-Progress-") || strings.HasPrefix(base, "Archive-Update-Required-")
}
