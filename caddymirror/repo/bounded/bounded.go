// Package bounded has readers with limits: they fail when their context ends, or when
// there is more to read than is allowed. What comes from outside is read with these;
// ARCHITECTURE.md has the table of limits.
package bounded

import (
	"context"
	"errors"
	"io"
)

const (
	// MaxToken is how many bytes one piece of an index may have, which is in memory as a
	// whole: a tag of HTML, a tag or text of XML, a value of JSON.
	MaxToken = 1 << 20

	// MaxDepth is how deep elements of XML, and values of JSON, may be nested.
	MaxDepth = 256
)

// ErrTooLong says that a piece is longer than [MaxToken].
var ErrTooLong = errors.New("a piece of it is longer than 1 MiB")

// A Reader fails with Err when more is read from R than is left. Who reads piece by piece
// sets Left for each.
type Reader struct {
	R    io.Reader
	Left int64 // bytes
	Err  error
}

// Read implements [io.Reader].
func (b *Reader) Read(p []byte) (int, error) {
	if b.Left <= 0 {
		return 0, b.Err
	}
	n, err := b.R.Read(p[:min(int64(len(p)), b.Left)])
	b.Left -= int64(n)
	return n, err
}

// WithContext returns a reader of r that ends with ctx. A Read under way is not broken off.
func WithContext(ctx context.Context, r io.Reader) io.Reader {
	return Func(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

// A Func is a reader.
type Func func([]byte) (int, error)

// Read implements [io.Reader].
func (f Func) Read(p []byte) (int, error) { return f(p) }
