package job

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

func init() {
	caddy.OnExit(func(context.Context) { Shutdown() })
}

// Shutdown ends all runs, each with its grace, as the end of the process does.
func Shutdown() { engines.shutdown() }

// engines are the engines of this process, by the directory of their state.
var engines enginePool

// enginePool has engines. Its lock comes before those of engines.
type enginePool struct {
	mu sync.Mutex
	m  map[string]*Engine
}

// get returns the engine of a directory, made if it is not there and is needed. It is
// kept until it is put back. A directory that cannot be used is an error; one that does
// not answer is waited for by the jobs.
func (p *enginePool) get(dir string, needed bool) (*Engine, error) {
	for {
		p.mu.Lock()
		e := p.m[dir]
		switch {
		case e == nil && !needed:
			p.mu.Unlock()
			return nil, nil
		case e == nil:
			if p.m == nil {
				p.m = map[string]*Engine{}
			}
			e = newEngine(dir)
			e.holds++
			p.m[dir] = e
			p.mu.Unlock()
			err := e.awaitDir()
			if err != nil {
				e.cancel(err)
				p.put(e)
				return nil, err
			}
			return e, nil
		case e.hold():
			p.mu.Unlock()
			return e, nil
		}
		p.mu.Unlock()
		select {
		case <-e.closed:
		case <-time.After(patience):
			return nil, fmt.Errorf("the disk of the jobs' state does not answer: %s", dir)
		}
	}
}

// put gives an engine back. One that has nothing to run gives its directory up, which
// another process may use then.
func (p *enginePool) put(e *Engine) {
	e.mu.Lock()
	e.holds--
	e.mu.Unlock()
	p.retire(e)
}

// retire closes an engine that nobody holds and that has no jobs.
func (p *enginePool) retire(e *Engine) {
	e.mu.Lock()
	lock, idle := e.lock, e.holds == 0 && len(e.runners) == 0 && !e.retired
	if idle {
		e.retired, e.lock = true, nil
	}
	e.mu.Unlock()
	if !idle {
		return
	}
	e.cancel(errShutdown)
	if lock != nil {
		lock.Close()
	}
	p.mu.Lock()
	if p.m[e.dir] == e {
		delete(p.m, e.dir)
	}
	p.mu.Unlock()
	close(e.closed)
}

// shutdown ends all that runs, since the process ends.
func (p *enginePool) shutdown() {
	p.mu.Lock()
	all := slices.Collect(maps.Values(p.m))
	p.mu.Unlock()
	for _, e := range all {
		e.shutdown()
	}
}

// Hold keeps an engine from being retired. It reports false if it is.
func (e *Engine) hold() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.retired {
		return false
	}
	e.holds++
	return true
}

// openDir makes the directory of the state and locks it, and tries again until that is
// done: while the disk hangs, or after it has, the server serves and jobs wait.
func (e *Engine) openDir() {
	for first := true; ; first = false {
		done := e.disk.call()
		lock, err := lockDir(e.dir)
		done()
		if err == nil && !e.own(lock) {
			lock.Close()
			return
		}
		if err == nil {
			close(e.opened)
		} else {
			e.fault.Store(&err)
		}
		if first {
			e.first <- err
		}
		if err == nil {
			return
		}
		select {
		case <-e.ctx.Done():
			return
		case <-time.After(patience):
		}
	}
}

func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of the jobs' state: %w", err)
	}
	// Names of jobs do not begin with a dot.
	lock, err := lockFile(filepath.Join(dir, ".lock"))
	if errors.Is(err, errBusy) {
		return nil, fmt.Errorf("the jobs of %s belong to another Caddy that is running: use `caddy reload`, or give it another XDG_DATA_HOME", dir)
	}
	return lock, err
}

// own takes the lock of the directory over, if the engine still wants it.
func (e *Engine) own(lock *os.File) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.retired || e.ctx.Err() != nil {
		return false
	}
	e.lock = lock
	return true
}

// awaitDir waits for the directory, but not for a disk that hangs.
func (e *Engine) awaitDir() error {
	select {
	case err := <-e.first:
		return err
	case <-time.After(patience):
		logger().Error("the disk of the jobs' state does not answer: jobs wait for it", zap.String("directory", e.dir))
		return nil
	}
}

// problem is why jobs do not know their state yet. It takes no lock of the engine.
func (e *Engine) problem(now time.Time) error {
	if err := e.disk.problem(now); err != nil {
		return err
	}
	select {
	case <-e.opened:
		return nil
	default:
	}
	if err := e.fault.Load(); err != nil {
		return *err
	}
	return nil
}
