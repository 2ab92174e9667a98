package gate

import (
	"errors"
	"fmt"
	"io"

	"github.com/dustin/go-humanize"
)

// What comes from outside is read piece by piece, or up to a limit. ARCHITECTURE.md has
// the table.
const (
	// maxRelease is how large a Release file of apt may be, and its signature.
	maxRelease = 64 << 20

	// maxRepomd is how large a repomd.xml may be, and its signature.
	maxRepomd = 16 << 20

	// maxWindow bounds the memory for reading one compressed file.
	maxWindow = 128 << 20

	// maxUnpacked is how much an index may have in it that is compressed: one of Debian has
	// 60 MiB, and the largest of Fedora 250.
	maxUnpacked = 8 << 30

	// maxToken is how long one piece of an index may be that is in memory as a whole: a
	// tag of HTML, a tag or text of XML, a value of JSON.
	maxToken = 1 << 20

	// maxDepth is how deep elements of XML, and values of JSON, may lie in each other.
	maxDepth = 256

	// maxListed is how many files the indexes of a tree may list together. Each takes some
	// 50 bytes of memory.
	maxListed = 20_000_000

	// maxLinks is how many files the pages of one project may list.
	maxLinks = 1_000_000
)

// A boundedReader fails with err when more is read than is left.
type boundedReader struct {
	r    io.Reader
	left int64
	err  error
}

var errTooLong = errors.New("a piece of it is longer than 1 MiB")

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, b.err
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// bounded returns a reader of what a compressed file has in it, which fails if that is more
// than limit.
func bounded(r io.Reader, limit int64) io.Reader {
	err := fmt.Errorf("there are more than %s in it when it is unpacked", humanize.IBytes(uint64(limit)))
	return &boundedReader{r, limit + 1, err} // one more, to see the end
}

// tooMany is what is wrong with the index that lists one file too many.
func tooMany(n int) error {
	return bad("lists more files than a tree may have in its indexes together, %s", humanize.Comma(int64(n)))
}
