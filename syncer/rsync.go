package syncer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/process"
	"github.com/unifiedmirrors/mirror/step"
)

func init() {
	caddy.RegisterModule(Rsync{})
}

// Rsync mirrors a tree of an rsync server, in an order in which no index ever
// names a file that is not there:
//
//  1. Packages: everything but the indexes.
//  2. Indexes, with what else has come meanwhile.
//  3. Deletions: what upstream no longer has is noted, and deleted by the next run
//     that finds it gone, too. Clients that have fetched an older index find its
//     packages for that long. Nothing is noted or deleted unless all before went
//     well.
//
// Each of the three has upstream list its files. The directory must be there: that
// it is not may mean that its file system is not mounted.
//
// What is copied are files, directories and links, with their times. Modes are
// those of upstream with all that a web server needs and nothing that AFS refuses:
// everybody may read, nobody but the owner may write, directories are 0755, there is
// no setuid or setgid. Owners and groups are not copied, so no ids are mapped.
// Devices and FIFOs are left out, and links that are absolute or lead out of the
// tree. Nothing is compressed on the way, since packages are already.
//
// Files are written beside the old ones, and renamed. What was copied of a file when
// a run ended is kept in the state directory of the job, which is not served, and
// spares the next run the way. Where that is another file system than the tree's,
// such a file is copied, not renamed, at the end.
type Rsync struct {
	// What to mirror, as rsync names it: `rsync://HOST/MODULE/PATH`,
	// `HOST::MODULE/PATH`, `USER@HOST:PATH` or a directory. It is what lies in the
	// directory that is copied, with or without a slash at the end.
	//
	// If there are several, each but the first is used when those before cannot be
	// reached, end the connection, do not answer in time or do not have the directory.
	// One run uses one of them from the beginning to the end. Required.
	Sources []string `json:"sources,omitempty"`

	// What to leave out, as patterns of rsync. What is there of it already counts as
	// gone upstream.
	Excludes []string `json:"excludes,omitempty"`

	// What not to leave out though an exclude fits, as patterns of rsync.
	Includes []string `json:"includes,omitempty"`

	// Copy all in one phase, in the order of names. Default: two phases.
	OnePhase bool `json:"one_phase,omitempty"`

	// What is to be copied in the second phase, as patterns of rsync. It does no harm
	// if they fit other files as well, but they should fit no directory with packages
	// in it: a pattern without a slash fits directories, too. Default: the indexes of
	// apt, rpm, pypi, Arch and Alpine repositories.
	Indexes []string `json:"indexes,omitempty"`

	// After how many further runs that find it gone upstream a file is deleted. With
	// 0 that is the first one; with -1 no file that upstream had is ever deleted.
	// Default: 1.
	DeleteAfter *int `json:"delete_after,omitempty"`

	// How much of the tree one run may delete: a number of files and directories, or a
	// percentage of them. If it were more, the run fails and deletes nothing: an upstream
	// that has lost its disk looks like one that has deleted everything. The same holds
	// for what is in directories that upstream has made links or files: that cannot be
	// deleted later. Default: `50%`.
	MaxDelete string `json:"max_delete,omitempty"`

	// What not to delete though upstream does not have it, as patterns of rsync. The
	// timestamp of the job is kept in any case. Default: `/timestamp.txt`.
	Keep []string `json:"keep,omitempty"`

	// How long the connection may be silent. AFS stores a file when it is closed,
	// and rsync is silent meanwhile. Default: `5m`.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How long connecting to an rsync daemon may take. Default: `30s`.
	ConnectTimeout caddy.Duration `json:"connect_timeout,omitempty"`

	// How many bytes to fetch per second, as rsync takes it: `10m`. Default: no limit.
	BWLimit string `json:"bwlimit,omitempty"`

	// Further arguments for rsync.
	Args []string `json:"args,omitempty"`

	// The program, 3.1 or newer. Default: `rsync`.
	Command string `json:"command,omitempty"`

	maxDelete limit
}

// The indexes of what is mirrored mostly: first what lies in directories that have
// nothing else, then files by their names, in all directories.
var (
	indexDirs = []string{
		"dists/**",    // apt
		"repodata/**", // rpm
		"simple/**",   // pypi
	}
	indexFiles = []string{
		"InRelease", "Release", "Release.gpg", "Packages", "Packages.*", "Sources", "Sources.*", "Contents-*", "ls-lR*", // apt
		"repomd.xml*",                 // rpm
		"*.db", "*.db.*", "*.files.*", // Arch
		"APKINDEX*", // Alpine
	}
)

