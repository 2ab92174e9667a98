// Package wheels is the syncer mirror.syncers.wheels: it builds wheels of what an index has
// no wheels of, for the Pythons of this host.
package wheels

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/url"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/dustin/go-humanize"

	"github.com/unifiedmirrors/mirror/caddymirror/directive"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/constraints"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(Wheels{})
}

// Wheels builds wheels of the packages that files of constraints name, such as
// OpenStack's upper-constraints.txt, and puts them into a directory for this platform:
// `<distribution>-<version>-<architecture>/n/name/name-1.0-cp311-cp311-linux_x86_64.whl`.
//
// Packages are left out if the index has a wheel that this host's Python can use, or if
// they were built before: a wheel is never built again and never replaced. A wheel that
// all Pythons can use is built once.
//
// Each package is built by `pip wheel --no-deps` in a virtual environment of its own,
// within bounds on time, memory and processes. Where the kernel has namespaces and
// Landlock, a build reaches nothing but the index and the hosts of its files, writes to no
// directory but its own, and leaves no process behind.
//
// If a package cannot be built, its log is kept and the others are built; above
// max_failures the run fails. The package is tried again after retry_after, then after
// twice that, and so on up to 30 days; a new version is tried at once. A line that cannot
// be read counts as a package that cannot be built. If the index does not answer, or the
// disk is full, no package is to blame: the run fails and remembers nothing.
type Wheels struct {
	// Files and URLs of constraints, of pip's format. If several name a package, as
	// those of several branches do, all their versions are built. Required.
	Constraints []string `json:"constraints,omitempty"`

	// The Pythons to build for: names as `python3.11`, or paths. Those that are not in
	// PATH are looked for by `uv python find`, if there is uv. Each needs `venv` with pip.
	// Default: `python3`.
	Pythons []string `json:"pythons,omitempty"`

	// The directory, in the job's directory, that the platform's directory is in. Default: the
	// job's directory itself.
	Output string `json:"output,omitempty"`

	// The name of the platform's directory. Default: `<ID>-<VERSION>-<architecture>`, by
	// /etc/os-release; the version is major.minor for Ubuntu, and major for most others.
	Platform string `json:"platform,omitempty"`

	// The index that sources come from, by the URL of its simple pages. It must not be
	// where these wheels are served: a run fails that finds wheels there that it has built.
	// Default: `https://pypi.org/simple/`.
	Index string `json:"index,omitempty"`

	// Keep wheels that the index has, too. Default: only those that it does not have.
	KeepAll bool `json:"keep_all,omitempty"`

	// Names of packages to leave out; they may have `*` in them.
	Deny []string `json:"deny,omitempty"`

	// How many builds may run at a time. Default: the number of processors.
	Parallel int `json:"parallel,omitempty"`

	// How long one build may take. Default: `1h`.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How much memory the processes of one build may use together. Default: `4GiB`.
	Memory string `json:"memory,omitempty"`

	// How much one build may have on disk. Default: `10GiB`.
	Disk string `json:"disk,omitempty"`

	// How many processes one build may have at a time. Default: 512.
	Processes int `json:"processes,omitempty"`

	// How many packages may fail: a number, or a percentage of all that are to be built or
	// were. If it is more, the run fails. Default: `10%`.
	MaxFailures string `json:"max_failures,omitempty"`

	// After how long a package that could not be built is tried again. Default: `24h`.
	RetryAfter caddy.Duration `json:"retry_after,omitempty"`

	// The user that builds run as, if Caddy is root. It should be for builds alone, and own
	// no files. Default: Caddy's own.
	User string `json:"user,omitempty"`

	// `on` refuses to build where the kernel cannot confine a build to its directory and
	// to the index, `auto` builds there all the same, and `off` confines no build.
	// Default: `auto`.
	Sandbox string `json:"sandbox,omitempty"`

	// Hosts, with ports or not, that builds may reach besides the index, and the hosts that
	// its pages and the constraints name.
	AllowHosts []string `json:"allow_hosts,omitempty"`

	// Further variables for builds, such as CFLAGS. They get nothing of Caddy's or the job's.
	Env map[string]string `json:"env,omitempty"`

	// A directory on a local disk for builds under way; the user that builds run as must
	// be able to enter it. Default: the directory for temporary files.
	WorkDir string `json:"work_dir,omitempty"`

	index    *url.URL
	memory   int64
	disk     int64
	budget   budget
	uid, gid *int
}

// CaddyModule returns the Caddy module information.
func (Wheels) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.syncers.wheels", New: func() caddy.Module { return new(Wheels) }}
}

// Provision sets the defaults. It touches neither disk nor network.
func (w *Wheels) Provision(caddy.Context) error {
	for what, values := range map[string][]*string{
		"constraints": pointers(w.Constraints), "python": pointers(w.Pythons), "allow_hosts": pointers(w.AllowHosts),
		"index": {&w.Index}, "output": {&w.Output}, "platform": {&w.Platform}, "user": {&w.User}, "work_dir": {&w.WorkDir},
	} {
		if err := directive.Expand(what, values...); err != nil {
			return err
		}
	}
	if len(w.Pythons) == 0 {
		w.Pythons = []string{"python3"}
	}
	for to, standard := range map[*string]string{
		&w.Index: "https://pypi.org/simple/", &w.Memory: "4GiB", &w.Disk: "10GiB", &w.MaxFailures: "10%", &w.Sandbox: "auto",
	} {
		if *to == "" {
			*to = standard
		}
	}
	for to, standard := range map[*caddy.Duration]time.Duration{&w.Timeout: time.Hour, &w.RetryAfter: 24 * time.Hour} {
		if *to == 0 {
			*to = caddy.Duration(standard)
		}
	}
	if w.Parallel == 0 {
		w.Parallel = runtime.NumCPU()
	}
	if w.Processes == 0 {
		w.Processes = 512
	}
	return w.Validate()
}

