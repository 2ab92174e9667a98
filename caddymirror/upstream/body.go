package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	// maxResumes is how often in a row a body is taken up again that brings less than
	// resumeProgress each time.
	maxResumes     = 2
	resumeProgress = 256 << 10 // bytes

	// resumePause is before the second time; the first is at once.
	resumePause = time.Second

	// maxSkip bounds what is read and thrown away where an upstream sends the whole, and a
	// part was wanted, in bytes.
	maxSkip = 64 << 20
)

// Body is the body of a [Response]. Where it breaks off it is taken up again by a range
// request to the same upstream, if it has a strong validator: all bytes are those of one
// version. Where that fails, Read returns a [*BrokenError]. It returns [io.EOF] only if all
// bytes came that there should be, or if nobody can know that ([Response.Unframed]).
//
// Each Read returns within ReadTimeout, or the time that it takes to ask again. Close may
// be called while one is under way.
type Body struct {
	u         *Upstream
	r         Request
	life      context.Context
	end       context.CancelCauseFunc // of life
	url       *url.URL
	validator string
	encoding  string
	resumable bool

	at      int64 // where the piece is
	next    int64 // of the next byte for the reader; what is before it is thrown away
	upTo    int64 // of the byte after the last one; -1: not known
	size    int64 // of the whole; -1: not known
	resumes int   // in a row
	mark    int64 // next, when it was last taken up
	broken  error // why it has to be taken up
	err     error // that Read returns from now on
	pace    pace

	mu     sync.Mutex // guards the following
	piece  *answer    // where bytes come from
	closed bool
}

func newBody(u *Upstream, r Request, a *answer, life context.Context, end context.CancelCauseFunc) *Body {
	b := &Body{
		u: u, r: r, life: life, end: end, url: a.url,
		validator: a.validator(), encoding: a.resp.Header.Get("Content-Encoding"),
		at: a.start, next: a.start, upTo: a.end, size: a.size, mark: a.start,
		piece: a,
	}
	switch a.resp.StatusCode {
	case http.StatusPartialContent:
		// An upstream may send less than was asked for (RFC 9110 section 15.3.7).
		switch {
		case a.size < 0:
		case r.Length > 0:
			b.upTo = min(a.start+r.Length, a.size)
		default:
			b.upTo = a.size
		}
		b.resumable = b.validator != ""
	case http.StatusOK:
		b.resumable = b.validator != ""
	}
	b.pace.begin(u, a)
	return b
}

// skipTo makes the body begin where a part was to begin, if that is of the version that
// was wanted and not too far. It returns where it begins.
func (b *Body) skipTo(r Request, resp *Response) int64 {
	if resp.Status != http.StatusOK || r.Only == "" || resp.Changed || r.Offset <= b.at || r.Offset > maxSkip ||
		b.upTo >= 0 && r.Offset > b.upTo {
		return b.at
	}
	b.next, b.mark = r.Offset, r.Offset
	return r.Offset
}

// Read implements [io.Reader].
func (b *Body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, b.err
	}
	for b.err == nil {
		if b.broken != nil && !b.resume() {
			break
		}
		q := p
		skips := b.next > b.at
		if skips {
			q = p[:min(int64(len(p)), b.next-b.at)]
		}
		n, err := b.read(q)
		b.at += int64(n)
		b.next = max(b.next, b.at)
		b.note(err)
		if skips {
			continue
		}
		if b.err != nil {
			b.release()
		}
		if n > 0 || b.err != nil {
			return n, b.err
		}
	}
	b.release()
	return 0, b.err
}

// read reads from the piece that is being read, within the deadlines.
func (b *Body) read(p []byte) (int, error) {
	b.pace.start()
	n, err := b.piece.resp.Body.Read(p)
	if slow := b.pace.stop(n); err == nil {
		err = slow
	}
	return n, err
}

