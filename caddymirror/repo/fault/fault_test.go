package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"syscall"
	"testing"
)

func TestShow(t *testing.T) {
	if got := Show(strings.Repeat("ä", 1000)); len(got) > MaxShown+len("...") || !strings.HasSuffix(got, "ä...") {
		t.Error(got)
	}
	if got := Show("a\x1b[31m\nb"); got != `"a\x1b[31m\nb"` {
		t.Error(got)
	}
}

// TestOf checks that a disk that fails is not taken for a file that is wrong.
func TestOf(t *testing.T) {
	for _, err := range []error{
		nil, syscall.EIO, &fs.PathError{Op: "read", Path: "x", Err: errors.New("x")}, fs.ErrClosed,
		fmt.Errorf("reading: %w", context.Canceled), context.DeadlineExceeded,
	} {
		if got := Of(err); Is(got) {
			t.Errorf("%v is taken for a fault of the file", err)
		}
	}
	for _, test := range []struct {
		err  error
		want string
	}{
		{io.ErrUnexpectedEOF, "is cut off"},
		{io.EOF, "is cut off"},
		{errors.New("a\nb"), `can not be read: "a\nb"`},
		{fmt.Errorf("x: %w", Errorf("has no %s", "end")), "x: has no end"},
	} {
		if got := Of(test.err); !Is(got) || got.Error() != test.want {
			t.Errorf("%v: %v, want %s", test.err, got, test.want)
		}
	}
}
