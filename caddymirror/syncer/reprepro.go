package syncer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/directive"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(Reprepro{})
}

// Reprepro has reprepro update its repository from upstream, and checks it:
//
//  1. `update`, which keeps the files of packages that are no longer in the indexes.
//  2. `deleteifunreferenced`: such files are deleted by the next run that finds them
//     unreferenced, too. Clients that have fetched an older index find them for that
//     long.
//  3. `checkpool fast` and `check`: all files are there.
//
// It has changed something if an index has changed, by the Release files below `dists`,
// whose dates do not count, or a file was deleted.
//
// What fails ends the run. A reprepro that is killed may leave its database damaged:
// give the job a long timeout and a long grace.
//
// Where the repository, its database and its lists are is told by `conf/options`, or
// here, and nowhere else: REPREPRO_BASE_DIR in the environment of the job is not heeded.
// What neither tells is in the directory of the job.
//
// The directory of the job is that of `pool` and `dists`. Configuration, database and
// lists must not lie in it, though that is where reprepro has them by default: it
// writes to database and lists in every run, so there would be something to release
// even without news, and a database in use would be published. Have `outdir` be the
// directory of the job, and `basedir` another one, with `db` and `lists` in it. That
// may be in AFS, too, but in another volume.
type Reprepro struct {
	// The directory of `distributions`, `updates` and `options`. Required.
	ConfDir string `json:"confdir,omitempty"`

	// The codenames to update. Default: all.
	Update []string `json:"update,omitempty"`

	// The directory to which others are relative, the `basedir` of reprepro. Default:
	// what `options` says.
	BaseDir string `json:"basedir,omitempty"`

	// The directory of `pool` and `dists`, the `outdir` of reprepro. Default: what
	// `options` says.
	OutDir string `json:"outdir,omitempty"`

	// The directory of the database, the `dbdir` of reprepro. Default: what `options`
	// says.
	DBDir string `json:"dbdir,omitempty"`

	// The directory of the indexes that are fetched, the `listdir` of reprepro. Default:
	// what `options` says.
	ListDir string `json:"listdir,omitempty"`

	// Do not check that all files are there. It reads the directories of the whole
	// pool. Default: check.
	NoCheck bool `json:"no_check,omitempty"`

	// Further options for all commands of reprepro. Those that tell directories which are
	// told above are refused.
	Args []string `json:"args,omitempty"`

	// The program. Default: `reprepro`.
	Command string `json:"command,omitempty"`
}

// unreferencedFile, in the state directory, lists the files that the last run found
// unreferenced, one a line.
const unreferencedFile = "reprepro-unreferenced"

// maxArgs is how many bytes of names one command gets.
const maxArgs = 64 << 10

// CaddyModule returns the Caddy module information.
func (Reprepro) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.syncers.reprepro", New: func() caddy.Module { return new(Reprepro) }}
}

// Provision sets the defaults. It does not look for the directories.
func (p *Reprepro) Provision(caddy.Context) error {
	if p.Command == "" {
		p.Command = "reprepro"
	}
	return directive.Expand("reprepro", &p.ConfDir, &p.BaseDir, &p.OutDir, &p.DBDir, &p.ListDir)
}

// Validate checks the settings.
func (p *Reprepro) Validate() error {
	if p.ConfDir == "" {
		return errors.New("no confdir")
	}
	for _, name := range p.Update {
		if name == "" || name[0] == '-' {
			return fmt.Errorf("update: %q is not a codename", name)
		}
	}
	return p.checkArgs()
}

// checkArgs refuses options that have an option here: what they say would not be known.
func (p *Reprepro) checkArgs() error {
	for _, arg := range p.Args {
		if ours := isOurs(arg); ours != "" {
			return fmt.Errorf("args: %s: use %s", arg, ours)
		}
	}
	return nil
}

