package gate

import (
	"context"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/panics"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// patience is how long a check that is to end is waited for. A file system that
// hangs does not hold up the job for longer.
const patience = 2 * time.Second

// within runs check and returns what it returns. If ctx ends and check does not,
// it is left behind: it must not use r then, other than through a progress.
func within(ctx context.Context, check func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- guarded(func() error { return check(ctx) }) }()
	select {
	case err := <-done:
		return ended(ctx, err)
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return ended(ctx, err)
	case <-time.After(patience):
		return fmt.Errorf("the file system does not answer: %w", context.Cause(ctx))
	}
}

// guarded calls f, in a goroutine that the runner of jobs does not guard: a panic
// over what others wrote fails the check, and not the server.
func guarded(f func() error) (err error) {
	defer panics.Recover(caddy.Log().Named("mirror.gates"), "gate", &err)
	return f()
}

// ended makes sure that what a check found that was broken off is not taken for
// a verdict.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// progress reports how far a check is. It is used by one goroutine at a time.
type progress struct {
	ctx   context.Context
	to    func(step.Progress)
	stage string
	next  time.Time
}

func newProgress(ctx context.Context, r *step.Run, stage string) *progress {
	return &progress{ctx: ctx, to: r.Report, stage: stage}
}

// report tells how far the check is, unless it has just told.
func (p *progress) report(done float64, format string, args ...any) {
	if p.to == nil || p.ctx.Err() != nil {
		return
	}
	if now := time.Now(); now.After(p.next) {
		p.next = now.Add(200 * time.Millisecond)
		p.to(step.Progress{Stage: p.stage, Done: min(done, 1), Detail: fmt.Sprintf(format, args...)})
	}
}
