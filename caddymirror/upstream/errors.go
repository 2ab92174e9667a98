package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// What errors of this package are; an error is exactly one of these.
var (
	// ErrAway says that no answer came, or not all of one: time-outs, connections that
	// are refused or reset, a trickle, failures of TLS and of the DNS.
	ErrAway = errors.New("away")

	// ErrBusy says that the upstream asked for a pause, which is not over. It was not
	// asked. The error is a [*BusyError].
	ErrBusy = errors.New("busy")

	// ErrLoop says that redirects do not end. It is what status 508 is for.
	ErrLoop = errors.New("loop")

	// ErrRefused says that a redirect leads where none may: to a private address, or
	// from https to http.
	ErrRefused = errors.New("refused")

	// ErrLying says that the upstream broke the rules of HTTP, or contradicts itself.
	// Nothing of that response may be kept.
	ErrLying = errors.New("invalid response")

	// ErrChanged says that the version of which more was wanted is not there any more.
	ErrChanged = errors.New("changed")

	// ErrTarget says that the request is for something that cannot be asked for.
	ErrTarget = errors.New("invalid target")
)

// BusyError is an [ErrBusy] that says until when.
type BusyError struct {
	Host  string
	Until time.Time
}

// Error implements error.
func (e *BusyError) Error() string {
	return fmt.Sprintf("%s wants no requests before %s", e.Host, e.Until.UTC().Format(time.TimeOnly+" MST"))
}

// Is makes it an [ErrBusy].
func (e *BusyError) Is(target error) bool { return target == ErrBusy }

// BrokenError says where a body ended before it was whole. Bytes from Offset on may be
// asked for, of this or another upstream, if they have the same Validator ([Request.Only])
// and the same Size.
type BrokenError struct {
	Offset    int64  // of the first byte that did not come
	Size      int64  // of the whole representation, -1 if that is not known
	Validator string // strong, as If-Range has it; empty: it cannot be continued
	Err       error  // why, of a known class
}

// Error implements error.
func (e *BrokenError) Error() string {
	return fmt.Sprintf("body ended after %d bytes: %v", e.Offset, e.Err)
}

// Unwrap returns Err.
func (e *BrokenError) Unwrap() error { return e.Err }

// maxErrorText bounds what an error quotes of a response, in bytes.
const maxErrorText = 300

// failure is an error of a class. What caused it is only text, since it may quote a
// response, and a response the request: secrets are taken out of it.
type failure struct {
	class error
	text  string
}

func (f *failure) Error() string { return f.text }
func (f *failure) Unwrap() error { return f.class }

// fail is an error of a class that occurred with u; nil: of no hop yet.
func (u *Upstream) fail(class error, at *url.URL, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	for _, secret := range u.secrets {
		text = strings.ReplaceAll(text, secret, "[redacted]")
	}
	text = strings.ToValidUTF8(text, "?")
	if len(text) > maxErrorText {
		cut := maxErrorText
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "..."
	}
	where := u.base.Host
	if at != nil {
		where = at.Host
	}
	return &failure{class, where + ": " + text}
}
