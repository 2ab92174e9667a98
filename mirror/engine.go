package mirror

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// engines are the engines in use, by the directory of their state.
var engines = caddy.NewUsagePool()

// errShutdown ends runs when the server ends.
var errShutdown = errors.New("the server is ended")

// engine runs jobs, over config reloads: a job goes on in the engine as long as one
// config has it, and a run of it goes on even if none has.
//
// Locks: engine.mu before runner.mu.
type engine struct {
	dir    string
	log    *zap.Logger
	ctx    context.Context //nolint:containedctx // ends with the engine, and runs with it
	cancel context.CancelCauseFunc
	done   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	runners map[string]*runner
	lanes   map[string]chan struct{}
}

// stateDir is where jobs keep what they have to know again.
func stateDir() string { return filepath.Join(caddy.AppDataDir(), "mirror", "jobs") }

func newEngine(dir string, log *zap.Logger) (*engine, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the jobs' state: %w", err)
	}
	e := &engine{dir: dir, log: log, runners: map[string]*runner{}, lanes: map[string]chan struct{}{}}
	e.ctx, e.cancel = context.WithCancelCause(context.Background())
	return e, nil
}

// Destruct implements caddy.Destructor: it ends what runs, each with its grace, and
// waits for that.
func (e *engine) Destruct() error {
	e.cancel(errShutdown)
	e.done.Wait()
	return nil
}

// join makes a job known. If there is one of that name already, from the config
// before this one, its settings stay in force until that config is gone: this one
// may fail yet.
func (e *engine) join(j *Job) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.runners[j.name]
	if r == nil {
		var err error
		if r, err = newRunner(e, j); err != nil {
			return err
		}
		e.runners[j.name] = r
		e.done.Go(r.loop)
	}
	r.join(j)
	return nil
}

// leave takes a job of a config back.
func (e *engine) leave(j *Job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r := e.runners[j.name]; r != nil {
		r.leave(j)
	}
}

// retire forgets a runner that has nothing to run for any more, and reports whether
// that is so.
func (e *engine) retire(r *runner) bool {
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

func (e *engine) runner(name string) *runner {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.runners[name]
}

func (e *engine) all() []*runner {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*runner, 0, len(e.runners))
	for _, r := range e.runners {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *runner) int { return compareNames(a.name, b.name) })
	return all
}

// enter waits until nobody else is in a lane. "" is no lane.
func (e *engine) enter(ctx context.Context, lane string) (leave func(), err error) {
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
