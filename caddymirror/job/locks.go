package job

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
)

var errBusy = errors.New("somebody else has the lock")

// locks takes the locks that the job is to have while it runs.
func (x *execution) locks(ctx context.Context) (unlock func(), err error) {
	var undo []func()
	unlock = func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
	if x.j.Lock != "" {
		f, err := lockFile(x.j.Lock)
		if err != nil {
			return unlock, err
		}
		undo = append(undo, func() { f.Close() })
		x.keep = append(x.keep, f)
	}
	if x.j.Exclusive {
		release, err := x.takeTurn(ctx)
		if err != nil {
			return unlock, err
		}
		undo = append(undo, release)
	}
	return unlock, nil
}

// lockFile locks a file as flock(1) does.
func lockFile(name string) (*os.File, error) {
	// As flock(1) does: others lock it, too, and it may be theirs.
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDONLY, 0o644) //nolint:gosec // see above
	if err != nil {
		f, err = os.Open(name) // a directory, or another's file in one that all can write to
	}
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = fmt.Errorf("%w on %s", errBusy, name)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
