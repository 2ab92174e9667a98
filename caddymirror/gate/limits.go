package gate

import (
	"github.com/dustin/go-humanize"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// What comes from outside is read piece by piece, or up to a limit. ARCHITECTURE.md has
// the table.
const (
	// maxListed is how many files the indexes of a tree may list together. Each takes some
	// 50 bytes of memory.
	maxListed = 20_000_000

	// maxLinks is how many files the pages of one project may list.
	maxLinks = 1_000_000
)

// tooMany is what is wrong with the index that lists one file too many.
func tooMany(n int) error {
	return fault.Errorf("lists more files than a tree may have in its indexes together, %s", humanize.Comma(int64(n)))
}
