package gate

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
)

// A digest is a checksum that an index has of a file.
type digest struct {
	kind string // "sha256"; empty if there is no checksum
	sum  string // the bytes of it
}

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// digestKinds are the known kinds, the one to rely on first.
var digestKinds = []string{"sha256", "sha512", "sha384", "sha224", "sha1", "md5"}

func newHash(kind string) hash.Hash {
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

// parseDigest reads a checksum as indexes have it. Its error is a fileError.
func parseDigest(kind, text string) (digest, error) {
	h := newHash(kind)
	if h == nil {
		return digest{}, bad("has a checksum of an unknown kind, %s", show(kind))
	}
	sum, err := hex.DecodeString(text)
	if err != nil || len(sum) != h.Size() {
		return digest{}, bad("has %s for a checksum, which is not a %s", show(text), kind)
	}
	return digest{kind, string(sum)}, nil
}

// sumOf returns the checksum of what r reads.
func sumOf(ctx context.Context, r io.Reader, kind string) (digest, error) {
	h := newHash(kind)
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	_, err := io.CopyBuffer(h, withContext(ctx, r), buf[:])
	return digest{kind, string(h.Sum(nil))}, err
}

// check compares the file at name with the checksum that by has of it. Its error
// may be a fileError.
func (t *tree) check(ctx context.Context, name string, want digest, by string) error {
	f, _, err := t.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	got, err := sumOf(ctx, f, want.kind)
	if err != nil {
		return err
	}
	if got != want {
		return differs(got, want, by)
	}
	return nil
}

func differs(got, want digest, by string) error {
	return bad("its %s is %x, %s says %x", want.kind, got.sum, by, want.sum)
}
