package mirror

import (
	"path/filepath"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
)

// stateDir is where jobs keep what they have to know again.
func stateDir() string { return filepath.Join(caddy.AppDataDir(), "mirror", "jobs") }

// startJobs hands the jobs to the engine, which an earlier configuration may have
// started.
func (a *App) startJobs() error {
	e, err := job.Start(stateDir(), a.Jobs, observer{a.Statsd}, a.active)
	if e != nil {
		a.engine.Store(e)
	}
	return err
}

// active reports whether the app's configuration is in force. It is not yet while
// apps start, and may never be if one of them cannot.
func (a *App) active() bool {
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return false
	}
	app, err := ctx.AppIfConfigured("mirror")
	return err == nil && app == a
}

// stopJobs takes the jobs back. What is running goes on, unless the process ends.
func (a *App) stopJobs() {
	if e := a.engine.Load(); e != nil {
		e.Leave(a.Jobs)
	}
}

// jobs is the state of all jobs.
func (a *App) jobs() []job.Status {
	list := []job.Status{}
	e := a.engine.Load()
	if e == nil {
		return list
	}
	for _, r := range e.Runners() {
		list = append(list, r.Status(time.Now()))
	}
	return list
}

// logger is that of the config in force: caches outlive configs.
func logger() *zap.Logger { return caddy.Log().Named("mirror") }