func pointers(texts []string) (all []*string) {
	for i := range texts {
		all = append(all, &texts[i])
	}
	return all
}

// Validate checks the settings.
func (w *Wheels) Validate() (err error) {
	switch {
	case len(w.Constraints) == 0:
		return errors.New("no constraints")
	case w.Output != "" && !fs.ValidPath(filepath.ToSlash(w.Output)):
		return fmt.Errorf("output: %q is not a directory in that of the job", w.Output)
	case w.Platform != "" && (!fs.ValidPath(w.Platform) || strings.Contains(w.Platform, "/")):
		return fmt.Errorf("platform: %q is not the name of a directory", w.Platform)
	case w.WorkDir != "" && !filepath.IsAbs(w.WorkDir):
		return errors.New("work_dir must be an absolute path")
	case w.Parallel < 1:
		return errors.New("parallel must be at least 1")
	case w.Processes < 16:
		return errors.New("processes must be at least 16: pip and a compiler need some")
	case w.Timeout < caddy.Duration(time.Second) || w.RetryAfter < 0:
		return errors.New("timeout must be at least one second, and retry_after not negative")
	case w.Sandbox != "on" && w.Sandbox != "auto" && w.Sandbox != "off":
		return fmt.Errorf("sandbox: %q is none of on, auto and off", w.Sandbox)
	}
	for _, name := range w.Constraints {
		if !constraints.IsURL(name) && !filepath.IsAbs(name) {
			return fmt.Errorf("constraints: %q is neither a URL nor an absolute path", name)
		}
	}
	for _, p := range w.Pythons {
		if p == "" || p[0] == '-' || strings.Contains(p, "/") && !filepath.IsAbs(p) {
			return fmt.Errorf("python: %q is neither the name of a program nor an absolute path", p)
		}
	}
	for _, d := range w.Deny {
		if _, err := filepath.Match(d, ""); err != nil || d == "" {
			return fmt.Errorf("deny: %q is not a pattern", d)
		}
	}
	if w.index, err = parseIndex(w.Index); err != nil {
		return err
	}
	if w.memory, err = parseSize(w.Memory); err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	if w.disk, err = parseSize(w.Disk); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	w.budget, err = parseBudget(w.MaxFailures)
	return err
}

func parseIndex(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("index: %q is not the URL of an index, as https://pypi.org/simple/", text)
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	return u, nil
}

// leastSize is what no build can do without, of memory and of disk.
const leastSize = 64 << 20

func parseSize(text string) (int64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil || n < leastSize || n > math.MaxInt64 {
		return 0, fmt.Errorf("%q is not a size of at least 64MiB", text)
	}
	return int64(n), nil
}

// budget is how many packages may fail.
type budget struct {
	text    string
	number  int     // if percent is negative
	percent float64 // of all
}

func parseBudget(text string) (budget, error) {
	b := budget{text: text, percent: -1}
	if number, ok := strings.CutSuffix(text, "%"); ok {
		p, err := strconv.ParseFloat(number, 64)
		if err != nil || !(p >= 0 && p <= 100) {
			return b, fmt.Errorf("max_failures: %q is neither a number nor a percentage", text)
		}
		b.percent = p
		return b, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return b, fmt.Errorf("max_failures: %q is neither a number nor a percentage", text)
	}
	b.number = n
	return b, nil
}

// allows reports whether so many of all may have failed.
func (b budget) allows(failed, all int) bool {
	if b.percent >= 0 {
		return float64(failed) <= b.percent/100*float64(all)
	}
	return failed <= b.number
}

// denied reports whether a package is to be left out.
func (w *Wheels) denied(name string) bool {
	for _, d := range w.Deny {
		pattern := strings.ToLower(strings.NewReplacer("_", "-", ".", "-").Replace(d))
		if ok, _ := filepath.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

// Ready implements [step.Readier].
func (w *Wheels) Ready() error {
	if w.User != "" {
		if _, _, err := lookUser(w.User); err != nil {
			return err
		}
	}
	for _, p := range w.Pythons {
		if err := step.Program(p); err != nil && step.Program("uv") != nil {
			return err
		}
	}
	return nil
}

// Place implements [step.Placer].
func (w *Wheels) Place(dir string) error { return step.NeedDirectory(dir) }

func lookUser(name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return 0, 0, fmt.Errorf("user: %w", err)
		}
	}
	uid, err = strconv.Atoi(u.Uid)
	if err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	return uid, gid, err
}

// Sync builds what there is to build.
func (w *Wheels) Sync(ctx context.Context, r *step.Run) error {
	f, err := w.open(ctx, r)
	if f != nil {
		defer f.close()
	}
	if err != nil {
		return err
	}
	err = f.run(ctx)
	r.Changed = new(f.tally.get(built) > 0)
	r.Bytes = f.bytes.Load()
	if err != nil {
		return err
	}
	return f.verdict()
}

// compatible reports whether one of a wheel's tags is among those of a Python.
func compatible(n wheel.Name, tags map[string]bool) bool {
	for _, t := range n.Tags() {
		if tags[t.String()] {
			return true
		}
	}
	return false
}

// Interface guards
var (
	_ caddy.Provisioner = (*Wheels)(nil)
	_ caddy.Validator   = (*Wheels)(nil)
	_ step.Readier      = (*Wheels)(nil)
	_ step.Placer       = (*Wheels)(nil)
)
