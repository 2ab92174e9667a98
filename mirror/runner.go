package mirror

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/step"
)

// runner runs one job, one run after the other, in one goroutine.
type runner struct {
	e    *engine
	name string
	dir  string
	lock *os.File // locked while a run's processes live, whoever has started them
	kick chan struct{}

	mu       sync.Mutex // guards what follows
	configs  []*Job     // that have the job; the first is in force
	state    jobState
	progress step.Progress
	manual   *manualRun // asked for, and not begun
	begun    time.Time  // the last run by the schedule, for what comes next
	waits    string     // why a run that is due has not begun
	problem  error      // the state could not be kept
}

// manualRun is a run that somebody has asked for.
type manualRun struct {
	id        string
	noTimeout bool
}

func newRunner(e *engine, j *Job) (*runner, error) {
	r := &runner{e: e, name: j.name, dir: filepath.Join(e.dir, j.name), kick: make(chan struct{}, 1)}
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, fmt.Errorf("job %s: %w", j.name, err)
	}
	var err error
	r.lock, err = os.OpenFile(filepath.Join(r.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", j.name, err)
	}
	state, interrupted, err := loadState(r.dir, time.Now())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("job %s: %w", j.name, err), r.lock.Close())
	}
	r.state = state
	if interrupted != nil {
		j.log.Warn("the last run of a job was interrupted", zap.String("run", interrupted.ID), zap.String("stage", interrupted.Stage))
		err = r.state.save(r.dir)
	}
	if len(state.Runs) > 0 {
		r.begun = state.Runs[0].Began
	}
	return r, err
}

func compareNames(a, b string) int { return strings.Compare(a, b) }

func (r *runner) join(j *Job) {
	r.mu.Lock()
	r.configs = append(r.configs, j)
	r.mu.Unlock()
	r.wake()
}

func (r *runner) leave(j *Job) {
	r.mu.Lock()
	r.configs = slices.DeleteFunc(r.configs, func(o *Job) bool { return o == j })
	r.mu.Unlock()
	r.wake()
}

// wake has the loop look at what is to do.
func (r *runner) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// longestNap is how long the loop sleeps at most: clocks get set.
const longestNap = time.Minute

// loop runs the job when it is due, until no config has it any more.
func (r *runner) loop() {
	defer r.lock.Close()
	for {
		job, due, run := r.next(time.Now())
		if job == nil && r.e.retire(r) {
			return
		}
		if run != nil {
			r.run(job, run)
			continue
		}
		nap := longestNap
		if !due.IsZero() {
			nap = min(nap, max(time.Until(due), 0))
		}
		select {
		case <-time.After(nap):
		case <-r.kick:
		case <-r.e.ctx.Done():
			return
		}
	}
}

// pending is a run that is to begin now.
type pending struct {
	id        string
	trigger   string
	noTimeout bool
}

// next returns the job as it is configured, when it is due, and the run to begin if
// that is now.
func (r *runner) next(now time.Time) (*Job, time.Time, *pending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.configs) == 0 {
		return nil, time.Time{}, nil
	}
	j := r.configs[0]
	if m := r.manual; m != nil {
		r.manual = nil
		return j, now, &pending{m.id, "manual", m.noTimeout}
	}
	if r.state.Hold != nil {
		return j, time.Time{}, nil
	}
	due, trigger := r.due(j, now)
	if due.IsZero() || due.After(now) {
		return j, due, nil
	}
	return j, due, &pending{runID(now), trigger, false}
}

// due is when the job runs next, and why. r.mu is held.
func (r *runner) due(j *Job, now time.Time) (time.Time, string) {
	at := j.schedule.next(r.begun, now)
	if r.state.Failures == 0 || len(r.state.Runs) == 0 || j.schedule.manual() {
		return at, "schedule"
	}
	wait := backoff(r.state.Failures, time.Duration(j.RetryAfter), time.Duration(j.RetryMax))
	return r.state.Runs[0].Ended.Add(wait), "retry"
}

// runID names a run, so that names sort by time.
func runID(t time.Time) string { return t.UTC().Format("20060102T150405.000Z") }

