package rpm

import "path"

// Bookkeeping reports whether a file of a tree of repositories says only when, or from
// whom, it was mirrored: `timestamp.txt` and `TIME` of CentOS and its kin, `mirror.info`,
// `lastupdate` and `lastsync`. They may lie in any directory.
func Bookkeeping(name string) bool {
	switch path.Base(name) {
	case "timestamp.txt", "TIME", "TIMESTAMP", "mirror.info", "lastupdate", "lastsync", ".lastsync":
		return true
	}
	return false
}