// CaddyModule returns the Caddy module information.
func (Rsync) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.syncers.rsync", New: func() caddy.Module { return new(Rsync) }}
}

// Provision sets the defaults. It touches neither disk nor network.
func (s *Rsync) Provision(caddy.Context) error {
	for i := range s.Sources {
		if err := expand("source", &s.Sources[i]); err != nil {
			return err
		}
	}
	if s.Keep == nil {
		s.Keep = []string{"/timestamp.txt"}
	}
	if s.DeleteAfter == nil {
		after := 1
		s.DeleteAfter = &after
	}
	if s.MaxDelete == "" {
		s.MaxDelete = "50%"
	}
	if s.Timeout == 0 {
		s.Timeout = caddy.Duration(5 * time.Minute)
	}
	if s.ConnectTimeout == 0 {
		s.ConnectTimeout = caddy.Duration(30 * time.Second)
	}
	if s.Command == "" {
		s.Command = "rsync"
	}
	return s.Validate()
}

var bwlimit = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?[kKmMgG]?$`)

// Validate checks the settings.
func (s *Rsync) Validate() error {
	if len(s.Sources) == 0 {
		return errors.New("no source")
	}
	for _, source := range s.Sources {
		// Rsync takes what begins with a dash for an option, even a dangerous one.
		if source == "" || source[0] == '-' || strings.ContainsAny(source, "\x00\n") {
			return fmt.Errorf("%q is not a source", source)
		}
	}
	for _, patterns := range [][]string{s.Excludes, s.Includes, s.Indexes, s.Keep} {
		for _, p := range patterns {
			if strings.TrimSpace(p) == "" || strings.ContainsAny(p, "\x00\n") {
				return fmt.Errorf("%q is not a pattern", p)
			}
		}
	}
	if s.DeleteAfter != nil && *s.DeleteAfter < -1 {
		return errors.New("delete_after is a number of runs, or -1 for never")
	}
	if s.Timeout < caddy.Duration(time.Second) || s.ConnectTimeout < caddy.Duration(time.Second) {
		return errors.New("timeouts must be at least one second")
	}
	if s.BWLimit != "" && !bwlimit.MatchString(s.BWLimit) {
		return fmt.Errorf("bwlimit: %q is not a rate such as 500k, 10m or 1.5m", s.BWLimit)
	}
	var err error
	if s.maxDelete, err = parseLimit(s.MaxDelete); err != nil {
		return fmt.Errorf("max_delete: %w", err)
	}
	return nil
}

// UnmarshalCaddyfile sets up the syncer:
//
//	rsync <source> [<fallback...>] {
//		exclude         <pattern...>
//		include         <pattern...>
//		two_phase       on|off
//		indexes         <pattern...>
//		delete_after    <runs>|never
//		max_delete      <number>|<percent>%
//		keep            <pattern...>
//		timeout         <duration>
//		connect_timeout <duration>
//		bwlimit         <rate>
//		args            <argument...>
//		command         <program>
//	}
func (s *Rsync) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if err := some(d, &s.Sources); err != nil {
		return err
	}
	repeats := func(option string) bool {
		switch option {
		case "exclude", "include", "indexes", "keep", "args":
			return true
		}
		return false
	}
	return block(d, repeats, func(option string) error { return s.option(d, option) })
}

func (s *Rsync) option(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "exclude":
		return some(d, &s.Excludes)
	case "include":
		return some(d, &s.Includes)
	case "indexes":
		return some(d, &s.Indexes)
	case "keep":
		return some(d, &s.Keep)
	case "args":
		return some(d, &s.Args)
	case "two_phase":
		return onOff(d, &s.OnePhase)
	case "timeout":
		return span(d, &s.Timeout)
	case "connect_timeout":
		return span(d, &s.ConnectTimeout)
	case "command":
		return one(d, &s.Command)
	case "delete_after":
		return s.deleteAfter(d)
	case "max_delete":
		if err := one(d, &s.MaxDelete); err != nil {
			return err
		}
		if _, err := parseLimit(s.MaxDelete); err != nil {
			return d.Err(err.Error())
		}
		return nil
	case "bwlimit":
		if err := one(d, &s.BWLimit); err != nil {
			return err
		}
		if !bwlimit.MatchString(s.BWLimit) {
			return d.Errf("'%s' is not a rate such as 500k, 10m or 1.5m", s.BWLimit)
		}
		return nil
	}
	return d.Errf("unrecognized option '%s'", option)
}

func (s *Rsync) deleteAfter(d *caddyfile.Dispenser) error {
	var text string
	if err := one(d, &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	switch {
	case text == "never":
		n = -1
	case err != nil || n < 0:
		return d.Errf("'%s' is neither a number of runs nor 'never'", text)
	}
	s.DeleteAfter = &n
	return nil
}

// Sync mirrors the tree from the first source that can be reached.
func (s *Rsync) Sync(ctx context.Context, r *step.Run) error {
	if err := checkTree(r); err != nil {
		return err
	}
	p := pass{s: s, r: r}
	err := p.run(ctx)
	if err == nil || p.changed {
		r.Changed = new(p.changed)
	}
	return err
}

// checkTree refuses a directory that seems to be a mount point without its file
// system: that would fill the disk below it.
func checkTree(r *step.Run) error {
	if r.Dir == "" {
		return errNoDirectory
	}
	fi, err := os.Stat(r.Dir)
	if err != nil {
		return fmt.Errorf("the job's directory: %w: make it, or mount its file system", err)
	}
	if !fi.IsDir() {
		return fmt.Errorf("the job's directory: %s is not a directory", r.Dir)
	}
	if r.Last.IsZero() {
		return nil
	}
	entries, err := os.ReadDir(r.Dir)
	if err != nil {
		return fmt.Errorf("the job's directory: %w", err)
	}
	if len(entries) == 0 {
		return fmt.Errorf("%s is empty, though the job has succeeded before: mount its file system or, to begin anew, put any file there", r.Dir)
	}
	return nil
}

// A pass is one Sync.
type pass struct {
	s       *Rsync
	r       *step.Run
	source  string
	changed bool // something in the tree
	vague   bool // files kept vanishing upstream
	cleared int  // files and directories deleted to make way
}

// run tries one source after the other.
func (p *pass) run(ctx context.Context) error {
	var failures []string
	for i, source := range p.s.Sources {
		p.source, p.vague = strings.TrimRight(source, "/")+"/", false
		err := p.mirror(ctx)
		if err == nil {
			return nil
		}
		e, ok := errors.AsType[*rsyncError](err)
		if !ok || !e.away() || ctx.Err() != nil {
			return err
		}
		failures = append(failures, err.Error())
		if i+1 < len(p.s.Sources) {
			p.r.Log.Warn("upstream is away, trying the next one", zap.String("source", source), zap.Error(err))
		}
	}
	return fmt.Errorf("no upstream: %s", strings.Join(failures, "; "))
}

// mirror brings the tree up to date from p.source.
func (p *pass) mirror(ctx context.Context) error {
	partial := p.partialDir()
	if err := os.Mkdir(partial, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if !p.s.OnePhase {
		if err := p.copy(ctx, "packages", p.s.packages()); err != nil {
			return err
		}
		// What had vanished from the list by then is looked for again now.
		p.vague = false
	}
	stage := "indexes"
	if p.s.OnePhase {
		stage = "files"
	}
	if err := p.copy(ctx, stage, p.s.Args); err != nil {
		return err
	}
	_ = os.RemoveAll(partial) // all files are whole
	if !p.vague {
		err := p.deletions(ctx)
		if !vanished(err) {
			return err
		}
	}
	p.r.Log.Warn("nothing is deleted, since files vanished upstream during the run", zap.String("source", p.source))
	return nil
}

// packages are the arguments for the first phase, which leave out the indexes.
func (s *Rsync) packages() []string {
	if s.Indexes != nil {
		return slices.Concat(hide(s.Indexes), s.Args)
	}
	// A directory that has the name of an index is full of packages, as Packages is. It
	// is shown unless it was hidden before.
	return slices.Concat(hide(indexDirs), s.Args, []string{"--filter=S */"}, hide(indexFiles))
}

// hide is how rsync is told to leave out what patterns fit upstream.
func hide(patterns []string) []string {
	filters := make([]string, len(patterns))
	for i, p := range patterns {
		filters[i] = "--filter=H " + p
	}
	return filters
}

// copy runs a phase. If files vanished upstream before they were copied, which says
// that upstream is at work, it is run once more.
func (p *pass) copy(ctx context.Context, stage string, args []string) error {
	args = append(slices.Clone(args), "--partial-dir="+p.partialDir())
	err := p.rsync(ctx, stage, args, new(output))
	if e, ok := errors.AsType[*rsyncError](err); ok && e.blocked {
		if args, err = p.makeWay(ctx, stage, args); err != nil {
			return err
		}
		err = p.rsync(ctx, stage, args, new(output))
	}
	if !vanished(err) {
		return err
	}
	err = p.rsync(ctx, stage, args, new(output))
	if vanished(err) {
		p.vague = true
		p.r.Log.Warn("files vanish upstream", zap.String("source", p.source), zap.Error(err))
		return nil
	}
	return err
}

func (p *pass) partialDir() string { return filepath.Join(p.r.State, "rsync-partial") }

// rsync runs the program once, over the whole tree.
func (p *pass) rsync(ctx context.Context, stage string, args []string, out *output) error {
	out.report = func(g step.Progress) {
		g.Stage = stage
		p.r.Report(g)
	}
	p.r.Report(step.Progress{Stage: stage, Done: -1, Detail: "listing " + p.source})
	res, err := p.r.Command(ctx, step.Command{
		Name: p.s.Command,
		Args: p.s.arguments(p.source, p.r, args),
		// Its output is read by us.
		Env:  []string{"LC_ALL=C"},
		Line: out.line,
	})
	p.r.Bytes += out.bytes()
	p.changed = p.changed || out.changed
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s from %s: %w", stage, p.source, err)
	}
	if exit, ok := errors.AsType[*process.ExitError](err); ok && progress.MatchString(exit.Last) {
		err = &process.ExitError{Name: exit.Name, Status: exit.Status} // how far it was is no reason
	}
	return &rsyncError{
		stage: stage, source: p.source, code: res.Code, err: err,
		reason: out.reason, full: out.full, missing: out.missing, blocked: out.blocked,
	}
}

// arguments are what all runs of rsync have in common, and args.
func (s *Rsync) arguments(source string, r *step.Run, args []string) []string {
	a := []string{
		"--recursive", "--links", "--safe-links", "--times", "--perms",
		"--chmod=D755,Fu+rw,Fgo+r,Fgo-w,Fug-s",
		"--timeout=" + seconds(s.Timeout),
		"--no-motd", "--itemize-changes", "--stats", "--info=progress2", "--outbuf=L",
	}
	if strings.HasPrefix(source, "rsync://") || strings.Contains(source, "::") {
		a = append(a, "--contimeout="+seconds(s.ConnectTimeout))
	}
	if s.BWLimit != "" {
		a = append(a, "--bwlimit="+s.BWLimit)
	}
	// They hide files upstream and protect none here, so nothing that is hidden stands
	// in the way of what is not.
	if r.Timestamp != "" {
		a = append(a, "--filter=H "+anchored(r.Timestamp)) // upstream may have one, too
	}
	for _, pattern := range s.Includes {
		a = append(a, "--filter=S "+pattern)
	}
	a = append(a, hide(s.Excludes)...)
	a = append(a, args...)
	return append(a, "--", source, strings.TrimRight(r.Dir, "/")+"/")
}

// anchored is a pattern of rsync that fits one path of the tree.
func anchored(name string) string {
	if strings.ContainsAny(name, "*?[") { // else backslashes are nothing special
		name = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(name)
	}
	return "/" + name
}

func seconds(d caddy.Duration) string {
	return strconv.FormatInt(int64((time.Duration(d)+time.Second-1)/time.Second), 10)
}

// rsyncError says how rsync failed.
type rsyncError struct {
	stage, source string
	code          int
	reason        string // the first error it printed
	full, missing bool   // the disk here, the directory there
	blocked       bool   // by directories here
	err           error
}

func (e *rsyncError) Error() string {
	if e.reason == "" || strings.Contains(e.err.Error(), e.reason) {
		return fmt.Sprintf("%s from %s: %v", e.stage, e.source, e.err)
	}
	return fmt.Sprintf("%s from %s: %s: %v", e.stage, e.source, e.reason, e.err)
}

func (e *rsyncError) Unwrap() error { return e.err }

// vanished reports whether files vanished upstream before their turn.
func vanished(err error) bool {
	e, ok := errors.AsType[*rsyncError](err)
	return ok && e.code == 24
}

// away reports whether another upstream may help.
func (e *rsyncError) away() bool {
	if e.full {
		return false // of which the other side may say that the connection broke
	}
	switch e.code {
	case 2, // protocol incompatibility
		4,   // the server does not know an option
		5,   // starting the protocol: refused, too many users, no such module
		10,  // socket
		12,  // protocol data stream: the connection broke
		30,  // timeout
		35,  // connecting timed out
		255: // what ssh says
		return true
	case 23: // partial transfer
		return e.missing
	}
	return false
}

// Interface guards
var (
	_ Syncer                = (*Rsync)(nil)
	_ caddy.Provisioner     = (*Rsync)(nil)
	_ caddy.Validator       = (*Rsync)(nil)
	_ caddyfile.Unmarshaler = (*Rsync)(nil)
)