// run runs the job once.
func (r *runner) run(j *Job, p *pending) {
	if !r.clear() {
		if p.trigger == "manual" {
			r.mu.Lock()
			r.manual = &manualRun{p.id, p.noTimeout}
			r.mu.Unlock()
		}
		return
	}
	defer func() { _ = syscall.Flock(int(r.lock.Fd()), syscall.LOCK_UN) }()
	rec := &JobRun{ID: p.id, Trigger: p.trigger, Began: time.Now(), Stages: map[string]float64{}}
	r.update(func() {
		r.state.Current = rec
		r.begun = rec.Began
		r.progress = step.Progress{}
	})
	out, err := openRunLog(r.logDir(), rec.ID, j.Log.Size)
	if err != nil {
		j.log.Error("opening the log of a run; it goes on without", zap.Error(err))
	}
	x := &execution{r: r, j: j, rec: rec, out: out}
	x.run(p.noTimeout)
	if err := out.Close(); err != nil {
		j.log.Error("closing the log of a run", zap.Error(err))
	}
	pruneLogs(r.logDir(), j.Log.Keep)
	r.update(func() {
		rec.Ended, rec.PID = time.Now(), 0
		r.state.Current = nil
		r.state.record(rec)
	})
	x.tell()
}

func (r *runner) logDir() string { return filepath.Join(r.dir, "log") }

// clear takes the job's lock. It is not to be had while processes live that were
// started before this server was killed; then it waits a little.
func (r *runner) clear() bool {
	err := syscall.Flock(int(r.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		r.setWaits("")
		return true
	}
	r.mu.Lock()
	first := r.waits == ""
	r.waits = "processes of an interrupted run are still there"
	if len(r.state.Runs) > 0 && r.state.Runs[0].PID != 0 {
		r.waits += fmt.Sprintf(": process group %d", r.state.Runs[0].PID)
	}
	why := r.waits
	r.mu.Unlock()
	if first {
		r.e.log.Warn("a job waits", zap.String("job", r.name), zap.String("for", why))
	}
	select {
	case <-time.After(5 * time.Second):
	case <-r.e.ctx.Done():
	}
	return false
}

func (r *runner) setWaits(why string) {
	r.mu.Lock()
	r.waits = why
	r.mu.Unlock()
}

// update changes the state and keeps it.
func (r *runner) update(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	err := r.state.save(r.dir)
	if err != nil && r.problem == nil {
		r.e.log.Error("the state of a job cannot be kept", zap.String("job", r.name), zap.Error(err))
	}
	r.problem = err
}

// errRunning says that a job runs already.
var errRunning = errors.New("it runs already")

// ask has the job run now, on hold or not.
func (r *runner) ask(noTimeout bool) (id string, err error) {
	r.mu.Lock()
	switch {
	case r.state.Current != nil:
		err = fmt.Errorf("%w: run %s", errRunning, r.state.Current.ID)
	case r.manual != nil:
		err = fmt.Errorf("%w: run %s", errRunning, r.manual.id)
	default:
		id = runID(time.Now())
		r.manual = &manualRun{id, noTimeout}
	}
	r.mu.Unlock()
	r.wake()
	return id, err
}

// hold keeps the job from running by itself, or lets it again.
func (r *runner) hold(h *Hold) error {
	r.update(func() { r.state.Hold = h })
	r.wake()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.problem
}

// find returns a run by its ID.
func (r *runner) find(id string) (JobRun, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m := r.manual; m != nil && m.id == id {
		return JobRun{ID: id, Trigger: "manual", Stage: "waiting"}, true
	}
	if c := r.state.Current; c != nil && c.ID == id {
		return c.clone(), true
	}
	for _, run := range r.state.Runs {
		if run.ID == id {
			return run.clone(), true
		}
	}
	return JobRun{}, false
}

// await waits until a run has ended.
func (r *runner) await(ctx context.Context, id string) (JobRun, bool) {
	for {
		run, ok := r.find(id)
		if !ok || run.Outcome != "" {
			return run, ok
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return run, true
		}
	}
}