// isOurs returns what has to be used instead of an option of reprepro, if there is
// something. As getopt does, it takes what a name begins with for the name, and several
// letters after one dash.
func isOurs(arg string) string {
	name, long := strings.CutPrefix(arg, "--")
	if !long {
		// Letters but these have an argument, which may go on at once.
		if letters, ok := strings.CutPrefix(arg, "-"); ok && strings.HasPrefix(strings.TrimLeft(letters, "fVvsh"), "b") {
			return "the option basedir"
		}
		return ""
	}
	name, _, _ = strings.Cut(name, "=")
	if name == "" {
		return ""
	}
	for _, option := range []string{"basedir", "outdir", "dbdir", "listdir"} {
		if strings.HasPrefix(option, name) {
			return "the option " + option
		}
	}
	if strings.HasPrefix("confdir", name) {
		return "the argument of reprepro"
	}
	return ""
}

// UnmarshalCaddyfile sets up the syncer:
//
//	reprepro <confdir> {
//		update  <codename...>
//		basedir <directory>
//		outdir  <directory>
//		dbdir   <directory>
//		listdir <directory>
//		check   on|off
//		args    <option...>
//		command <program>
//	}
func (p *Reprepro) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if err := directive.One(d, &p.ConfDir); err != nil {
		return err
	}
	repeats := func(option string) bool { return option == "update" || option == "args" }
	return directive.Block(d, repeats, func(option string) error {
		switch option {
		case "update":
			return directive.Some(d, &p.Update)
		case "basedir":
			return directive.One(d, &p.BaseDir)
		case "outdir":
			return directive.One(d, &p.OutDir)
		case "dbdir":
			return directive.One(d, &p.DBDir)
		case "listdir":
			return directive.One(d, &p.ListDir)
		case "check":
			return directive.OnOff(d, &p.NoCheck)
		case "args":
			if err := directive.Some(d, &p.Args); err != nil {
				return err
			}
			if err := p.checkArgs(); err != nil {
				return d.WrapErr(err)
			}
			return nil
		case "command":
			return directive.One(d, &p.Command)
		}
		return d.Errf("unrecognized option '%s'", option)
	})
}

// Sync updates the repository.
func (p *Reprepro) Sync(ctx context.Context, r *step.Run) error {
	l, err := p.layout(r.Dir)
	if err != nil {
		return err
	}
	if err := l.check(r.Dir); err != nil {
		return err
	}
	before, err := l.indexes()
	if err != nil {
		return fmt.Errorf("reading the indexes: %w", err)
	}
	a := reprepro{p, l, r}
	err = a.command(ctx, "update", nil, append([]string{"update"}, p.Update...)...)
	if err != nil {
		return err
	}
	r.Upstream = l.upstream()
	deleted, err := a.deletions(ctx)
	now, e := l.indexes()
	if err = errors.Join(err, e); err != nil {
		return err
	}
	r.Changed = new(before.changed(now, r.Changes.Add) || deleted)
	if p.NoCheck {
		return nil
	}
	if err := a.command(ctx, "checks", nil, "checkpool", "fast"); err != nil {
		return err
	}
	return a.command(ctx, "checks", nil, "check")
}

// releaseDate is RFC 1123, but that some, as aptly, have one digit for the first days of a
// month.
const releaseDate = "Mon, 2 Jan 2006 15:04:05 MST"

// maxRelease is how large a Release file that reprepro has fetched may be.
const maxRelease = 64 << 20

// upstream is when the newest of the repositories that the tree is made from was made,
// by the lists that reprepro has fetched. It is zero if that is not known: those of
// the tree itself are of when reprepro wrote them. A date in the future is none.
func (l *layout) upstream() (newest time.Time) {
	entries, err := os.ReadDir(l.lists)
	if err != nil {
		return newest
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), "Release") {
			continue
		}
		text, err := step.ReadFile(filepath.Join(l.lists, e.Name()), maxRelease)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if date, ok := strings.CutPrefix(line, "Date: "); ok {
				if t, err := time.Parse(releaseDate, strings.TrimSpace(date)); err == nil && t.After(newest) && !t.After(time.Now()) {
					newest = t
				}
				break
			}
		}
	}
	return newest
}

