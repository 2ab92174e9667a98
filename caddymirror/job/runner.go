package job

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/process"
	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Runner runs one job, one run after the other, in one goroutine.
type Runner struct {
	e    *Engine
	name string
	dir  string
	kick chan struct{}

	search search // the loop's
	disk   disk   // that of dir

	// loaded is closed when the state is read. Before, nothing runs.
	loaded chan struct{}

	// saving is held while the state is kept: a disk that hangs holds up who writes, and
	// nobody who looks. It comes before mu.
	saving sync.Mutex

	mu       sync.Mutex // guards what follows
	configs  []*Job     // that have the job; the first is in force
	state    state
	progress step.Progress
	manual   *manualRun // asked for, and not begun
	missing  bool       // what the job releases is not there: it is due
	named    string     // the last run to get a name
	out      *runLog    // of the run under way, or of the last; may be nil
	waits    string     // why a run that is due has not begun
	problem  error      // the state could not be kept

	// When the job was first seen, when by this process, and when the last run began
	// and ended, for what comes next. By the clock on the wall, and not in the future.
	since, up, begun, ended time.Time
}

// manualRun is a run that somebody has asked for.
type manualRun struct {
	id string
	Request
}

func newRunner(e *Engine, name string) *Runner {
	now := time.Now().Round(0)
	return &Runner{
		e: e, name: name, dir: filepath.Join(e.dir, name), kick: make(chan struct{}, 1), loaded: make(chan struct{}),
		since: now, up: now,
	}
}

// Name is the name of the job.
func (r *Runner) Name() string { return r.name }

// lockName is a file that is locked while a run's processes live, whoever has started
// them.
func (r *Runner) lockName() string { return filepath.Join(r.dir, "lock") }

func (r *Runner) join(j *Job) {
	r.mu.Lock()
	r.configs = append(r.configs, j)
	r.mu.Unlock()
	r.wake()
}

// miss looks whether there is no release, as there is not if somebody has removed it:
// then the job does not wait for its time.
func (r *Runner) miss(j *Job) {
	start := time.Now()
	for _, rel := range j.releases {
		if m, ok := rel.(releaser.Misser); ok && m.Missing() {
			r.mu.Lock()
			r.missing = r.state.Current == nil && r.ended.Before(start) // else a run makes one, or has
			r.mu.Unlock()
			r.wake()
			return
		}
	}
}

func (r *Runner) leave(j *Job) {
	r.mu.Lock()
	r.configs = slices.DeleteFunc(r.configs, func(o *Job) bool { return o == j })
	r.mu.Unlock()
	r.wake()
}

// wake has the loop look at what is to do.
func (r *Runner) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

const (
	longestNap = time.Minute            // of the loop: clocks get set
	startPoll  = 100 * time.Millisecond // while the server starts
	busyPoll   = time.Second            // while something is in the way
)

// loop runs the job when it is due, until no config has it any more.
func (r *Runner) loop() {
	if !r.load() {
		return
	}
	for r.e.ctx.Err() == nil {
		job, due, run := r.next(time.Now().Round(0))
		if run == nil {
			r.e.withdraw(r)
		}
		if job == nil && r.e.retire(r) {
			return
		}
		nap := longestNap
		switch {
		case run != nil:
			if r.run(job, run) {
				continue
			}
			nap = busyPoll
		case !due.IsZero():
			nap = min(nap, max(time.Until(due), 0))
		}
		select {
		case <-time.After(nap):
		case <-r.kick:
		case <-r.e.ctx.Done():
		}
	}
}

// pending is a run that is to begin now.
type pending struct {
	id      string
	trigger string
	Request
}

// next returns the job as it is configured, when it is due, and the run to begin if
// that is now.
func (r *Runner) next(now time.Time) (*Job, time.Time, *pending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.configs) == 0 {
		return nil, time.Time{}, nil
	}
	j := r.configs[0]
	if j.active != nil && !j.active() {
		return j, now.Add(startPoll), nil
	}
	j.active = nil
	r.settle(now)
	if m := r.manual; m != nil {
		return j, now, &pending{m.id, "manual", m.Request}
	}
	due, trigger := r.due(j, now)
	if r.held() != nil {
		due = time.Time{}
	}
	if due.IsZero() || due.After(now) {
		r.waits = ""
		return j, due, nil
	}
	return j, due, &pending{r.newID(now), trigger, Request{}}
}

// settle takes what is in the future for now: the clock was set back. Else the job
// would not run until then. r.mu is held.
func (r *Runner) settle(now time.Time) {
	for _, t := range []*time.Time{&r.since, &r.up, &r.begun, &r.ended} {
		if t.After(now) {
			*t = now
		}
	}
}

// due is when the job runs next, and why. r.mu is held.
func (r *Runner) due(j *Job, now time.Time) (time.Time, string) {
	if r.missing && r.state.Failures == 0 && !j.schedule.manual() {
		return later(r.up.Add(j.schedule.spread(r.up)), now), "schedule"
	}
	if r.state.Failures == 0 || j.schedule.manual() {
		return j.schedule.next(r.begun, r.since, r.up, now), "schedule"
	}
	return r.ended.Add(backoff(r.state.Failures, time.Duration(j.RetryAfter), time.Duration(j.RetryMax))), "retry"
}

