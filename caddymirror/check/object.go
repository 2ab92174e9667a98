package check

import (
	"context"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// An object is something to be fetched, as an index lists it.
type object struct {
	at      *url.URL
	size    int64         // -1 if the index does not tell
	digest  digest.Digest // empty if the index does not tell
	by      string        // the index
	aspect  Aspect        // of faults of the object itself
	request http.Header   // fields to ask with; nil for none

	// lenient lets a size pass that is wrong, where the checksum is right: as dnf does.
	lenient bool

	// generated is set for pages: they may be made anew for each request, without
	// validators, and need not be sent in parts.
	generated bool
}

// A fetched object is what the host has sent of it.
type fetched struct {
	object
	header http.Header // of the answer
	size   int64
	sum    digest.Digest
	window window
	tail   tail
}

// look fetches an object, compares it with what is listed, and asks for it in the other
// ways in which clients do.
func (l *mountLook) look(ctx context.Context, o object) {
	f, err := l.fetch(ctx, o)
	if err != nil {
		l.failed(ctx, o.aspect, o.at, err)
		return
	}
	l.mu.Lock()
	l.result.Files++
	l.mu.Unlock()
	l.probe(ctx, f)
}

// fetch fetches an object. Its error says what is wrong with it.
func (l *mountLook) fetch(ctx context.Context, o object) (*fetched, error) {
	a, err := l.get(ctx, o.at, o.request)
	if err != nil {
		return nil, err
	}
	defer a.close()
	f := &fetched{object: o, header: a.Header}
	limit := o.size
	switch {
	case o.size < 0 || o.lenient:
		limit = maxFile
	case a.ContentLength >= 0 && a.ContentLength != o.size:
		return nil, fault.Errorf("has %d bytes, %s says %d", a.ContentLength, o.by, o.size)
	}
	kind := o.digest.Kind
	if kind == "" {
		kind = "sha256" // to compare it with itself
	}
	h := digest.NewHash(kind)
	f.window = newWindow(max(a.ContentLength, o.size, 0))
	in := &bounded.Reader{R: a.body, Left: limit + 1, Err: fault.Errorf("has more than %d bytes, %s says %d", limit, o.by, o.size)}
	if o.size < 0 {
		in.Err = tooLarge(limit)
	}
	f.size, err = io.Copy(io.MultiWriter(h, &f.window, &f.tail), in)
	if err != nil {
		return nil, err
	}
	f.sum = sumOf(kind, h)
	return f, f.differs()
}

// differs says how an object differs from what is listed.
func (f *fetched) differs() error {
	listed := f.digest.Kind != ""
	size := f.object.size >= 0 && f.size != f.object.size
	switch {
	case listed && f.sum == f.digest && (!size || f.lenient):
		return nil
	case size:
		return fault.Errorf("has %d bytes, %s says %d", f.size, f.by, f.object.size)
	case !listed:
		return nil
	case f.size == 0:
		return fault.Errorf("is empty")
	}
	return digest.Differ(f.sum, f.digest, f.by)
}

func sumOf(kind string, h hash.Hash) digest.Digest {
	return digest.Digest{Kind: kind, Sum: string(h.Sum(nil))}
}

// digestOf is the checksum of what was read before.
func digestOf(text []byte) digest.Digest {
	h := digest.NewHash("sha256")
	_, _ = h.Write(text)
	return sumOf("sha256", h)
}

// windowSize is how much of an object is kept to be compared with ranges of it, in bytes.
const windowSize = 1000

// A window keeps a part of what is written to it.
type window struct {
	from int64 // offset of the first byte
	kept []byte
	at   int64
}

// newWindow returns a window somewhere in an object of this size, 0 if it is not known.
func newWindow(size int64) window {
	if size <= windowSize {
		return window{from: min(1, max(size-1, 0))}
	}
	return window{from: rand.Int64N(size - windowSize + 1)} //nolint:gosec // not for secrets
}

// Write implements [io.Writer].
func (w *window) Write(p []byte) (int, error) {
	from := max(w.from+int64(len(w.kept))-w.at, 0)
	if n := windowSize - len(w.kept); n > 0 && from < int64(len(p)) {
		w.kept = append(w.kept, p[from:min(from+int64(n), int64(len(p)))]...)
	}
	w.at += int64(len(p))
	return len(p), nil
}

// spec is what Range asks for to get the bytes of a window that has some.
func (w *window) spec() string {
	return fmt.Sprintf("bytes=%d-%d", w.from, w.from+int64(len(w.kept))-1)
}

// A tail keeps the end of what is written to it.
type tail struct{ kept []byte }

// Write implements [io.Writer].
func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p[max(len(p)-windowSize, 0):]...)
	if n := len(t.kept) - windowSize; n > 0 {
		t.kept = append(t.kept[:0], t.kept[n:]...)
	}
	return len(p), nil
}
