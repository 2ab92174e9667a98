package wheelindex

import (
	"archive/zip"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/panics"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
)

// A young file was changed just now, and has no Validator yet: nothing that is read of it
// can be kept. Most are whole, renamed into place by a builder, and clients want them at
// once. Those that are being written do not open.
type young struct {
	turn  chan struct{} // one at a time looks at the file
	state atomic.Uint32
}

// What is known of a young file.
const (
	notLookedAt = iota
	whole
	torn
)

var (
	errYoung = errors.New("it was changed just now")
	errTorn  = errors.New("does not open")
)

func newYoung() *young { return &young{turn: make(chan struct{}, 1)} }

// isTorn reports whether the file was found to be in the middle of being written.
func (y *young) isTorn() bool { return y != nil && y.state.Load() == torn }

// glanceAll looks at all young files of a tree, until it is time to list it again.
func (x *Index) glanceAll(t *tree) {
	if len(t.young) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(t.ctx, youngAgain)
	defer cancel()
	x.glance(ctx, t.young)
}

// glance finds out which young files are whole, until ctx ends.
func (x *Index) glance(ctx context.Context, files []*file) {
	var g errgroup.Group
	g.SetLimit(listings)
	for _, f := range files {
		if ctx.Err() != nil {
			break
		}
		if f.young.state.Load() != notLookedAt {
			continue
		}
		g.Go(func() error { return x.glanceAt(ctx, f) })
	}
	_ = g.Wait() // of what could not be read nothing is known
}

func (x *Index) glanceAt(ctx context.Context, f *file) (err error) {
	select {
	case f.young.turn <- struct{}{}:
		defer func() { <-f.young.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if f.young.state.Load() != notLookedAt {
		return nil
	}
	defer panics.Recover(x.conf.Log, "wheel index", &err)
	switch err = x.tryOpen(ctx, f); {
	case err == nil:
		f.young.state.Store(whole)
	case errors.Is(err, errTorn), errors.Is(err, errOther), errors.Is(err, fs.ErrNotExist), fault.Is(err):
		f.young.state.Store(torn)
	}
	return err
}

// tryOpen opens a young file as what it should be. Its error is errTorn or a
// [fault.Error] if it is not, or not yet.
func (x *Index) tryOpen(ctx context.Context, f *file) error {
	open := func(off int64) (io.ReadCloser, error) {
		b, err := x.from.Open(ctx, f.path, off)
		if err != nil {
			return nil, err
		}
		if i := b.Info(); i.Size != f.info.Size || !i.ModTime.Equal(f.info.ModTime) {
			b.Close()
			return nil, errOther
		}
		return b, nil
	}
	switch {
	case f.isWheel:
		_, err := wheel.OpenFrom(ctx, f.name, f.info.Size, open)
		return err
	case strings.HasSuffix(f.name, ".zip"):
		in := &opened{open: open}
		_, err := zip.NewReader(in, f.info.Size)
		if err != nil && in.err == nil {
			err = errTorn
		}
		return err
	}
	b, err := open(0)
	if err != nil {
		return err
	}
	defer b.Close()
	in := &opened{from: b}
	z, err := gzip.NewReader(in)
	for err == nil && ctx.Err() == nil {
		_, err = io.CopyN(io.Discard, z, piece)
	}
	switch {
	case err == nil:
		return ctx.Err()
	case errors.Is(in.err, io.EOF) && err == io.EOF && z != nil:
		return nil
	case in.err != nil && !errors.Is(in.err, io.EOF):
		return in.err
	}
	return errTorn
}

// opened reads a file, and tells errors of reading from those of what is in it.
type opened struct {
	open func(offset int64) (io.ReadCloser, error) // for ReadAt
	from io.Reader                                 // for Read
	err  error
}

func (o *opened) Read(p []byte) (n int, err error) {
	if n, err = o.from.Read(p); err != nil {
		o.err = err
	}
	return n, err
}

func (o *opened) ReadAt(p []byte, off int64) (n int, err error) {
	b, err := o.open(off)
	if err == nil {
		n, err = io.ReadFull(b, p)
		b.Close()
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return n, io.EOF
	}
	if err != nil && err != io.EOF {
		o.err = err
	}
	return n, err
}

// anyTorn reports whether the index lacks files of a tree because they are being written.
func (x *Index) anyTorn(t *tree) bool {
	x.mu.Lock()
	files := t.young
	x.mu.Unlock()
	for _, f := range files {
		if f.young.isTorn() {
			return true
		}
	}
	return false
}

// sure reports whether what is not in the index is not there: all was listed, and nothing
// is left out that is being written. It is asked before the look that it speaks of.
func (x *Index) sure() bool {
	x.mu.Lock()
	t := x.newest
	listed := t != nil && x.walked == t
	x.mu.Unlock()
	return listed && !x.anyTorn(t)
}

// said is the error of a look. Unless that was sure, what is not there is not there yet.
func said(err error, sure bool) error {
	if sure || !errors.Is(err, fs.ErrNotExist) || errors.Is(err, origin.ErrNotYet) {
		return err
	}
	return fmt.Errorf("%w: %v", origin.ErrNotYet, err)
}
