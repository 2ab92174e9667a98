package syncer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap/zaptest"

	"github.com/unifiedmirrors/mirror/caddymirror/process"
	"github.com/unifiedmirrors/mirror/caddymirror/program"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// job is a run that runs real commands, and all that came of it.
type job struct {
	*step.Run
	t testing.TB

	mu       sync.Mutex
	out      bytes.Buffer
	stages   []string // without repetitions
	progress step.Progress
	commands []step.Command
}

func newJob(t testing.TB) *job {
	t.Helper()
	j := &job{t: t}
	j.Run = &step.Run{
		Job: "test", ID: "1", Dir: t.TempDir(), State: t.TempDir(),
		Log: zaptest.NewLogger(t), Out: j,
		Command: j.command,
		Report:  j.report,
	}
	return j
}

func (j *job) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.Write(p)
}

func (j *job) printed() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.String()
}

func (j *job) command(ctx context.Context, c step.Command) (step.Result, error) {
	j.mu.Lock()
	j.commands = append(j.commands, c)
	j.mu.Unlock()
	if c.Dir == "" {
		c.Dir = j.Dir
	}
	res, err := process.Run(ctx, process.Command{
		Name: c.Name, Args: c.Args, Dir: c.Dir, Env: append(os.Environ(), c.Env...),
		Out: j, Line: c.Line, Finish: c.Finish, Grace: 2 * time.Second,
	})
	return step.Result{Code: res.Code}, err
}

func (j *job) report(p step.Progress) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.progress = p
	if n := len(j.stages); n == 0 || j.stages[n-1] != p.Stage {
		j.stages = append(j.stages, p.Stage)
	}
}

// sync is a run that succeeds.
func (j *job) sync(s Syncer) {
	j.t.Helper()
	j.Changed, j.Changes, j.Bytes, j.stages, j.commands = nil, step.Changes{}, 0, nil, nil
	j.out.Reset()
	if err := s.Sync(j.t.Context(), j.Run); err != nil {
		j.t.Fatalf("%v\n%s", err, j.printed())
	}
}

// fail is a run that fails, and what of.
func (j *job) fail(s Syncer, why string) {
	j.t.Helper()
	j.Changed, j.Changes, j.Bytes, j.stages, j.commands = nil, step.Changes{}, 0, nil, nil
	j.out.Reset()
	if err := s.Sync(j.t.Context(), j.Run); err == nil || !strings.Contains(err.Error(), why) {
		j.t.Fatalf("%v, want %q\n%s", err, why, j.printed())
	}
}

func (j *job) wantChanged(want *bool) {
	j.t.Helper()
	switch {
	case j.Changed == nil && want == nil:
	case j.Changed == nil || want == nil || *j.Changed != *want:
		j.t.Errorf("changed is %v, want %v\n%s", str(j.Changed), str(want), j.printed())
	}
}

// wantChanges are the names of what has changed.
func (j *job) wantChanges(want ...string) {
	j.t.Helper()
	if names, more := j.Changes.Names(); !slices.Equal(names, want) || more != 0 {
		j.t.Errorf("changes are %q and %d more, want %q\n%s", names, more, want, j.printed())
	}
}

// files are the regular files of a tree, each with what tells whether it was written.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		all[rel] = fmt.Sprint(fi.ModTime(), fi.Size(), fi.Sys().(*syscall.Stat_t).Ino)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// written are the files that have been written, made or removed between two looks.
func written(before, after map[string]string) (names []string) {
	for name, v := range after {
		if before[name] != v {
			names = append(names, name)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func str(b *bool) string {
	switch {
	case b == nil:
		return "unknown"
	case *b:
		return "true"
	}
	return "false"
}

func write(t testing.TB, path, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// script makes an executable.
func script(t testing.TB, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// provision readies a syncer as Caddy does.
func provision[S any, P interface {
	*S
	caddy.Validator
	Syncer
}](t testing.TB, s P) P {
	t.Helper()
	if p, ok := any(s).(caddy.Provisioner); ok {
		if err := p.Provision(caddy.Context{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestExec(t *testing.T) {
	j := newJob(t)
	j.sync(provision(t, &Exec{Program: program.Program{Command: []string{"sh", "-c", `echo "$0" >file; pwd`, "a  $b"}}}))
	if data, _ := os.ReadFile(filepath.Join(j.Dir, "file")); string(data) != "a  $b\n" {
		t.Errorf("wrote %q", data)
	}
	j.wantChanged(nil)
	j.sync(provision(t, &Exec{Program: program.Program{Command: []string{`test "$1" = 'x y' && echo "$HOME" | cat`, "x y"}, Shell: true}}))
	if !strings.Contains(j.printed(), os.Getenv("HOME")) || j.progress.Detail != os.Getenv("HOME") {
		t.Errorf("printed %q, reported %+v", j.printed(), j.progress)
	}
	j.fail(provision(t, &Exec{Program: program.Program{Command: []string{"sh", "-c", "echo no disk; exit 3"}}}), "exit status 3: no disk")
	j.fail(provision(t, &Exec{Program: program.Program{Command: []string{"echo $HOME"}}}), "not found")
	j.sync(provision(t, &Exec{Program: program.Program{Command: []string{"sh", "-c", "exit 9"}, Unchanged: 9}}))
	j.wantChanged(new(false))
	j.fail(provision(t, &Exec{Program: program.Program{Command: []string{"sh", "-c", "exit 8"}, Unchanged: 9}}), "exit status 8")
}

func TestExecMuchOutput(t *testing.T) {
	j := newJob(t)
	lines := 0
	j.Report = func(step.Progress) { lines++ }
	j.Out = nil
	c := j.Command
	j.Command = func(ctx context.Context, cmd step.Command) (step.Result, error) {
		_ = c // its output is thrown away
		res, err := process.Run(ctx, process.Command{Name: cmd.Name, Args: cmd.Args, Line: cmd.Line})
		if res.Bytes != 100<<20 {
			t.Errorf("%d bytes", res.Bytes)
		}
		return step.Result{Code: res.Code}, err
	}
	if err := (&Exec{Program: program.Program{Command: []string{"sh", "-c", "yes 0123456789abcdef0123456789abcde | head -c 104857600"}}}).Sync(t.Context(), j.Run); err != nil {
		t.Fatal(err)
	}
	if lines != 100<<20/32 {
		t.Errorf("%d lines", lines)
	}
}

func TestExecCancelled(t *testing.T) {
	j := newJob(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("enough")
	j.Report = func(step.Progress) { cancel(why) }
	// Its exit status is not taken for an answer.
	e := &Exec{Program: program.Program{Command: []string{"sh", "-c", "trap 'exit 9' TERM; echo begun; sleep 60 & wait"}, Unchanged: 9}}
	if err := e.Sync(ctx, j.Run); !errors.Is(err, why) || j.Changed != nil {
		t.Errorf("%v, changed %v", err, str(j.Changed))
	}
}
