// Package job brings trees up to date and releases them, on a schedule: it has the jobs
// of a configuration, the engine that keeps running them across configurations, and the
// state and history of their runs. An [Observer] is told of events at once.
package job

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/gate"
	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
	"github.com/unifiedmirrors/mirror/caddymirror/syncer"
)

// Job brings a tree up to date and releases it: sync, then gates, then releases,
// each only if all before it went well.
type Job struct {
	// Every is how often the job runs, from the beginning of one run to that of the
	// next. If runs were missed while the server was down, one makes up for them. If a
	// snapshot has no release yet, the job runs at once. Without it and Cron the job
	// runs when it is told to.
	Every caddy.Duration `json:"every,omitempty"`

	// Cron is when the job runs, as cron(8) has it: minute, hour, day and
	// month, and day of the week; or `@daily` and the like. In the server's time zone,
	// or with `CRON_TZ=Europe/Berlin` in front in another. What is to run at certain
	// hours runs once on days when the clocks change, too.
	Cron string `json:"cron,omitempty"`

	// Jitter delays runs by up to so much, to spread jobs with equal times: each that
	// Cron says; with Every the first, from which the others follow; and those that are
	// made up for.
	Jitter caddy.Duration `json:"jitter,omitempty"`

	// Timeout is how long a run may take; then it is ended. A `vos release` is left
	// to finish. Default: 24h.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Grace is how long commands have between SIGTERM and SIGKILL, and how long a
	// server that ends waits for a `vos release`. Default: 2m.
	Grace caddy.Duration `json:"grace,omitempty"`

	// Directory is the tree that is brought up to date, an absolute path.
	Directory string `json:"directory,omitempty"`

	// Sync is how the tree is brought up to date.
	SyncRaw json.RawMessage `json:"sync,omitempty" caddy:"namespace=mirror.syncers inline_key=syncer"`

	// Gates are what must hold before a release.
	GatesRaw []json.RawMessage `json:"gates,omitempty" caddy:"namespace=mirror.gates inline_key=gate"`

	// Releases are how the tree becomes the new state, in order.
	ReleasesRaw []json.RawMessage `json:"releases,omitempty" caddy:"namespace=mirror.releasers inline_key=releaser"`

	// ReleaseWhen is when what a sync brings is released. A run that brings nothing releases
	// nothing. Default: at once.
	ReleaseWhen *ReleaseWhen `json:"release_when,omitempty"`

	// ReleaseAtLeast is how long after a release all steps are taken and the tree is
	// released as it is, though only bookkeeping has changed, as timestamps, or it waits
	// for ReleaseWhen. -1 is never. Default: 24h.
	ReleaseAtLeast caddy.Duration `json:"release_at_least,omitempty"`

	// RetryAfter is how long after a failure the job is tried again; twice as long
	// after each further one, up to RetryMax. Default: 1m, and 1h or, if that is more,
	// RetryAfter.
	RetryAfter caddy.Duration `json:"retry_after,omitempty"`
	RetryMax   caddy.Duration `json:"retry_max,omitempty"`

	// Lock is a file that is locked (flock) while the job runs, so that it and
	// scripts that lock the same file keep out of each other's way. If it is locked
	// already, the run is left out.
	Lock string `json:"lock,omitempty"`

	// Hold keeps the job from running by itself for as long as it is configured, as
	// `caddy mirror hold` does until `caddy mirror resume`. It says why.
	Hold string `json:"hold,omitempty"`

	// Exclusive has the job run on one host at a time, of those that share Caddy's
	// storage. If a host is ended in the middle of a run, what it has started may live
	// on: others run the job when that run has begun longer ago than Timeout and Grace,
	// or when they are told to take over.
	Exclusive bool `json:"exclusive,omitempty"`

	// Kerberos has commands run with tickets, by way of k5start.
	Kerberos *step.Kerberos `json:"kerberos,omitempty"`

	// Env is added to the environment of commands, which is PATH, HOME, USER, LOGNAME,
	// LANG, LC_ALL, TZ and TMPDIR of the server's own, MIRROR_JOB and MIRROR_RUN, and
	// nothing else. Commands are looked up in the PATH of the server.
	Env map[string]string `json:"env,omitempty"`

	// Timestamp is a file in the tree that gets the time before each release; not if
	// the syncer knows that it has changed nothing.
	Timestamp string `json:"timestamp,omitempty"`

	// Log says how much of the output of commands is kept.
	Log *Log `json:"log,omitempty"`

	name     string
	settings string // of the steps, as a hash
	log      *zap.Logger
	storage  certmagic.Storage
	observer Observer    // nil: nobody
	active   func() bool // whether that is in force; nil: it is
	schedule schedule
	syncer   syncer.Syncer
	gates    []namedGate
	releases []releaser.Releaser
}

