package afs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/rx"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// File is a file as it was when it was opened: its bytes are those of one version,
// that of the release it was opened in, or there is an error. It is safe for
// concurrent use.
type File struct {
	t       *Tree
	vol     *volume
	release uint32
	info    Info
	first   *piece // the first bytes, as they came with the status; nil: used

	// unsure tells that the version to read is from a status that nobody has
	// confirmed: then whoever gives bytes of it has to be confirmed, too.
	unsure bool

	mu     sync.Mutex // guards what follows
	by     []*server  // who has told of the version, and is not confirmed
	last   time.Time  // when the last of them did
	struck error      // one of them was struck off
}

// Info describes the file.
func (f *File) Info() Info { return f.info }

// Close lets go of what the file holds. Readers stay usable.
func (f *File) Close() error {
	f.mu.Lock()
	p := f.first
	f.first = nil
	f.mu.Unlock()
	if p != nil {
		p.free()
	}
	return nil
}

// piece is a part of a file on its way.
type piece struct {
	t    *Tree
	off  int64
	want int64
	buf  *[]byte
	cost int64 // of the budget
	data []byte
	err  error
	done chan struct{}
}

// newPiece returns a piece of up to want bytes at off. If it is not needed at
// once, there must be budget for it, or it is nil.
func (t *Tree) newPiece(off, want int64, needed bool) *piece {
	p := &piece{t: t, off: off, want: want, done: make(chan struct{})}
	switch {
	case want > smallChunk && t.c.buffer.take(chunk):
		p.want, p.cost, p.buf = min(want, chunk), chunk, chunks.Get().(*[]byte)
	case needed || t.c.buffer.take(smallChunk):
		p.want, p.buf = min(want, smallChunk), smallChunks.Get().(*[]byte)
		if !needed {
			p.cost = smallChunk
		}
	default:
		return nil
	}
	return p
}

func (p *piece) free() {
	if p.buf == nil {
		return
	}
	if len(*p.buf) > wire.FetchData64ReplySize(smallChunk) {
		chunks.Put(p.buf)
	} else {
		smallChunks.Put(p.buf)
	}
	p.t.c.buffer.give(p.cost)
	p.buf, p.data = nil, nil
}

// begin reads the status and, with it, the first bytes.
func (f *File) begin(ctx context.Context) (wire.Status, error) {
	p := f.t.newPiece(0, chunk, true)
	begun := false
	defer func() {
		if !begun { // also after a panic
			p.free()
		}
	}()
	var st wire.Status
	snap := f.vol.snapshot()
	release, by, err := f.vol.call(ctx, f.info.FID.Volume, 0, func(ctx context.Context, s *server, _ uint32) (wire.VolSync, error) {
		r, err := s.fetchData(ctx, f.info.FID, 0, p.want, *p.buf)
		p.data, st = r.Data, r.Status
		if err == nil && int64(len(p.data)) != min(p.want, st.Length) {
			err = fmt.Errorf("%w: %d bytes of %d", ErrUnavailable, len(p.data), st.Length)
		}
		return r.VolSync, err
	})
	if err != nil {
		return wire.Status{}, err
	}
	close(p.done)
	f.release = release
	f.info = infoOf(f.info.Name, f.info.FID, st)
	f.first = p
	f.gave(by)
	if snap != nil && snap.release == release {
		snap.statuses.Add(f.info.FID, st)
	}
	begun = true
	return st, nil
}

func (f *File) gave(s *server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.Contains(f.by, s) {
		f.by = append(f.by, s)
	}
	f.last = time.Now()
}

// confirm reports whether the site that has told of the file's version had not been
// struck off by then. It asks the volume location database, together with others who
// want to know, and asks once.
//
// The sites that give the bytes need not be confirmed: a file server says with the
// bytes of which version they are, and replaces a file as a whole, also when it is
// broken off.
func (f *File) confirm(ctx context.Context) error {
	f.mu.Lock()
	by, last, err := f.by, f.last, f.struck
	f.mu.Unlock()
	if len(by) == 0 || err != nil {
		return err
	}
	err = f.vol.confirm(ctx, last, by...)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case errors.Is(err, errStruck):
		f.struck = err // even if it is listed again
	case err == nil && f.last.Equal(last):
		f.by = nil
	}
	return err
}

// fetch reads a piece. All of it is there, or there is an error.
func (f *File) fetch(ctx context.Context, off int64, buf []byte, want int64) ([]byte, error) {
	var data []byte
	_, by, err := f.vol.call(ctx, f.info.FID.Volume, f.release, func(ctx context.Context, s *server, _ uint32) (wire.VolSync, error) {
		r, err := s.fetchData(ctx, f.info.FID, off, want, buf)
		if err != nil {
			return r.VolSync, err
		}
		data = r.Data
		// The same version in another release is as good.
		if now := infoOf("", f.info.FID, r.Status); now.Validator() != f.info.Validator() {
			return r.VolSync, ErrChanged
		}
		if int64(len(data)) != want {
			return r.VolSync, fmt.Errorf("%w: %d bytes at %d, %d are there", ErrUnavailable, len(data), off, want)
		}
		return r.VolSync, nil
	})
	if errors.Is(err, wire.VNoVnode) || errors.Is(err, errRenewed) {
		err = fmt.Errorf("%w: %w", ErrChanged, err)
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s of %s: %w", f.info.FID, f.vol, err)
	}
	if f.unsure {
		f.gave(by)
	}
	return data, nil
}

