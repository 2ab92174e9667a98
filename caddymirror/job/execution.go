package job

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/gate"
	"github.com/unifiedmirrors/mirror/caddymirror/panics"
	"github.com/unifiedmirrors/mirror/caddymirror/process"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

var errTimeout = errors.New("time is up")

// execution is a run of a job under way.
type execution struct {
	r    *Runner
	j    *Job
	rec  *Run
	out  *runLog
	keep []*os.File // locks that last as long as any process of the run
	last time.Time

	request Request
	manual  bool // somebody has asked for it

	cancel context.CancelCauseFunc // ends it
	turn   *turn                   // of an exclusive job
	asking chan struct{}           // has one while the storage is asked; of size one

	fresh freshness // of the data, when it has ended

	targets []string // of the release under way
	stamp   bool     // it gets a timestamp, whatever the syncer says

	tail string // of what the last command printed

	leave chan struct{} // closed when commands that are to finish are left to it
	left  int           // process group of one that was
}

// run takes the steps of the job, one after the other. It returns what there is to
// note of how that ended.
func (x *execution) run() (note func()) {
	ctx, cancel := context.WithCancelCause(x.r.e.ctx)
	defer cancel(nil)
	x.cancel = cancel
	if !x.request.NoTimeout {
		timer := time.AfterFunc(time.Duration(x.j.Timeout), func() {
			cancel(fmt.Errorf("%w: %v", errTimeout, time.Duration(x.j.Timeout)))
		})
		defer timer.Stop()
	}
	x.leave = make(chan struct{})
	stop := context.AfterFunc(x.r.e.ctx, func() {
		time.AfterFunc(time.Duration(x.j.Grace), func() { close(x.leave) })
	})
	defer stop()
	x.r.mu.Lock()
	x.last = x.r.state.LastSuccess
	x.r.mu.Unlock()
	outcome, err := x.guarded(ctx)
	cause := context.Cause(ctx)
	return func() { x.note(outcome, err, cause) }
}

// guarded takes the steps, and has a run fail and not the server if one of them
// panics: they read what others wrote.
func (x *execution) guarded(ctx context.Context) (outcome Outcome, err error) {
	defer panics.Recover(x.j.log, "job", &err)
	return x.steps(ctx)
}

// note notes how the run has ended, and why it was to end if it was. The runner's
// lock is held.
func (x *execution) note(outcome Outcome, err, cause error) {
	rec := x.rec
	x.r.state.syncEnded(rec)
	if exit, ok := errors.AsType[*process.ExitError](err); ok {
		rec.Code = exit.Status.ExitStatus()
	}
	_, verdict := errors.AsType[*gate.Verdict](err)
	switch {
	case err == nil:
		rec.Outcome = outcome
	case errors.Is(err, errBusy):
		rec.Outcome = Busy
	case errors.Is(cause, errShutdown):
		rec.Outcome = Interrupted
	case verdict:
		rec.Outcome = Held
	default:
		rec.Outcome = Failed
	}
	switch {
	case err == nil:
		rec.Stage = ""
		return
	case cause != nil && !errors.Is(err, cause):
		err = fmt.Errorf("%w: %w", cause, err)
	}
	rec.Error, rec.Tail = err.Error(), x.tail
}

// steps takes them. They end early if there is nothing to release, or not yet.
func (x *execution) steps(ctx context.Context) (outcome Outcome, err error) {
	x.r.update(func() { x.rec.Stage = "lock" })
	unlock, err := x.locks(ctx)
	defer unlock()
	if err != nil {
		return "", err
	}
	run := x.step()
	defer func() { x.look(x.r.e.ctx, run) }()
	if x.j.syncer != nil {
		known := x.known(ctx)
		if err := x.sync(ctx, run); err != nil {
			return "", err
		}
		switch d := x.decide(ctx, run, known); {
		case !d.release && d.waits:
			return Pending, nil
		case !d.release:
			return Unchanged, nil
		default:
			x.stamp = d.stamp
		}
	}
	for _, g := range x.j.gates {
		if err := x.stage("gate "+g.name, func() error { return g.Check(ctx, run) }); err != nil {
			return "", err
		}
	}
	released, err := x.release(ctx, run)
	switch {
	case err != nil:
		return "", err
	case released:
		return Released, nil
	}
	return Unchanged, nil
}

// sync brings the tree up to date, and counts what that brings.
func (x *execution) sync(ctx context.Context, run *step.Run) error {
	x.r.mu.Lock()
	x.r.state.Syncing = true // kept before the sync begins
	x.r.mu.Unlock()
	err := x.stage("sync", func() error {
		defer func() { x.fetched(run.Bytes) }()
		if err := x.j.syncer.Sync(ctx, run); err != nil {
			return err
		}
		err := x.alone()
		if err != nil {
			run.Changed = nil
		}
		return err
	})
	x.count(ctx, run)
	if err == nil {
		x.fresh.synced = time.Now().Round(0)
		x.fresh.seen = x.rec.Began
	}
	return err
}

// alone makes sure that nothing of the sync is left that may still write to the tree.
func (x *execution) alone() error {
	const wait, poll = time.Second, 50 * time.Millisecond
	for start := time.Now(); ; time.Sleep(poll) {
		done := x.r.disk.call()
		who := holders(x.r.lockName())
		done()
		if len(who) == 0 {
			return nil
		}
		if time.Since(start) > wait {
			return fmt.Errorf("processes that it has started are still there: %s", strings.Join(who, ", "))
		}
	}
}