// note decides what an error of the piece means: it sets err or broken.
func (b *Body) note(err error) {
	switch {
	case b.upTo >= 0 && b.at > b.upTo, b.at > b.u.maxSize:
		b.err = b.fail(b.u.fail(ErrLying, b.url, "the body is longer than it may be"))
	case err == nil:
	case err == io.EOF && (b.upTo < 0 || b.at == b.upTo):
		b.err = io.EOF
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		b.broken = b.u.fail(ErrAway, b.url, "%v", errShort)
	case errors.Is(err, errTrickle):
		b.broken = b.u.fail(ErrAway, b.url, "less than %d bytes of the body came in %v", b.u.minBytes, b.u.rateWindow)
	default:
		b.broken = b.u.classify(b.piece.ctx, b.url, err)
		if b.life.Err() != nil {
			b.broken = fmt.Errorf("%s: the body was closed: %w", b.url.Host, context.Canceled)
		}
	}
}

func (b *Body) fail(err error) error {
	e := &BrokenError{Offset: b.next, Size: b.size, Err: err}
	if b.resumable {
		e.Validator = b.validator
	}
	return e
}

// resume takes the body up again where it broke off. It returns false if it does not go on;
// err says why.
func (b *Body) resume() bool {
	if b.upTo >= 0 && b.at == b.upTo && errors.Is(b.broken, ErrAway) { // all of it came, and only its end was not clean
		b.err = io.EOF
		return false
	}
	if b.next-b.mark >= resumeProgress {
		b.resumes = 0
	}
	for b.resumable && errors.Is(b.broken, ErrAway) && b.resumes < maxResumes {
		b.resumes++
		if !b.wait(time.Duration(b.resumes-1) * resumePause) {
			break
		}
		a, err := b.again()
		switch {
		case err != nil:
			b.broken = err
		case !b.swap(a):
			a.close()
			b.broken = context.Canceled
		default:
			b.broken, b.mark = nil, b.next
			return true
		}
	}
	b.err = b.fail(b.broken)
	return false
}

func (b *Body) wait(d time.Duration) bool {
	if d == 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-b.life.Done():
		return false
	}
}

// again asks for the rest.
func (b *Body) again() (*answer, error) {
	r := b.r
	r.Conditions, r.Only, r.Offset = nil, b.validator, b.next
	if r.Length > 0 {
		r.Length = b.upTo - b.next
	}
	if b.next == 0 {
		r.Offset, r.Length = 0, max(b.upTo, 0) // by range, too: then the version is asked for
	}
	a, err := b.u.ask(b.life, b.life, r)
	if err != nil {
		return nil, err
	}
	if err := b.continues(a); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// continues tells why an answer is not the rest of the body, nil if it is.
func (b *Body) continues(a *answer) error {
	status := a.resp.StatusCode
	switch {
	case !a.notBefore.IsZero():
		return &BusyError{Host: a.url.Host, Until: a.notBefore}
	case status >= http.StatusInternalServerError:
		return b.u.fail(ErrAway, a.url, "status %d when it was asked for the rest", status)
	case status != http.StatusOK && status != http.StatusPartialContent:
		return b.u.fail(ErrChanged, a.url, "status %d when it was asked for the rest", status)
	case a.validator() != b.validator, a.resp.Header.Get("Content-Encoding") != b.encoding:
		return b.u.fail(ErrChanged, a.url, "another version was sent for the rest")
	case !samePlace(a.url, b.url):
		// Equal tags of two resources say nothing.
		return b.u.fail(ErrChanged, a.url, "redirected to another place for the rest")
	case a.size >= 0 && b.size >= 0 && a.size != b.size:
		return b.u.fail(ErrLying, a.url, "two sizes of one version: %d and %d", b.size, a.size)
	case a.start > b.next, b.next-a.start > maxSkip:
		return b.u.fail(ErrAway, a.url, "sends no ranges")
	}
	return nil
}

// swap makes an answer the piece that is being read. It returns false if the body was
// closed meanwhile.
func (b *Body) swap(a *answer) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.piece.close()
	b.piece = a
	b.at = a.start
	if b.size < 0 && a.size >= 0 {
		b.size = a.size
		if b.upTo < 0 {
			b.upTo = a.size
		}
	}
	b.pace.begin(b.u, a)
	return true
}

// release gives back the connection.
func (b *Body) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.piece.close()
	b.end(context.Canceled)
}

// Close ends the body. What is left of it is not read.
func (b *Body) Close() error {
	b.end(context.Canceled)
	b.release()
	return nil
}
