package syncer

import (
	"path"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/apt"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/rpm"
)

// bookkeeping reports whether a file of a mirror of anything is one that upstream writes
// though it has nothing new. Nobody has told what is mirrored.
func bookkeeping(name string) bool {
	return apt.Bookkeeping(name) || rpm.Bookkeeping(name) ||
		name == pypi.LastModified || name == "web/"+pypi.LastModified
}

// among returns a function that reports whether one of these patterns fits a name: as
// [path.Match] has them, in any directory if they have no slash; all that is below a
// directory if they end in one.
func among(patterns []string) func(name string) bool {
	return func(name string) bool {
		for _, p := range patterns {
			if fits(p, name) {
				return true
			}
		}
		return false
	}
}

func fits(pattern, name string) bool {
	if dir, ok := strings.CutSuffix(pattern, "/"); ok {
		for at := path.Dir(name); at != "." && at != "/"; at = path.Dir(at) {
			if fits(dir, at) {
				return true
			}
		}
		return false
	}
	pattern, whole := strings.CutPrefix(pattern, "/")
	if !whole && !strings.Contains(pattern, "/") {
		name = path.Base(name)
	}
	ok, err := path.Match(pattern, name)
	return ok && err == nil
}
