package job

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"
)

// load takes up the job where it was left, once there is a directory where that is
// kept. It reports false if there is nothing to run before that.
func (r *Runner) load() bool {
	for {
		select {
		case <-r.e.opened:
			r.read()
			return true
		case <-r.kick:
			if r.e.retire(r) {
				return false
			}
		case <-r.e.ctx.Done():
			return false
		}
	}
}

// read reads the state. What cannot be read or kept is told in the status: the server
// serves.
func (r *Runner) read() {
	done := r.disk.call()
	defer done()
	var since time.Time
	problem := os.MkdirAll(r.dir, 0o700)
	// The lock is never written: its age is that of the job.
	if f, err := os.OpenFile(r.lockName(), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		problem = err
	} else {
		if fi, err := f.Stat(); err == nil {
			since = fi.ModTime()
		}
		f.Close()
	}
	log := logger().With(zap.String("job", r.name))
	state, interrupted, err := loadState(r.dir, time.Now().Round(0))
	if err != nil {
		log.Error("the state of a job is lost; it is held", zap.Error(err))
	}
	if interrupted != nil {
		log.Warn("the last run of a job was interrupted", zap.String("run", interrupted.ID), zap.String("stage", interrupted.Stage))
	}
	r.mu.Lock()
	r.state, r.problem = state, problem
	if !since.IsZero() {
		r.since = since
	}
	if len(state.Runs) > 0 {
		r.begun, r.ended = state.Runs[0].Began, state.Runs[0].Ended
	}
	r.mu.Unlock()
	if interrupted != nil || err != nil {
		r.save()
	}
	close(r.loaded)
}

// isLoaded reports whether the state is read.
func (r *Runner) isLoaded() bool {
	select {
	case <-r.loaded:
		return true
	default:
		return false
	}
}

// Hangs returns why the state cannot be read or written at the moment, or nil.
func (r *Runner) Hangs(now time.Time) error {
	if err := r.disk.problem(now); err != nil {
		return err
	}
	return r.e.problem(now)
}

// update changes the state and keeps it. It returns when it is kept.
func (r *Runner) update(f func()) {
	r.mu.Lock()
	f()
	r.mu.Unlock()
	r.save()
}

// save keeps the state as it is now.
func (r *Runner) save() {
	defer r.disk.call()()
	r.saving.Lock()
	defer r.saving.Unlock()
	r.mu.Lock()
	text, err := r.state.text()
	r.mu.Unlock()
	if err == nil {
		err = saveState(r.dir, text)
	}
	r.mu.Lock()
	news := err != nil && r.problem == nil
	r.problem = err
	r.mu.Unlock()
	if news {
		logger().Error("the state of a job cannot be kept", zap.String("job", r.name), zap.Error(err))
	}
}

// ErrConfigured says that a job cannot be resumed.
var ErrConfigured = errors.New("the job is held by the configuration")

// ErrNotLoaded says that a job cannot take requests yet.
var ErrNotLoaded = errors.New("the state of the job is not read yet")

// Hold keeps the job from running by itself, or lets it again. An error other than
// ErrNotLoaded and ErrConfigured is why that will not last over a restart.
func (r *Runner) Hold(h *Hold) error {
	if !r.isLoaded() {
		return errors.Join(ErrNotLoaded, r.Hangs(time.Now()))
	}
	defer r.wake()
	_, err := within(func() (*Hold, error) {
		r.update(func() { r.state.Hold = h })
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.problem == nil && h == nil && r.held() != nil {
			return nil, fmt.Errorf("%w: %s", ErrConfigured, r.held().Reason)
		}
		return h, r.problem
	})
	return err
}
