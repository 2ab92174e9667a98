package pypi

import (
	"strings"
	"time"
)

// Bookkeeping reports whether a file below a directory of bandersnatch is one that it
// writes in each run, or for itself: `.lock`, `status`, `generation` and `todo`; of what
// is served `web/last-modified` and `web/local-stats/*`.
func Bookkeeping(name string) bool {
	switch name {
	case ".lock", "status", "generation", "todo":
		return true
	}
	web, ok := strings.CutPrefix(name, "web/")
	return ok && (web == LastModified || strings.HasPrefix(web, "local-stats/"))
}

// RootPages are the lists of all projects, below a directory of bandersnatch. They have
// its serial, which moves also with projects that are not mirrored.
var RootPages = []string{"web/simple/index.html", "web/simple/index.v1_html", "web/simple/index.v1_json"}

// LastModified is the file, beside `simple`, with the date up to which a mirror has all of
// PyPI.
const LastModified = "last-modified"

// ParseLastModified reads the date that [LastModified] has (PEP 381), in UTC.
func ParseLastModified(text string) (time.Time, error) {
	return time.ParseInLocation("20060102T15:04:05", strings.TrimSpace(text), time.UTC)
}

// ProjectOf returns the normalized name of the project that a file of a simple
// repository is about, by its path: `simple/PROJECT/index.html`, also with a directory of
// first characters between, as bandersnatch's `hash_index` has it. It is empty if that is
// none.
func ProjectOf(name string) string {
	dirs := strings.Split(name, "/")
	for i := len(dirs) - 3; i >= 0; i-- {
		if dirs[i] != "simple" {
			continue
		}
		if len(dirs) > i+3 && len(dirs[i+1]) == 1 {
			return Normalize(dirs[i+2])
		}
		return Normalize(dirs[i+1])
	}
	return ""
}
