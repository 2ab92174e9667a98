package syncer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/directive"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(Bandersnatch{})
}

// Bandersnatch has bandersnatch mirror PyPI, and reads what that says of its success.
//
// The exit status of `bandersnatch mirror` is 0 even if packages failed. What tells
// are two files in the directory of its configuration: `status`, the serial of PyPI
// that the mirror has come to, and `todo`, the packages that are left to do, which is
// there only as long as there are any. A run after which more are left than may be has
// failed.
//
// Each run writes files though PyPI is quiet: `status`, `generation`, `.lock` and
// `web/last-modified`. The tree has changed if the serial has, or packages were left to
// do; not if bandersnatch says that none of the changes is about a package that it
// mirrors. What has changed are the packages whose index pages it says that it stores.
// The date in `web/last-modified` is up to when the tree has all of PyPI.
type Bandersnatch struct {
	// The configuration file of bandersnatch. It must be there: bandersnatch would
	// write an example. If it is relative, it is so to the directory of the job. Required.
	Config string `json:"config,omitempty"`

	// The `directory` of the configuration. Default: what the file says.
	Directory string `json:"directory,omitempty"`

	// How many packages may be left for the next run. The mirror is coherent without
	// them, since bandersnatch writes the index of a package after its files. Default:
	// none.
	MaxTodo int `json:"max_todo,omitempty"`

	// The program. Default: `bandersnatch`.
	Command string `json:"command,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Bandersnatch) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.syncers.bandersnatch", New: func() caddy.Module { return new(Bandersnatch) }}
}

// Provision sets the defaults. It does not read the configuration file.
func (b *Bandersnatch) Provision(caddy.Context) error {
	if b.Command == "" {
		b.Command = "bandersnatch"
	}
	return directive.Expand("bandersnatch", &b.Config, &b.Directory)
}

// Validate checks the settings.
func (b *Bandersnatch) Validate() error {
	if b.Config == "" {
		return errors.New("no configuration file")
	}
	if b.MaxTodo < 0 {
		return errors.New("max_todo must not be negative")
	}
	return nil
}

// UnmarshalCaddyfile sets up the syncer:
//
//	bandersnatch <config> {
//		directory <directory>
//		max_todo  <packages>
//		command   <program>
//	}
func (b *Bandersnatch) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if err := directive.One(d, &b.Config); err != nil {
		return err
	}
	return directive.Block(d, directive.Never, func(option string) error {
		switch option {
		case "directory":
			return directive.One(d, &b.Directory)
		case "command":
			return directive.One(d, &b.Command)
		case "max_todo":
			var text string
			if err := directive.One(d, &text); err != nil {
				return err
			}
			n, err := strconv.Atoi(text)
			if err != nil || n < 0 {
				return d.Errf("'%s' is not a number of packages", text)
			}
			b.MaxTodo = n
			return nil
		}
		return d.Errf("unrecognized option '%s'", option)
	})
}

// Sync mirrors PyPI.
func (b *Bandersnatch) Sync(ctx context.Context, r *step.Run) error {
	dir, err := b.directory(r.Dir)
	if err != nil {
		return err
	}
	before, err := readStatus(dir)
	if err != nil {
		return err
	}
	r.Bookkeeping = keptBy(r.Dir, dir)
	l := bandersnatchLog{all: -1, stored: r.Changes.Add}
	_, err = r.Command(ctx, step.Command{
		Name: b.Command,
		Args: []string{"--config", b.Config, "mirror"},
		Line: func(line string) { r.Report(l.line(line)) },
	})
	after, e := readStatus(dir)
	if e == nil {
		if after.serial != "" {
			note(r, "serial", after.serial)
		}
		note(r, "todo", strconv.Itoa(after.todo))
		r.Log.Info("bandersnatch", zap.String("directory", dir),
			zap.String("serial", after.serial), zap.String("before", before.serial),
			zap.String("wanted", after.target), zap.Int("todo", after.todo))
	}
	switch {
	case e != nil:
	case err == nil:
		// The serial moves with packages that are not mirrored, too. It is in the list of all
		// projects.
		r.Changed = new(before.todo > 0 || after != before && l.all != 0 || r.Changes.Count() > 0)
	case after == before && l.told && l.all < 0:
		r.Changed = new(false) // it has come to no package
	}
	switch {
	case err != nil && l.failure != "" && ctx.Err() == nil && !strings.Contains(err.Error(), l.failure):
		return fmt.Errorf("%w (%s)", err, l.failure)
	case err != nil:
		return err
	case e != nil:
		return e
	case after.serial == "":
		return fmt.Errorf("bandersnatch says that all is well, but there is no %s", filepath.Join(dir, "status"))
	case after.todo > b.MaxTodo, after.todo == 0 && after.serial != after.target:
		return fmt.Errorf("bandersnatch left %d packages to do%s: the mirror is at serial %s, PyPI at %s%s",
			after.todo, after.among(), after.serial, after.target, l.last())
	}
	r.Serial, _ = strconv.ParseInt(after.serial, 10, 64)
	if r.Upstream, err = readLastModified(dir); err != nil {
		r.Log.Warn("it is not known up to when the tree has all of PyPI", zap.Error(err))
	}
	if !*r.Changed {
		r.Bookkeeping = keptBy(r.Dir, dir, pypi.RootPages...)
	}
	return nil
}

// keptBy reports whether files of the tree dir are bookkeeping of a bandersnatch that has
// its mirror in another directory, which may be the same; these files of it are, too.
func keptBy(dir, mirror string, too ...string) func(name string) bool {
	return func(name string) bool {
		name, err := filepath.Rel(mirror, filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			return false
		}
		name = filepath.ToSlash(name)
		return pypi.Bookkeeping(name) || slices.Contains(too, name)
	}
}

// readLastModified reads up to when the mirror has all of PyPI. A date in the future is
// none, and an error.
func readLastModified(dir string) (time.Time, error) {
	name := filepath.Join(dir, "web", pypi.LastModified)
	text, err := step.ReadFile(name, step.MaxConfig)
	if err != nil {
		return time.Time{}, err
	}
	t, err := pypi.ParseLastModified(string(text))
	if err == nil && t.After(time.Now().Add(time.Minute)) {
		err = fmt.Errorf("%v is in the future", t)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

// directory is where bandersnatch keeps its mirror. Its configuration may be relative to
// the directory it runs in.
func (b *Bandersnatch) directory(dir string) (string, error) {
	text, err := step.ReadFile(absolute(dir, b.Config), step.MaxConfig)
	if err != nil {
		return "", err
	}
	if b.Directory != "" {
		return b.Directory, nil
	}
	section := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			section = line
			continue
		}
		i := strings.IndexAny(line, "=:")
		if section != "[mirror]" || i < 0 || strings.ToLower(strings.TrimSpace(line[:i])) != "directory" {
			continue
		}
		mirror := strings.TrimSpace(line[i+1:])
		if !filepath.IsAbs(mirror) || strings.ContainsAny(mirror, "%$") {
			return "", fmt.Errorf("%s: directory is %q: set the option directory to what that means", b.Config, mirror)
		}
		return mirror, nil
	}
	return "", fmt.Errorf("%s: no directory in the section [mirror]", b.Config)
}

// bandersnatchStatus is what the files of bandersnatch say.
type bandersnatchStatus struct {
	serial string // that the mirror is at; empty if it never was synced
	target string // that it wants to come to
	todo   int    // packages left
	first  string // of them
}

func (s bandersnatchStatus) among() string {
	if s.first == "" {
		return ""
	}
	return ", " + s.first + " among them"
}

func readStatus(dir string) (s bandersnatchStatus, err error) {
	data, err := step.ReadFile(filepath.Join(dir, "status"), step.MaxConfig)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, err
	}
	s.serial = strings.TrimSpace(string(data))
	s.target = s.serial
	data, err = step.ReadFile(filepath.Join(dir, "todo"), step.MaxState)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	// The serial, then a package and its serial a line.
	target, rest, _ := strings.Cut(string(data), "\n")
	s.target = strings.TrimSpace(target)
	for line := range strings.Lines(rest) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "" {
			continue
		}
		s.todo++
		if s.first == "" {
			s.first = name
		}
	}
	return s, nil
}

// bandersnatchLog follows what bandersnatch prints: "TIME LEVEL: TEXT (FILE:LINE)".
type bandersnatchLog struct {
	stored  func(project string)
	told    bool   // it has begun, and says so
	all     int    // packages; negative is not known
	done    int    // of these
	failure string // the last
}

var (
	packagesToSync = regexp.MustCompile(`\b([0-9]+) packages to sync`)
	storingPage    = regexp.MustCompile(`\bStoring index page(?:\(s\))?: (\S+)`)
)

func (l *bandersnatchLog) line(line string) step.Progress {
	if m := packagesToSync.FindStringSubmatch(line); m != nil {
		l.all, _ = strconv.Atoi(m[1])
	}
	if m := storingPage.FindStringSubmatch(line); m != nil {
		l.done++
		l.stored(pypi.Normalize(m[1]))
	}
	l.told = l.told || strings.Contains(line, "INFO: Syncing with ")
	if strings.Contains(line, "ERROR: ") || strings.Contains(line, "CRITICAL: ") {
		l.failure = line
	}
	p := step.Progress{Stage: "packages", Done: -1, Detail: line}
	if l.all > 0 {
		p.Done = min(float64(l.done)/float64(l.all), 1)
	}
	return p
}

func (l *bandersnatchLog) last() string {
	if l.failure == "" {
		return ""
	}
	return ": " + l.failure
}

// Interface guards
var (
	_ Syncer                = (*Bandersnatch)(nil)
	_ caddy.Provisioner     = (*Bandersnatch)(nil)
	_ caddy.Validator       = (*Bandersnatch)(nil)
	_ caddyfile.Unmarshaler = (*Bandersnatch)(nil)
)
