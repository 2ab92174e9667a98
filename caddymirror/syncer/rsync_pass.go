package syncer

import (
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
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/process"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Sync mirrors the tree from the first source that can be reached.
func (s *Rsync) Sync(ctx context.Context, r *step.Run) error {
	if err := checkTree(r); err != nil {
		return err
	}
	p := pass{s: s, r: r}
	r.Bookkeeping = s.isBookkeeping()
	err := p.run(ctx)
	if err == nil || p.changed {
		r.Changed = new(p.changed)
	}
	return err
}

// isBookkeeping tells files that are written though there is nothing new.
func (s *Rsync) isBookkeeping() func(name string) bool {
	if s.Bookkeeping != nil {
		return among(s.Bookkeeping)
	}
	return bookkeeping
}

// changing notes what is changed in the tree: "" is a name that is not known.
func (p *pass) changing(name string) {
	if p.r.Bookkeeping(name) {
		return
	}
	p.changed = true
	if name != "" && !strings.HasSuffix(name, "/") {
		p.r.Changes.Add(name)
	}
}

// checkTree refuses a directory that seems to be a mount point without its file
// system: that would fill the disk below it.
func checkTree(r *step.Run) error {
	if r.Dir == "" {
		return step.ErrNoDirectory
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
	changed bool // something in the tree, and not bookkeeping
	vague   bool // files kept vanishing upstream
	cleared int  // files and directories deleted to make way
}

// run tries one source after the other.
func (p *pass) run(ctx context.Context) error {
	var failures []string
	for i, source := range p.s.Sources {
		p.source, p.vague = strings.TrimRight(source, "/")+"/", false
		err := p.mirror(ctx)
		if e, ok := errors.AsType[*rsyncError](err); !ok || !e.away() || ctx.Err() != nil {
			note(p.r, "source", source)
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
	err := p.rsync(ctx, stage, args, p.output())
	if e, ok := errors.AsType[*rsyncError](err); ok && e.blocked {
		if args, err = p.makeWay(ctx, stage, args); err != nil {
			return err
		}
		err = p.rsync(ctx, stage, args, p.output())
	}
	if !vanished(err) {
		return err
	}
	err = p.rsync(ctx, stage, args, p.output())
	if vanished(err) {
		p.vague = true
		p.r.Log.Warn("files vanish upstream", zap.String("source", p.source), zap.Error(err))
		return nil
	}
	return err
}

// output reads what a run prints that changes the tree.
func (p *pass) output() *output { return &output{changing: p.changing} }

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
