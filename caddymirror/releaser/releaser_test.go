package releaser

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/process"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// newRun is a run that runs real commands.
func newRun(t testing.TB) *step.Run {
	t.Helper()
	out := &buffer{}
	dir := t.TempDir()
	return &step.Run{
		Job: "test", ID: "1", Dir: dir, State: t.TempDir(),
		Log: zap.NewNop(), Out: out,
		Command: func(ctx context.Context, c step.Command) (step.Result, error) {
			res, err := process.Run(ctx, process.Command{
				Name: c.Name, Args: c.Args, Dir: dir, Env: append(os.Environ(), c.Env...),
				Out: out, Line: c.Line, Finish: c.Finish,
			})
			return step.Result{Code: res.Code}, err
		},
		Report: func(step.Progress) {},
	}
}

// buffer can be written by several.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func newSnapshot(t testing.TB, tree, link string) *Snapshot {
	t.Helper()
	s := &Snapshot{Tree: tree, Link: link}
	if err := s.Provision(caddy.Context{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	return s
}

// write replaces a file, as a syncer does.
func write(t testing.TB, path, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".tmp", []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}