// Log says how much of the output of commands is kept.
type Log struct {
	// Keep is the number of runs whose output is kept. More than 30 runs are
	// remembered only if the logs of more are kept. Default: 30.
	Keep int `json:"keep,omitempty"`

	// Size is how many bytes of one run are kept at most; of more, the end is kept.
	// Default: 16 MiB.
	Size int64 `json:"size,omitempty"`
}

type namedGate struct {
	gate.Gate
	name string
}

const (
	defaultJobTimeout = 24 * time.Hour
	defaultGrace      = 2 * time.Minute
	defaultRetryAfter = time.Minute
	defaultRetryMax   = time.Hour
	defaultLogKeep    = 30
	defaultLogSize    = 16 << 20

	defaultReleaseAtLeast = 24 * time.Hour
)

// Provision sets the job up. It runs nothing.
func (j *Job) Provision(ctx caddy.Context, name string, log *zap.Logger) error {
	j.name, j.log, j.storage = name, log.With(zap.String("job", name)), ctx.Storage()
	j.setDefaults()
	err := j.expand()
	if err != nil {
		return err
	}
	if err := j.check(); err != nil {
		return err
	}
	if j.schedule, err = newSchedule(j); err != nil {
		return err
	}
	j.settings = j.hash()
	if err := j.loadModules(ctx); err != nil {
		return err
	}
	return j.steps(func(s any) error {
		if p, ok := s.(step.Placer); ok {
			return p.Place(j.Directory)
		}
		return nil
	})
}