// reprepro is one run of it.
type reprepro struct {
	*Reprepro
	*layout
	*step.Run
}

// command runs a command of reprepro.
func (a *reprepro) command(ctx context.Context, stage string, line func(string), command ...string) error {
	// It has what it has where that was checked, whatever else may tell it.
	args := slices.Concat([]string{
		"--confdir", a.conf, "--basedir", a.base, "--outdir", a.out, "--dbdir", a.db, "--listdir", a.lists,
		"--keepunreferencedfiles",
	}, a.Args, command)
	locked, reason, last := "", "", ""
	a.Report(step.Progress{Stage: stage, Done: -1, Detail: command[0]})
	_, err := a.Run.Command(ctx, step.Command{
		Name: a.Reprepro.Command,
		Args: args,
		Env:  []string{"LC_ALL=C"},
		Line: func(text string) {
			if rest, ok := strings.CutPrefix(text, "The lock file "); ok {
				locked, _, _ = strings.Cut(rest, " already exists")
			}
			if reason == "" && (strings.HasPrefix(text, "Error") || strings.HasPrefix(text, "Missing file")) {
				reason = text
			}
			if text != "There have been errors!" {
				last = text
			}
			if line != nil {
				line(text)
			}
			a.Report(step.Progress{Stage: stage, Done: -1, Detail: text})
		},
	})
	switch {
	case err == nil:
		return nil
	case locked != "" && ctx.Err() == nil:
		return fmt.Errorf("%s: another reprepro has the database; if there is none, it was killed: remove %s: %w", command[0], locked, err)
	case ctx.Err() != nil:
		return fmt.Errorf("%s: %w", command[0], err)
	}
	reason = cmp.Or(reason, last)
	if strings.Contains(err.Error(), reason) {
		return fmt.Errorf("%s: %w", command[0], err)
	}
	return fmt.Errorf("%s: %s: %w", command[0], reason, err)
}

// deletions deletes the files that are unreferenced now and were when the last run
// ended, and notes the others for the next.
func (a *reprepro) deletions(ctx context.Context) (deleted bool, err error) {
	head := a.head()
	data, err := loadState(a.Run, unreferencedFile, head)
	if err != nil {
		return false, err
	}
	known := map[string]bool{}
	for name := range strings.Lines(string(data)) {
		known[strings.TrimSuffix(name, "\n")] = true
	}
	var due, next []string
	err = a.command(ctx, "deletions", func(name string) {
		switch {
		// Else it is something that reprepro has to say.
		case !strings.HasPrefix(name, "pool/") || strings.ContainsAny(name, " \t"):
		case known[name]:
			due = append(due, name)
		default:
			next = append(next, name)
		}
	}, "dumpunreferenced")
	if err != nil {
		return false, err
	}
	for len(due) > 0 {
		n, size := 0, 0
		for n < len(due) && size < maxArgs {
			size += len(due[n]) + 1
			n++
		}
		if err := a.command(ctx, "deletions", nil, append([]string{"deleteifunreferenced"}, due[:n]...)...); err != nil {
			return deleted, err
		}
		for _, name := range due[:n] {
			a.Changes.Add(name)
		}
		deleted, due = true, due[n:]
	}
	slices.Sort(next)
	return deleted, saveState(a.Run, unreferencedFile, []byte(strings.Join(append([]string{head}, next...), "\n")+"\n"))
}

// head names what the list is of: other repositories have other lists.
func (p *Reprepro) head() string {
	var b strings.Builder
	b.WriteString("unreferenced in")
	for _, dir := range []string{p.ConfDir, p.BaseDir, p.OutDir, p.DBDir} {
		b.WriteString(" " + strconv.Quote(dir))
	}
	return b.String()
}

// Interface guards
var (
	_ Syncer                = (*Reprepro)(nil)
	_ caddy.Provisioner     = (*Reprepro)(nil)
	_ caddy.Validator       = (*Reprepro)(nil)
	_ caddyfile.Unmarshaler = (*Reprepro)(nil)
)
