// Package mirror is the app that owns what outlives a configuration: the caches,
// and the jobs that are running. It answers for them on the admin API, on the
// command line and in metrics.
package mirror

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App owns the caches of a package mirror, and runs its jobs.
//
// A cache belongs to its directory: a reload that names the same directory
// keeps the cache and everything in it, and only changes its limits.
//
// A job belongs to its name: a reload that has it keeps its state. What a job is
// running goes on over a reload in any case, with the settings that it began with.
type App struct {
	// Caches by name. Mounts that name none use the cache `default`, which is
	// there even if it is not configured.
	Caches map[string]*Cache `json:"caches,omitempty"`

	// Jobs by name: what is brought up to date and released, and when.
	Jobs map[string]*job.Job `json:"jobs,omitempty"`

	// Statsd is told how long releases take. Default: nobody is.
	Statsd *Statsd `json:"statsd,omitempty"`

	log    *zap.Logger
	engine atomic.Pointer[job.Engine] // nil: there are no jobs, or the app is not started

	mu     sync.Mutex // guards mounts; a leaf
	mounts []mount
}

// mount is a mount with its prefix.
type mount struct {
	prefix string // without a slash at its end
	Mount
}

// DefaultCache is the name of the cache of mounts that name none.
const DefaultCache = "default"

// Mount is what the app has to know of a mount, whoever serves it.
type Mount interface {
	// Status for operators.
	Status() MountStatus
	// Purge removes entries of the mount from its cache: one path, or all
	// that begin with prefix, or all.
	Purge(path, prefix string) (int, error)
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror", New: func() caddy.Module { return new(App) }}
}

// Provision sets the app up. It touches no disk: it also runs for `caddy
// validate` beside a running server.
func (a *App) Provision(ctx caddy.Context) error {
	a.log = ctx.Logger()
	if a.Caches == nil {
		a.Caches = map[string]*Cache{}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Caches)) {
		if a.Caches[name] == nil {
			a.Caches[name] = new(Cache)
		}
		if !validName(name) {
			return fmt.Errorf("cache name %q is not made of letters, digits, '-', '_' and '.'", name)
		}
		if err := a.Caches[name].provision(name, a.log); err != nil {
			return fmt.Errorf("cache %s: %w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.Jobs)) {
		if a.Jobs[name] == nil {
			a.Jobs[name] = new(job.Job)
		}
		if !validName(name) {
			return fmt.Errorf("job name %q is not made of letters, digits, '-', '_' and '.'", name)
		}
		if err := a.Jobs[name].Provision(ctx, name, a.log); err != nil {
			return fmt.Errorf("job %s: %w", name, err)
		}
	}
	if a.Statsd != nil {
		if err := a.Statsd.check(); err != nil {
			return fmt.Errorf("statsd: %w", err)
		}
	}
	return registerMetrics(ctx, a)
}

// Validate makes sure that no two caches want one directory, and no two jobs
// release the same.
func (a *App) Validate() error {
	names := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(a.Caches)) {
		path := a.Caches[name].Path
		if other, ok := names[path]; ok {
			return fmt.Errorf("caches %s and %s have the same path %s", other, name, path)
		}
		names[path] = name
	}
	return job.CheckTargets(a.Jobs)
}

// UseCache is the cache of this name, for a mount that is being provisioned.
// Its directory is opened when the app starts.
func (a *App) UseCache(name string) (*Cache, error) {
	if name == "" {
		name = DefaultCache
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c, ok := a.Caches[name]; ok {
		return c, nil
	}
	if name != DefaultCache {
		return nil, fmt.Errorf("there is no cache %q: configured are %q", name, slices.Sorted(maps.Keys(a.Caches)))
	}
	c := new(Cache)
	if err := c.provision(name, a.log); err != nil {
		return nil, fmt.Errorf("cache %s: %w", name, err)
	}
	a.Caches[name] = c
	return c, nil
}

// AddMount makes a mount known to the admin API. Several sites may each have one of
// this prefix.
func (a *App) AddMount(prefix string, m Mount) {
	a.mu.Lock()
	a.mounts = append(a.mounts, mount{strings.TrimSuffix(prefix, "/"), m})
	a.mu.Unlock()
}

// allMounts are the mounts of this configuration.
func (a *App) allMounts() []mount {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.mounts)
}

// Start opens the caches, and has the jobs run when they are due.
func (a *App) Start() error {
	names := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(a.Caches)) {
		err := a.Caches[name].start()
		key := a.Caches[name].key
		if other, ok := names[key]; ok && err == nil {
			err = fmt.Errorf("it is in the same directory as cache %s: %s", other, key)
		}
		if err != nil {
			// No Stop follows a Start that failed.
			return errors.Join(fmt.Errorf("cache %s: %w", name, err), a.Stop())
		}
		names[key] = name
	}
	if err := a.startJobs(); err != nil {
		return errors.Join(err, a.Stop())
	}
	return nil
}

// Stop gives the caches and jobs up. Those that the next configuration has too, or
// that are in use, go on. It may be called more than once.
func (a *App) Stop() error {
	a.stopJobs()
	errs := make([]error, 0, len(a.Caches))
	for _, c := range a.Caches {
		if c != nil { // provisioning may have failed before
			errs = append(errs, c.stop())
		}
	}
	return errors.Join(errs...)
}

// Cleanup stops the app where Caddy has not: it stops no app of a configuration that
// fails after all apps have started, as when its remote admin endpoint or its config
// loader fails. Else there is nothing left to do.
func (a *App) Cleanup() error { return a.Stop() }

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
