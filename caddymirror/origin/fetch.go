package origin

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
)

// Origin is where bytes come from. It is asked one conditional question: the object of
// this name, unless it is the version that I have. A [Tree] is made one by [FromTree]; an
// HTTP upstream is one by itself.
//
// Errors are those of [Tree], and [ErrChanged], [ErrLoop] and [ErrRefused]. Methods are
// safe for concurrent use.
type Origin interface {
	// String names the origin the way its user wrote it. It is part of what identifies a
	// cached object, so it never changes for one origin.
	String() string

	// Fetch asks for an object. ctx bounds the asking, and not the reading of the body.
	Fetch(ctx context.Context, r Request) (Reply, error)

	// Status tells the state of the origin, for operators.
	Status() Status
}

// Request is what an [Origin] is asked for.
type Request struct {
	// Name of the object: of a tree, as for [Tree]. Of an HTTP upstream it is the path below
	// that as it was received, percent-encoding untouched and without a slash in front, with
	// `?` and the query if there is one.
	Name string

	// Have is the version that the caller has: the reply may be that it is unchanged. Nil:
	// there is none.
	Have *Have

	// Only is the Validator of the version that the bytes must be of, or else the error is
	// ErrChanged. Empty: any.
	Only string

	// Offset is of the first byte that is wanted, Length how many; 0: all up to the end.
	Offset, Length int64

	// Head says that no bytes are wanted.
	Head bool

	// What follows is for HTTP upstreams alone. Accept and AcceptEncoding are sent as they
	// are. Authorization goes to the upstream's own host only.
	Accept, AcceptEncoding, Authorization string

	// Refresh asks for a response that no cache in between had.
	Refresh bool

	// Skip is how many upstreams are passed over.
	Skip int

	// Via has the lines of that field of the client's request.
	Via []string
}

// Have is a version of an object.
type Have struct {
	Validator string
	Header    map[string][]string // of the response of an HTTP upstream
}

// Reply is an answer of an [Origin].
type Reply struct {
	// Info describes the whole object. Its Size is -1 if nobody knows it yet.
	Info

	// Unchanged says that the version that the caller has is the current one.
	Unchanged bool

	// Body has the bytes from the offset on, to be closed by the caller. It is nil if
	// Unchanged or if no bytes are wanted, and where a look for another version than the
	// one that the caller has needs not open it: it is to be asked for again then.
	Body Body

	// Response is what an HTTP upstream has answered, with whatever status; nil for a tree.
	// Its header is that of a 304 if Unchanged.
	Response *freshness.Response

	// Unframed says that the body ends where the connection does: nobody can tell whether it
	// is whole, so it is not to be stored.
	Unframed bool

	// Redirect is where a response redirects to that was not followed.
	Redirect *url.URL
}

// Close closes the body, if there is one.
func (r *Reply) Close() {
	if r.Body != nil {
		r.Body.Close()
	}
}

var (
	// ErrChanged says that an origin no longer has the version that was asked for, or that
	// there is no telling.
	ErrChanged = errors.New("origin no longer has this version")

	// ErrLoop says that redirects of an HTTP upstream do not end.
	ErrLoop = errors.New("redirects do not end")

	// ErrRefused says that an HTTP upstream redirects to where it may not.
	ErrRefused = errors.New("redirect is not allowed")
)

// PauseError is an [ErrBusy] of an origin that asked for a pause. It was not asked.
type PauseError struct{ Until time.Time }

func (e *PauseError) Error() string {
	return fmt.Sprintf("origin asked for a pause until %s", e.Until.UTC().Format(time.RFC3339))
}

// Is makes it an [ErrBusy], and so an [ErrAway].
func (e *PauseError) Is(target error) bool { return target == ErrBusy || target == ErrAway }

// FromTree makes an [Origin] of a tree.
func FromTree(t Tree) Origin { return treeOrigin{t} }

type treeOrigin struct{ Tree }

// Fetch implements [Origin]. To tell whether an object has changed it is not opened.
func (t treeOrigin) Fetch(ctx context.Context, r Request) (Reply, error) {
	if r.Head || r.Have != nil {
		info, err := t.Stat(ctx, r.Name)
		if err == nil && info.Dir {
			err = ErrIsDir
		}
		unchanged := err == nil && r.Have != nil && info.Validator != "" && info.Validator == r.Have.Validator
		return Reply{Info: info, Unchanged: unchanged}, err
	}
	b, err := t.Open(ctx, r.Name, r.Offset)
	if err != nil {
		return Reply{}, err
	}
	info := b.Info()
	if r.Only != "" && info.Validator != r.Only {
		b.Close()
		return Reply{}, ErrChanged
	}
	return Reply{Info: info, Body: b}, nil
}
