// Package fault has the errors that say what is wrong with a file. All other errors are
// about reading it, and do not blame the file.
package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"unicode"
	"unicode/utf8"
)

// An Error says what is wrong with a file, as opposed to an error of reading it.
type Error struct {
	Reason string // what follows the name of the file in a sentence: "is cut off"
}

// Error implements error.
func (e *Error) Error() string { return e.Reason }

// Errorf returns an [Error] with this reason.
func Errorf(format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...)}
}

// Is reports whether err is, or wraps, an [Error].
func Is(err error) bool { return errors.As(err, new(*Error)) }

// Of turns an error of unpacking or parsing a file into an [Error], unless it is one of
// reading the file.
func Of(err error) error {
	var (
		errno syscall.Errno
		perr  *fs.PathError
	)
	switch {
	case err == nil, Is(err), errors.As(err, &errno), errors.As(err, &perr), errors.Is(err, os.ErrClosed),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return Errorf("is cut off")
	}
	return Errorf("can not be read: %s", Show(err.Error()))
}

// MaxShown is how many bytes of a name from outside [Show] shows.
const MaxShown = 300

// Show returns a name from outside as it may stand in a message: on one line, and not
// longer than [MaxShown].
func Show(name string) string {
	if len(name) > MaxShown {
		n := MaxShown
		for n > MaxShown-utf8.UTFMax && !utf8.RuneStart(name[n]) {
			n--
		}
		name = name[:n] + "..."
	}
	for _, r := range name {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return strconv.Quote(name)
		}
	}
	return name
}
