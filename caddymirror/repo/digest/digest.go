// Package digest reads and compares the checksums in indexes of repositories.
package digest

import (
	"context"
	"crypto/md5"  //nolint:gosec // old indexes have no other checksum
	"crypto/sha1" //nolint:gosec // old indexes have no other checksum
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"io"
	"sync"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// A Digest is a checksum that an index has of a file. The zero value is none. Digests can
// be compared with ==.
type Digest struct {
	Kind string // one of [Kinds]; empty if there is no checksum
	Sum  string // the bytes of it, not hexadecimal
}

// Kinds are the known kinds, the one to rely on first.
var Kinds = []string{"sha256", "sha512", "sha384", "sha224", "sha1", "md5"}

// NewHash returns what computes checksums of a kind, which may be "sha" for "sha1"; nil if
// the kind is unknown.
func NewHash(kind string) hash.Hash {
	switch kind {
	case "md5":
		return md5.New() //nolint:gosec // see above
	case "sha", "sha1":
		return sha1.New() //nolint:gosec // see above
	case "sha224":
		return sha256.New224()
	case "sha256":
		return sha256.New()
	case "sha384":
		return sha512.New384()
	case "sha512":
		return sha512.New()
	}
	return nil
}

// Parse reads a checksum as indexes have it, in hexadecimal. Its error is a [fault.Error]
// of the index.
func Parse(kind, text string) (Digest, error) {
	h := NewHash(kind)
	if h == nil {
		return Digest{}, fault.Errorf("has a checksum of an unknown kind, %s", fault.Show(kind))
	}
	sum, err := hex.DecodeString(text)
	if err != nil || len(sum) != h.Size() {
		return Digest{}, fault.Errorf("has %s for a checksum, which is not a %s", fault.Show(text), kind)
	}
	return Digest{kind, string(sum)}, nil
}

const bufferSize = 128 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Of returns the checksum of what r reads, of a kind that [NewHash] knows. It ends with ctx.
func Of(ctx context.Context, r io.Reader, kind string) (Digest, error) {
	h := NewHash(kind)
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(h, bounded.WithContext(ctx, r), buf[:])
	return Digest{kind, string(h.Sum(nil))}, err
}

// Differ returns what is wrong with a file that has the checksum got, and the index named
// by says want. It is a [fault.Error].
func Differ(got, want Digest, by string) error {
	return fault.Errorf("its %s is %x, %s says %x", want.Kind, got.Sum, by, want.Sum)
}