// fetched notes how much a syncer has fetched, however it ended.
func (x *execution) fetched(n int64) {
	x.r.mu.Lock()
	x.rec.Bytes = n
	x.r.mu.Unlock()
}

// stage takes one step.
func (x *execution) stage(name string, f func() error) error {
	start := time.Now()
	x.r.update(func() {
		x.rec.Stage = name
		x.r.progress = step.Progress{Stage: name, Done: -1}
	})
	x.out.note("--- %s %s\n", start.UTC().Format(time.RFC3339), name)
	if name == "sync" {
		x.event(eventSyncStarted, name, nil)
	}
	err := f()
	took := time.Since(start)
	x.r.update(func() { x.rec.Stages[name] += took.Seconds() })
	x.observer().Stage(x.j.name, name, took)
	if err != nil {
		more := map[string]any{"error": err.Error()}
		if name == "release" {
			more["targets"] = x.targets
		}
		x.event(failure(name), name, more)
		x.out.note("--- %s failed: %v\n", name, err)
		if verdict, ok := err.(*gate.Verdict); ok { //nolint:errorlint // one that is wrapped has more to say
			return fmt.Errorf("gate %w", verdict) // which names the gate
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// failure is the event of a stage that failed.
func failure(stage string) string {
	switch {
	case stage == "sync":
		return eventSyncFailed
	case strings.HasPrefix(stage, "gate "):
		return eventGateFailed
	}
	return eventReleaseFailed
}

// step is the run as its steps see it.
func (x *execution) step() *step.Run {
	return &step.Run{
		Job: x.j.name, ID: x.rec.ID, Dir: x.j.Directory, State: x.r.dir, Timestamp: x.j.Timestamp, Last: x.last,
		Log: x.j.log, Out: io.Writer(x.out),
		Command: x.command, Synced: x.j.syncer != nil, Enter: x.enter,
		Report: func(p step.Progress) {
			x.r.mu.Lock()
			x.r.progress = p
			x.r.mu.Unlock()
		},
		Count: func(counts map[string]int) {
			counts = maps.Clone(counts)
			x.r.mu.Lock()
			x.rec.Counts = counts
			x.r.mu.Unlock()
		},
	}
}

// command runs a command of a step. Several may run at a time.
func (x *execution) command(ctx context.Context, c step.Command) (step.Result, error) {
	var failed error // to understand what it prints
	pid := 0
	cmd := process.Command{
		Name: c.Name, Args: c.Args, Dir: c.Dir, Env: append(x.environment(), c.Env...), Out: x.out, Line: x.lines(c.Line, &failed),
		Grace: time.Duration(x.j.Grace), Finish: c.Finish, Left: x.leave, Keep: x.keep,
		Started: func(p int) {
			pid = p
			x.r.update(func() { x.rec.PID, x.rec.Mark = pid, process.Mark(pid) })
		},
	}
	if cmd.Dir == "" {
		cmd.Dir = x.j.Directory
	}
	k := x.j.Kerberos
	switch {
	case c.Untrusted:
		k, cmd.Env = nil, c.Env
	case c.Kerberos != nil:
		k = c.Kerberos
	}
	cmd.Name, cmd.Args = k.Around(c.Name, c.Args)
	if c.Out != nil {
		cmd.Out = c.Out
	} else {
		x.out.note("$ %q\n", append([]string{cmd.Name}, cmd.Args...))
	}
	res, err := process.Run(ctx, cmd)
	x.r.update(func() {
		if errors.Is(err, process.ErrLeft) {
			x.left = pid
		}
		if x.rec.PID == pid {
			x.rec.PID = 0
		}
		if c.Out == nil {
			x.tail = res.Tail
		}
	})
	if failed != nil && !errors.Is(err, process.ErrLeft) {
		return step.Result{Code: -1}, failed
	}
	return step.Result{Code: res.Code}, err
}

// lines guards line, which is called in a goroutine that guarded does not: a panic over
// what a command prints fails the run. What it prints after that is not looked at.
func (x *execution) lines(line func(string), failed *error) func(string) {
	if line == nil {
		return nil
	}
	return func(text string) {
		if *failed == nil {
			defer panics.Recover(x.j.log, "job", failed)
			line(text)
		}
	}
}

// passed are the variables that commands inherit.
var passed = []string{"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"}

func (x *execution) environment() []string {
	var env []string
	for _, name := range passed {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	env = append(env, "MIRROR_JOB="+x.j.name, "MIRROR_RUN="+x.rec.ID)
	for _, name := range slices.Sorted(maps.Keys(x.j.Env)) {
		env = append(env, name+"="+x.j.Env[name])
	}
	return env
}

// tell tells how the run has ended.
func (x *execution) tell() {
	rec := x.rec
	x.observer().Ended(x.j.name, rec.Outcome)
	if !rec.Outcome.Good() && rec.Outcome != Busy {
		x.event(eventJobFailed, rec.Stage, map[string]any{"error": rec.Error})
	}
	fields := []zap.Field{
		zap.String("run", rec.ID), zap.String("outcome", string(rec.Outcome)),
		zap.Duration("duration", rec.Ended.Sub(rec.Began).Round(time.Millisecond)),
	}
	switch {
	case rec.Outcome.Good():
		x.j.log.Info("job done", fields...)
	case rec.Outcome == Busy || rec.Outcome == Interrupted:
		x.j.log.Warn("job not done", append(fields, zap.String("error", rec.Error))...)
	default:
		x.j.log.Error("job failed", append(fields, zap.String("error", rec.Error),
			zap.String("log", filepath.Join(x.r.logDir(), rec.ID+".log")))...)
	}
}