// hash tells settings of steps from others: what they have let pass may not be what these
// do.
func (j *Job) hash() string {
	h := sha256.New()
	for _, part := range slices.Concat([]json.RawMessage{[]byte(j.Directory), []byte(j.Timestamp), j.SyncRaw}, j.GatesRaw, []json.RawMessage{nil}, j.ReleasesRaw) {
		fmt.Fprintf(h, "%d:%s", len(part), part)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// steps calls f with each step of the job, until it returns an error, and adds what
// kind of step that was.
func (j *Job) steps(f func(s any) error) error {
	try := func(kind string, s any) error {
		if err := f(s); err != nil {
			if mod, ok := s.(caddy.Module); ok {
				kind += " " + mod.CaddyModule().ID.Name()
			}
			return fmt.Errorf("%s: %w", kind, err)
		}
		return nil
	}
	if j.syncer != nil {
		if err := try("sync", j.syncer); err != nil {
			return err
		}
	}
	for _, g := range j.gates {
		if err := try("gate", g.Gate); err != nil {
			return err
		}
	}
	for _, r := range j.releases {
		if err := try("release", r); err != nil {
			return err
		}
	}
	return nil
}

func (j *Job) setDefaults() {
	def := func(d *caddy.Duration, v time.Duration) {
		if *d == 0 {
			*d = caddy.Duration(v)
		}
	}
	def(&j.Timeout, defaultJobTimeout)
	def(&j.Grace, defaultGrace)
	def(&j.ReleaseAtLeast, defaultReleaseAtLeast)
	def(&j.RetryAfter, defaultRetryAfter)
	def(&j.RetryMax, max(defaultRetryMax, time.Duration(j.RetryAfter)))
	if j.Log == nil {
		j.Log = new(Log)
	}
	if j.Log.Keep == 0 {
		j.Log.Keep = defaultLogKeep
	}
	if j.Log.Size == 0 {
		j.Log.Size = defaultLogSize
	}
}

// expand replaces placeholders, as `{system.wd}` and `{env.NAME}`, in paths.
func (j *Job) expand() error {
	paths := []*string{&j.Directory, &j.Lock}
	if j.Kerberos != nil {
		paths = append(paths, &j.Kerberos.Keytab, &j.Kerberos.Principal)
	}
	for _, path := range paths {
		text, err := caddy.NewReplacer().ReplaceOrErr(*path, true, true)
		if err != nil {
			return err
		}
		*path = text
	}
	for _, path := range paths[:2] {
		if *path != "" {
			*path = filepath.Clean(*path)
		}
	}
	return j.ReleaseWhen.expand()
}

// isAbs reports whether a path is absolute. What begins with a placeholder may be.
func isAbs(path string) bool { return filepath.IsAbs(path) || strings.HasPrefix(path, "{") }

func (j *Job) check() error {
	switch {
	case j.Timeout < 0 || j.Grace < 0 || j.RetryAfter < 0 || j.RetryMax < 0:
		return errors.New("a duration is negative")
	case j.RetryMax < j.RetryAfter:
		return errors.New("the longest time between retries is shorter than the first")
	case j.Log.Keep < 0 || j.Log.Size < 0:
		return errors.New("log: a number is negative")
	case j.Directory != "" && !isAbs(j.Directory):
		return fmt.Errorf("directory %q is not an absolute path", j.Directory)
	case j.Lock != "" && !isAbs(j.Lock):
		return fmt.Errorf("lock %q is not an absolute path", j.Lock)
	case j.Timestamp != "" && (!fs.ValidPath(j.Timestamp) || j.Timestamp == "."):
		return fmt.Errorf("timestamp %q is not a path relative to the directory", j.Timestamp)
	case j.Timestamp != "" && j.Directory == "":
		return errors.New("a timestamp needs a directory")
	case j.SyncRaw == nil && j.ReleasesRaw == nil:
		return errors.New("there is nothing to do: neither sync nor release")
	case j.ReleaseWhen != nil && (j.SyncRaw == nil || j.ReleasesRaw == nil):
		return errors.New("release_when needs a sync, and a release")
	case j.ReleaseAtLeast < 0 && j.ReleaseAtLeast != -1:
		return errors.New("release_at_least is negative, and not -1")
	}
	if err := j.ReleaseWhen.check(); err != nil {
		return err
	}
	if err := j.Kerberos.Check(); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(j.Env)) {
		if key == "" || strings.ContainsAny(key, "=\x00") {
			return fmt.Errorf("env: %q is not the name of a variable", key)
		}
	}
	return nil
}

func (j *Job) loadModules(ctx caddy.Context) error {
	if j.SyncRaw != nil {
		mod, err := ctx.LoadModule(j, "SyncRaw")
		if err != nil {
			return fmt.Errorf("sync: %w", err)
		}
		j.syncer = mod.(syncer.Syncer)
	}
	if j.GatesRaw != nil {
		mods, err := ctx.LoadModule(j, "GatesRaw")
		if err != nil {
			return fmt.Errorf("gate: %w", err)
		}
		for _, mod := range mods.([]any) {
			j.gates = append(j.gates, namedGate{mod.(gate.Gate), mod.(caddy.Module).CaddyModule().ID.Name()})
		}
	}
	if j.ReleasesRaw != nil {
		mods, err := ctx.LoadModule(j, "ReleasesRaw")
		if err != nil {
			return fmt.Errorf("release: %w", err)
		}
		for _, mod := range mods.([]any) {
			j.releases = append(j.releases, mod.(releaser.Releaser))
		}
	}
	return nil
}

// Ready makes sure that what the operator has to provide is there: programs,
// keytabs, keyrings. Else it would be missed in the middle of the night.
func (j *Job) Ready() error {
	err := j.steps(func(s any) error {
		if r, ok := s.(step.Readier); ok {
			return r.Ready()
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := j.ReleaseWhen.ready(); err != nil {
		return err
	}
	return j.Kerberos.Ready()
}

// CheckTargets makes sure that nothing is released twice.
func CheckTargets(jobs map[string]*Job) error {
	owner := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		for _, r := range jobs[name].releases {
			for _, target := range r.Targets() {
				switch other, ok := owner[target]; {
				case ok && other == name:
					return fmt.Errorf("job %s releases %s twice", name, target)
				case ok:
					return fmt.Errorf("jobs %s and %s both release %s", other, name, target)
				}
				owner[target] = name
			}
		}
	}
	return nil
}
