package gate

import (
	"context"
	"io"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// oddMore is what there is to say of a file with more in it than clients read.
const oddMore = "there is more after the compressed data, which clients leave out"

// readIndex has parse read an index, and compares the checksum of the very bytes
// that it reads with the one that by has, if it has one. done is how many bytes were read so far.
// The error may be a fault.Error: of the index, not of what it lists.
func readIndex(ctx context.Context, f io.Reader, want digest.Digest, by string, done *int64, parse func(io.Reader) error) error {
	raw, h := bounded.WithContext(ctx, f), digest.NewHash(want.Kind)
	if h != nil {
		raw = io.TeeReader(raw, h)
	}
	in := bounded.Func(func(b []byte) (int, error) {
		n, err := raw.Read(b)
		*done += int64(n)
		return n, err
	})
	err := fault.Of(parse(in))
	if err != nil && !fault.Is(err) {
		return err
	}
	if h == nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	if got := (digest.Digest{Kind: want.Kind, Sum: string(h.Sum(nil))}); got != want {
		return digest.Differ(got, want, by) // whatever else is wrong comes from that
	}
	return err
}
