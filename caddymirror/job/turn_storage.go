package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"
)

const (
	// lockPatience is how long to wait for others to read and write their notes. One who
	// was killed at it has a lock in files for ten seconds.
	lockPatience = 15 * time.Second
	lockRetry    = 100 * time.Millisecond

	// storagePatience is how long Caddy's storage may take in all: some hangs, whatever
	// context it is given.
	storagePatience = 20 * time.Second
)

var errStorageHangs = errors.New("Caddy's storage does not answer") //nolint:staticcheck // a name

// storage is Caddy's, of the configuration in force: that of an older one may be closed.
func (x *execution) storage() certmagic.Storage {
	if ctx := caddy.ActiveContext(); ctx.Context != nil {
		if s := ctx.Storage(); s != nil {
			return s
		}
	}
	return x.j.storage
}

// patiently asks the storage, but not for ever, and not while it has not answered an
// earlier question.
func patiently[T any](ctx context.Context, x *execution, f func(context.Context) (T, error)) (value T, err error) {
	ctx, cancel := context.WithTimeout(ctx, storagePatience)
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	select {
	case x.asking <- struct{}{}:
	case <-ctx.Done():
		cancel()
		return value, errStorageHangs
	}
	go func() {
		defer cancel()
		value, err := f(ctx)
		<-x.asking
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
	}
	select {
	case a := <-answers: // it heeds contexts
		return a.value, a.err
	case <-time.After(time.Second):
		return value, errStorageHangs
	}
}

// noteTurn replaces the note of the job's last turn in Caddy's storage by another,
// unless f has something against it.
func (x *execution) noteTurn(ctx context.Context, f func(last turn) (turn, error)) error {
	_, err := patiently(ctx, x, func(ctx context.Context) (struct{}, error) { return struct{}{}, x.replaceTurn(ctx, f) })
	return err
}

func (x *execution) replaceTurn(ctx context.Context, f func(last turn) (turn, error)) error {
	storage := x.storage()
	unlock, err := lockStorage(ctx, storage, "mirror-job-"+x.j.name)
	if err != nil {
		return err
	}
	defer unlock()
	last, err := x.loadTurn(ctx, storage)
	if err != nil {
		return err
	}
	next, err := f(last)
	if err != nil {
		return err
	}
	text, err := json.Marshal(next)
	if err == nil {
		err = storage.Store(ctx, turnKey(x.j.name), text)
	}
	if err != nil {
		return fmt.Errorf("noting in Caddy's storage who runs the job: %w", err)
	}
	return nil
}

func turnKey(job string) string { return "mirror/jobs/" + job + ".json" }

// lastTurn is the note of the job's last turn.
func (x *execution) lastTurn(ctx context.Context) (last turn, err error) {
	return patiently(ctx, x, func(ctx context.Context) (turn, error) { return x.loadTurn(ctx, x.storage()) })
}

func (x *execution) loadTurn(ctx context.Context, storage certmagic.Storage) (last turn, err error) {
	text, err := storage.Load(ctx, turnKey(x.j.name))
	if errors.Is(err, fs.ErrNotExist) {
		return last, nil
	}
	if err != nil {
		return last, fmt.Errorf("looking in Caddy's storage who runs the job: %w", err)
	}
	if err := json.Unmarshal(text, &last); err != nil && !x.request.TakeOver {
		return last, fmt.Errorf("looking in Caddy's storage who runs the job: %s cannot be read (%w); if nothing runs: caddy mirror run %s --take-over",
			turnKey(x.j.name), err, x.j.name)
	}
	return last, nil
}

// lockStorage takes a lock in Caddy's storage, for a moment.
func lockStorage(ctx context.Context, storage certmagic.Storage, name string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	// A lock in a file that is just being written cannot be read.
	for err := storage.Lock(ctx, name); err != nil; err = storage.Lock(ctx, name) {
		if pause(ctx, lockRetry); ctx.Err() != nil {
			return nil, fmt.Errorf("locking %s in Caddy's storage: %w", name, err)
		}
	}
	return func() {
		if err := storage.Unlock(context.WithoutCancel(ctx), name); err != nil {
			logger().Error("unlocking a job in Caddy's storage", zap.String("lock", name), zap.Error(err))
		}
	}, nil
}