// ReadAt reads like [io.ReaderAt].
func (f *File) ReadAt(ctx context.Context, b []byte, off int64) (int, error) {
	total := 0
	r := f.Reader(off)
	defer r.Close()
	for total < len(b) {
		n, err := r.read(ctx, b[total:], int64(len(b)-total))
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// Reader reads the file from an offset on, ahead of what was asked for. A Read waits
// for half a minute at most, and fails after that.
func (f *File) Reader(off int64) *Reader {
	ctx, cancel := context.WithCancel(f.t.c.ctx)
	return &Reader{f: f, ctx: ctx, cancel: cancel, next: off, off: off, parallel: 2}
}

// Reader is an [io.ReadCloser]. It is not safe for concurrent use.
type Reader struct {
	f        *File
	ctx      context.Context //nolint:containedctx // ends with the reader
	cancel   context.CancelFunc
	off      int64    // of the next byte to return
	next     int64    // of the next piece to ask for
	queue    []*piece // in order
	held     *piece   // that Next has returned
	parallel int
	err      error
}

// Read implements [io.Reader].
func (r *Reader) Read(b []byte) (int, error) {
	return r.read(r.ctx, b, 1<<62)
}

// ReadContext is Read with a deadline of the caller's own.
func (r *Reader) ReadContext(ctx context.Context, b []byte) (int, error) {
	return r.read(ctx, b, 1<<62)
}

// read reads, and asks for no more than ahead bytes.
func (r *Reader) read(ctx context.Context, b []byte, ahead int64) (int, error) {
	if len(b) == 0 && r.err == nil {
		return 0, nil
	}
	p, err := r.await(ctx, ahead)
	if err != nil {
		return 0, err
	}
	n := copy(b, p.data[r.off-p.off:])
	r.off += int64(n)
	if r.off == p.off+int64(len(p.data)) {
		r.shift()
		p.free()
	}
	return n, nil
}

// Next returns the next bytes, as many as came together, and spares a copy: they
// are the caller's until the next call. At the end it returns [io.EOF].
func (r *Reader) Next(ctx context.Context) ([]byte, error) {
	r.drop()
	p, err := r.await(ctx, 1<<62)
	if err != nil {
		return nil, err
	}
	data := p.data[r.off-p.off:]
	r.off += int64(len(data))
	r.shift()
	r.held = p
	return data, nil
}

// await waits for the piece with the next byte.
func (r *Reader) await(ctx context.Context, ahead int64) (*piece, error) {
	switch {
	case r.err != nil:
		return nil, r.err
	case r.off >= r.f.info.Size:
		return nil, io.EOF
	}
	r.fill(ahead)
	p := r.queue[0]
	select {
	case <-p.done:
	case <-ctx.Done():
		kind := ErrUnavailable
		if r.f.vol.full() {
			kind = ErrBusy
		}
		return nil, fmt.Errorf("%w: %w", kind, ctx.Err())
	}
	if p.err != nil {
		r.err = p.err
		return nil, p.err
	}
	return p, nil
}

// shift takes the first piece off the queue.
func (r *Reader) shift() {
	r.queue = r.queue[1:]
	r.parallel = min(r.parallel+1, maxParallel)
}

// drop lets go of what Next has returned.
func (r *Reader) drop() {
	if r.held != nil {
		r.held.free()
		r.held = nil
	}
}

// fill asks for pieces.
func (r *Reader) fill(ahead int64) {
	end := r.f.info.Size
	if ahead < end-r.off {
		end = r.off + ahead
	}
	for r.next < end && len(r.queue) < r.parallel {
		p := r.begun()
		if p == nil {
			p = r.f.t.newPiece(r.next, end-r.next, len(r.queue) == 0)
			if p == nil {
				return
			}
			if !r.f.t.c.run(func() { r.fetch(p) }) {
				p.err = fmt.Errorf("%w: %w", ErrUnavailable, rx.ErrClosed)
				close(p.done)
			}
		}
		r.queue = append(r.queue, p)
		r.next = p.off + p.want
	}
}

// begun takes the piece that came with the status, if it is the next one.
func (r *Reader) begun() *piece {
	if r.next != 0 {
		return nil
	}
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	p := r.f.first
	r.f.first = nil
	if p != nil {
		p.want = int64(len(p.data))
	}
	return p
}

// fetchPatience is how long a piece may take, whatever the sites of the volume say.
const fetchPatience = 30 * time.Second

func (r *Reader) fetch(p *piece) {
	ctx, cancel := context.WithTimeout(r.ctx, fetchPatience)
	defer cancel()
	defer close(p.done)
	p.err = r.f.t.c.contained("afs read", func() (err error) {
		p.data, err = r.f.fetch(ctx, p.off, *p.buf, p.want)
		return err
	})
}

// Close ends the reader, and the calls that read ahead for it.
func (r *Reader) Close() error {
	r.cancel()
	r.drop()
	for _, p := range r.queue {
		go func() {
			<-p.done
			p.free()
		}()
	}
	r.queue = nil
	if r.err == nil {
		r.err = errClosed
	}
	return nil
}

var errClosed = fmt.Errorf("reader: %w", fs.ErrClosed)
