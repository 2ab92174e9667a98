package job

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// errShutdown ends runs when the server ends.
var errShutdown = errors.New("the server is ended")

// Engine runs jobs, for as long as there are any: a job goes on in it over config
// reloads as long as one config has the job, and a run of it goes on even if none has.
//
// Locks: enginePool.mu before Engine.mu before Runner.mu. No disk is touched while one of
// them is held.
type Engine struct {
	dir    string
	ctx    context.Context //nolint:containedctx // ends with the process, and runs with it
	cancel context.CancelCauseFunc
	end    sync.Once
	done   sync.WaitGroup

	// The directory is made and locked in the background.
	disk   disk
	first  chan error            // how that went the first time
	opened chan struct{}         // closed when it is done
	fault  atomic.Pointer[error] // why it is not
	closed chan struct{}         // closed when it is given up

	mu      sync.Mutex // guards what follows
	holds   int        // see enginePool.get
	retired bool
	lock    *os.File // of the directory
	runners map[string]*Runner
	running map[*Runner]claim
	queue   []waiter // for what runs, in the order in which they came
	lanes   map[string]chan struct{}
}

func newEngine(dir string) *Engine {
	e := &Engine{
		dir: dir, first: make(chan error, 1), opened: make(chan struct{}), closed: make(chan struct{}),
		runners: map[string]*Runner{}, running: map[*Runner]claim{}, lanes: map[string]chan struct{}{},
	}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	go e.openDir()
	return e
}

// Start has jobs run when they are due, in the engine of the directory that keeps their
// state. An earlier configuration may have started it. Start returns nil if there are no
// jobs and never were. Each job is told to the observer. Nothing runs before active
// reports that the configuration is in force: it may never be. What has been started is
// given back by [Engine.Leave].
func Start(dir string, jobs map[string]*Job, observer Observer, active func() bool) (*Engine, error) {
	names := slices.Sorted(maps.Keys(jobs))
	for _, name := range names {
		if err := jobs[name].Ready(); err != nil {
			return nil, fmt.Errorf("job %s: %w", name, err)
		}
	}
	e, err := engines.get(dir, len(names) > 0)
	if err != nil || e == nil {
		return nil, err
	}
	defer engines.put(e)
	all := make([]*Job, 0, len(names))
	for _, name := range names {
		jobs[name].observer, jobs[name].active = observer, active
		all = append(all, jobs[name])
	}
	e.join(all...)
	return e, nil
}

// Leave removes the jobs of a configuration. Runs under way go on, unless the
// process ends. It may be called more than once.
func (e *Engine) Leave(jobs map[string]*Job) {
	for _, j := range jobs {
		e.leaveJob(j)
	}
	if caddy.Exiting() {
		e.shutdown()
	}
}

// lastWait is how long the end of the process waits for runs whose commands have been
// killed.
const lastWait = 5 * time.Second

// shutdown ends what runs, each with its grace, and waits for that. A command that is
// to finish, and has not within the grace, is left alone.
func (e *Engine) shutdown() { e.end.Do(e.endAll) }

func (e *Engine) endAll() {
	e.cancel(errShutdown)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.done.Wait()
	}()
	select {
	case <-ended:
		e.mu.Lock()
		lock := e.lock
		e.lock = nil
		e.mu.Unlock()
		if lock != nil {
			lock.Close()
		}
	case <-time.After(e.grace() + lastWait):
		logger().Error("jobs do not end; they are given up on", zap.Strings("jobs", e.names()))
	}
}

// grace is the longest that a job that runs may take to end.
func (e *Engine) grace() time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	var longest time.Duration
	for _, c := range e.running {
		longest = max(longest, time.Duration(c.j.Grace))
	}
	return longest
}

// names are those of the jobs that run.
func (e *Engine) names() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	names := make([]string, 0, len(e.running))
	for r := range e.running {
		names = append(names, r.name)
	}
	slices.Sort(names)
	return names
}

// join makes jobs known. If there is one of that name already, from the config
// before this one, its settings stay in force until that config is gone: this one
// may fail yet. It returns when their state is read, or is not to be had just now.
func (e *Engine) join(jobs ...*Job) {
	all := make([]*Runner, 0, len(jobs))
	for _, j := range jobs {
		all = append(all, e.joinOne(j))
	}
	select {
	case <-e.opened:
	default:
		return // it was waited for
	}
	late := time.After(patience)
	for _, r := range all {
		select {
		case <-r.loaded:
		case <-e.ctx.Done():
			return
		case <-late:
			return
		}
	}
}

func (e *Engine) joinOne(j *Job) *Runner {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.runners[j.name]
	if r == nil {
		r = newRunner(e, j.name)
		e.runners[j.name] = r
		e.done.Go(func() {
			r.loop()
			engines.retire(e)
		})
	}
	r.join(j)
	go r.miss(j) // a file system that hangs holds nobody up
	return r
}

// leaveJob takes a job of a config back.
func (e *Engine) leaveJob(j *Job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.runners[j.name]; r != nil {
		r.leave(j)
	}
}

// retire forgets a runner that has nothing to run for any more, and reports whether
// that is so.
func (e *Engine) retire(r *Runner) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.configs) > 0 {
		return false
	}
	delete(e.runners, r.name)
	return true
}

// claim is a job as it was configured when its run began, and what that works on.
type claim struct {
	j *Job
	places
}

// waiter is a runner that waits for places.
type waiter struct {
	r *Runner
	places
}

// claim notes that a job runs. It must not yet if another one is at the same places:
// that may be the same job by the name that it had before a reload. Those that wait
// have their turns in the order in which they came.
func (e *Engine) claim(r *Runner, j *Job, p places) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	at := slices.IndexFunc(e.queue, func(w waiter) bool { return w.r == r })
	if at < 0 {
		at = len(e.queue)
		e.queue = append(e.queue, waiter{r: r})
	}
	e.queue[at].places = p
	for other, c := range e.running {
		if other != r && c.meets(p) {
			return fmt.Errorf("job %s runs, and has the same directory or release", other.name)
		}
	}
	for _, w := range e.queue[:at] {
		if w.meets(p) {
			return fmt.Errorf("job %s is to run before, and has the same directory or release", w.r.name)
		}
	}
	e.queue = slices.Delete(e.queue, at, at+1)
	e.running[r] = claim{j, p}
	return nil
}

// withdraw notes that a runner has nothing to run, and waits for nothing.
func (e *Engine) withdraw(r *Runner) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = slices.DeleteFunc(e.queue, func(w waiter) bool { return w.r == r })
}

// unclaim notes that it has ended, and wakes those that may have waited for that.
func (e *Engine) unclaim(r *Runner) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.running, r)
	for _, w := range e.queue {
		w.r.wake()
	}
}

// Runner returns the runner of a job, or nil.
func (e *Engine) Runner(name string) *Runner {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.runners[name]
}

// Runners are those of all jobs, by name.
func (e *Engine) Runners() []*Runner {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := slices.Collect(maps.Values(e.runners))
	slices.SortFunc(all, func(a, b *Runner) int { return strings.Compare(a.name, b.name) })
	return all
}

// enter waits until nobody else is in a lane. "" is no lane.
func (e *Engine) enter(ctx context.Context, lane string) (leave func(), err error) {
	if lane == "" {
		return func() {}, nil
	}
	e.mu.Lock()
	l := e.lanes[lane]
	if l == nil {
		l = make(chan struct{}, 1)
		e.lanes[lane] = l
	}
	e.mu.Unlock()
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("waiting for other releases: %w", context.Cause(ctx))
	}
}