// held is why the job does not run by itself. r.mu is held.
func (r *Runner) held() *Hold {
	if h := r.state.Hold; h != nil {
		return h
	}
	if len(r.configs) > 0 && r.configs[0].Hold != "" {
		return &Hold{Reason: r.configs[0].Hold}
	}
	return nil
}

// newID names a run by its time. r.mu is held.
func (r *Runner) newID(t time.Time) string {
	for {
		id := t.UTC().Format("20060102T150405.000Z")
		if id != r.named && !slices.ContainsFunc(r.state.Runs, func(run *Run) bool { return run.ID == id }) {
			r.named = id
			return id
		}
		t = t.Add(time.Millisecond)
	}
}

// run runs the job once, and reports whether it could.
func (r *Runner) run(j *Job, p *pending) bool {
	locks, err := r.clear(j)
	if err != nil {
		r.wait(err)
		return false
	}
	defer r.e.unclaim(r)
	defer closeAll(locks) // and no more: processes that have escaped hold them on
	rec := &Run{ID: p.id, Trigger: p.trigger, Began: time.Now().Round(0), Stages: map[string]float64{}}
	out := openRunLog(&r.disk, r.logDir(), rec.ID, j.Log.Size)
	r.update(func() {
		if r.manual != nil && r.manual.id == p.id {
			r.manual = nil
		}
		r.missing = false
		r.state.Current, r.begun, r.waits, r.out = rec, rec.Began, "", out
		r.progress = step.Progress{Done: -1}
	})
	x := &execution{
		r: r, j: j, rec: rec, out: out, keep: locks, asking: make(chan struct{}, 1), request: p.Request, manual: p.trigger == "manual",
	}
	note := x.run()
	out.Close()
	var keep []string
	r.update(func() {
		note()
		rec.Ended, rec.PID, rec.Notes = time.Now().Round(0), x.left, x.fresh.notes
		r.ended = rec.Ended
		r.state.Current = nil
		r.state.record(rec, max(maxRuns, j.Log.Keep))
		r.state.note(x.fresh)
		for _, run := range r.state.Runs[:min(len(r.state.Runs), j.Log.Keep)] {
			keep = append(keep, run.ID)
		}
	})
	done := r.disk.call()
	pruneLogs(r.logDir(), keep)
	done()
	x.tell()
	return true
}

func (r *Runner) logDir() string { return filepath.Join(r.dir, "log") }

// clear makes sure that the job may run now. It may not while processes of an earlier
// run live, whoever has started them, nor beside a job that is in its way.
func (r *Runner) clear(j *Job) (locks []*os.File, err error) {
	p, err := r.search.of(j)
	if err != nil {
		return nil, err
	}
	if err := r.e.claim(r, j, p); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.e.unclaim(r)
		}
	}()
	defer r.disk.call()()
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(r.lockName())
	if errors.Is(err, errBusy) {
		err = r.whoIsThere()
	}
	if err != nil {
		return nil, err
	}
	if locks, err = p.lock(filepath.Join(r.e.dir, ".places")); err == nil {
		err = r.ghost()
	}
	if err != nil {
		lock.Close()
		closeAll(locks)
		return nil, err
	}
	return slices.Insert(locks, 0, lock), nil
}

// ghost makes sure that the command of the last run does not live on, if that was
// interrupted: some, such as ssh, close the lock that they inherit.
func (r *Runner) ghost() error {
	r.mu.Lock()
	var last Run
	if len(r.state.Runs) > 0 {
		last = *r.state.Runs[0]
	}
	r.mu.Unlock()
	if last.PID != 0 && last.Mark != "" && process.Lives(last.PID, last.Mark) {
		return fmt.Errorf("processes of run %s are still there: process group %d", last.ID, last.PID)
	}
	return nil
}

// whoIsThere says who has the job's lock.
func (r *Runner) whoIsThere() error {
	by := who(r.lockName())
	r.mu.Lock()
	defer r.mu.Unlock()
	text := "processes of an earlier run are still there"
	if len(r.state.Runs) > 0 {
		last := r.state.Runs[0]
		text = "processes of run " + last.ID + " are still there"
		if last.PID != 0 {
			text += fmt.Sprintf(": process group %d", last.PID)
		}
	}
	return errors.New(text + by)
}

// wait notes why the job cannot run.
func (r *Runner) wait(why error) {
	r.mu.Lock()
	news := r.waits == ""
	r.waits = why.Error()
	r.mu.Unlock()
	if news {
		logger().Warn("a job waits", zap.String("job", r.name), zap.Error(why))
	}
}

// logger is that of the config in force: a runner outlives configs.
func logger() *zap.Logger { return caddy.Log().Named("mirror") }
