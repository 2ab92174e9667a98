// Package origin is where the bytes of a mount come from.
//
// It is a [Tree], a directory or a part of AFS, or an HTTP upstream. What both have in
// common is [Origin]. They are Caddy modules of the namespace mirror.origins.
//
// Every call returns within its context's deadline or the origin's own,
// whatever the file system or network behind it does.
package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

// Tree reads objects by name.
//
// A name is a slash-separated path relative to the origin's root, in the form
// of [fs.ValidPath]; the root itself is ".". Names are bytes and need not be
// UTF-8.
//
// Errors wrap one of [fs.ErrInvalid] (the name can name nothing),
// [fs.ErrNotExist], [fs.ErrPermission], [ErrIsDir] or [ErrAway]; everything
// that does not speak of the object itself is [ErrAway]. [ErrBusy] is a kind of
// that.
//
// Methods are safe for concurrent use.
type Tree interface {
	// String names the origin the way its user wrote it. It is part of what
	// identifies a cached object, so it never changes for one tree.
	String() string

	// Stat describes the file or directory at name.
	Stat(ctx context.Context, name string) (Info, error)

	// Open opens the file at name for reading from offset on. ctx bounds the
	// opening, not the reading.
	Open(ctx context.Context, name string, offset int64) (Body, error)

	// ReadDir lists the directory at name, in no order. It reads as it goes:
	// whoever stops early has cost no more than what was seen. An error comes
	// last, and says that the listing is not whole. The origin's deadline is
	// for each step and not for all of them, however large the directory is.
	ReadDir(ctx context.Context, name string) iter.Seq2[Info, error]

	// Release is the origin's state as last seen. The first call waits for
	// the first look, others return at once.
	Release(ctx context.Context) Release

	// Status tells the state of the origin, for operators.
	Status() Status
}

// Failover is a Tree that may need a while to answer although it is not away: it
// turns from a server that has fallen silent to another.
type Failover interface {
	// FailoverTime is how long that takes.
	FailoverTime() time.Duration
}

// Body is an object being read: all bytes that it gives are of the version
// that Info describes. Where they no longer are, Read fails. Each Read returns
// within the origin's deadline. A Body is not safe for concurrent use.
//
// A Body that is an [io.WriterTo], too, is read by that where all of it is wanted.
type Body interface {
	io.ReadCloser

	// Info describes the whole object, as it was when it was opened.
	Info() Info
}

// Info describes an object.
type Info struct {
	// Name is the last element of the object's name.
	Name string

	// Dir tells a directory from a file.
	Dir bool

	// Symlink tells that the object was reached through a symbolic link. Set
	// by ReadDir only.
	Symlink bool

	// Size in bytes.
	Size int64

	// ModTime is when the object last changed.
	ModTime time.Time

	// Validator is equal for two observations of a file only if its bytes
	// are. It is empty when the origin cannot promise that: an empty
	// Validator equals nothing, not even itself.
	Validator string

	// ETag is a strong entity tag (RFC 9110 section 8.8.3), quotes included, that
	// the origin has for this version: no other bytes ever have it. Where it is
	// empty, one is made of Validator, if there is one.
	ETag string

	// Passing says that the object was made, and will be a better one soon: this one is
	// not worth keeping.
	Passing bool
}

// Same reports whether a and b are certainly the same version of a file.
func (a Info) Same(b Info) bool {
	return a.Validator != "" && a.Validator == b.Validator
}

// Release is a state of an origin: while its token stays, nothing in the
// origin changes.
type Release struct {
	// Token is empty where the origin has no releases; then objects are
	// fresh for a time only.
	Token string

	// Seen is when the origin was last found to be in this state.
	Seen time.Time
}

// Status is what an operator wants to know of an origin. Counters count from
// the start of the process.
type Status struct {
	Origin    string    `json:"origin"`
	State     string    `json:"state"` // "up", or "away" while the breaker is open
	Release   string    `json:"release,omitempty"`
	Seen      time.Time `json:"seen,omitzero"`
	Reads     uint64    `json:"reads"`      // files opened
	ReadBytes uint64    `json:"read_bytes"` // bytes read from files
	Stats     uint64    `json:"stats"`      // look-ups of one name, without opening it
	Lists     uint64    `json:"lists"`      // directories read
	Errors    uint64    `json:"errors"`     // calls that ended in ErrAway, but for busy ones
	Timeouts  uint64    `json:"timeouts"`   // those of them that ran into the deadline
	Panics    uint64    `json:"panics"`     // those of them that ended in a panic
	Busy      uint64    `json:"busy"`       // calls that could not begin in time: ErrBusy
	Stuck     int       `json:"stuck"`      // calls given up on that have not come back yet
	LastError string    `json:"last_error,omitempty"`

	// Upstreams are those of an origin that has some, in order.
	Upstreams []UpstreamStatus `json:"upstreams,omitempty"`

	// Index is what a format makes of the origin's files, nil if it makes nothing.
	Index *IndexStatus `json:"index,omitempty"`
}

// IndexStatus is the state of an index that is made from an origin's files.
type IndexStatus struct {
	// State is "listing" while the files of the release are looked for, "reading" while
	// not all of them were read, and "complete". While it is "listing", what follows is of
	// the files that were listed before.
	State string `json:"state"`

	Projects int `json:"projects"`
	Files    int `json:"files"`    // that the index lists
	Unread   int `json:"unread"`   // that are still to be read
	LeftOut  int `json:"left_out"` // that the index does not list, since there is something wrong with them

	// Remarks are the first 100 of what is to be said of files: why they are left out,
	// or can not be read.
	Remarks []IndexRemark `json:"remarks,omitempty"`
}

// IndexRemark is what is to be said of a file.
type IndexRemark struct {
	Name   string `json:"name"`
	Reason string `json:"reason"` // what follows the name in a sentence
}

var (
	// ErrAway says that the origin could not be asked: it hangs, fails, is
	// not mounted, or its breaker is open.
	ErrAway = errors.New("origin is away")

	// ErrBusy says that the origin has so much to do that a call could not begin
	// in time. It is an [ErrAway], since the object cannot be had now. It does not
	// speak against the origin: no breaker opens for it, and it is counted apart.
	ErrBusy error = busyError{}

	// ErrNotYet is an [fs.ErrNotExist] of an object that is made, or may be there in a
	// moment: nobody should remember it.
	ErrNotYet = fmt.Errorf("%w yet", fs.ErrNotExist)

	// ErrIsDir is returned by Open for a directory.
	ErrIsDir = errors.New("is a directory")
)

type busyError struct{}

func (busyError) Error() string        { return "origin is busy" }
func (busyError) Is(target error) bool { return target == ErrAway }

// Class tells which of an origin's errors err is, for logs and metrics:
// "invalid", "not_exist", "permission", "is_dir", "busy" or "away".
func Class(err error) string {
	switch {
	case errors.Is(err, fs.ErrInvalid):
		return "invalid"
	case errors.Is(err, fs.ErrNotExist):
		return "not_exist"
	case errors.Is(err, fs.ErrPermission):
		return "permission"
	case errors.Is(err, ErrIsDir):
		return "is_dir"
	case errors.Is(err, ErrBusy):
		return "busy"
	}
	return "away"
}

// Recover is to be deferred where an object is asked for. It turns a panic into an
// [ErrAway] that holds a [panics.Error]: the object cannot be had, and all else goes
// on. place is as for [panics.Recover].
func Recover(log *zap.Logger, place string, err *error) {
	if v := recover(); v != nil {
		*err = fmt.Errorf("%w: %w", ErrAway, panics.New(log, place, v))
	}
}
