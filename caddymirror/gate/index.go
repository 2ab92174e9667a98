package gate

import (
	"context"
	"errors"
	"io"
)

// readIndex has parse read an index, and compares the checksum of the very bytes
// that it reads with the one that by has, if it has one. done is how many bytes were read so far.
// The error may be a fileError: of the index, not of what it lists.
func readIndex(ctx context.Context, f io.Reader, want digest, by string, done *int64, parse func(io.Reader) error) error {
	raw, h := withContext(ctx, f), newHash(want.kind)
	if h != nil {
		raw = io.TeeReader(raw, h)
	}
	in := readerFunc(func(b []byte) (int, error) {
		n, err := raw.Read(b)
		*done += int64(n)
		return n, err
	})
	err := spoilt(parse(in))
	if err != nil && !errors.As(err, new(*fileError)) {
		return err
	}
	if h == nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return err
	}
	if got := (digest{want.kind, string(h.Sum(nil))}); got != want {
		return differs(got, want, by) // whatever else is wrong comes from that
	}
	return err
}
