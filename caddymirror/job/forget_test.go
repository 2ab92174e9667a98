package job

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// fakeRecorder is a gate that remembers.
type fakeRecorder struct {
	fake
	file string
}

func (f fakeRecorder) Remembers() string { return f.file }
func (f fakeRecorder) Released(r *step.Run) error {
	return os.WriteFile(filepath.Join(r.State, f.file), nil, 0o600)
}

// TestForget: a gate forgets what it remembers, and not while its job runs.
func TestForget(t *testing.T) {
	dir := t.TempDir()
	e := testEngine(t, dir)
	at, on := make(chan struct{}), make(chan struct{})
	j := testJob(t, "x", Job{}, none)
	j.gates = []namedGate{
		{fakeRecorder{func(context.Context, *step.Run) error { at <- struct{}{}; <-on; return nil }, "apt.released"}, "apt"},
		{fakeRecorder{none, "apt.released"}, "apt"}, // which shares it
		{fakeRecorder{none, "apt.other"}, "apt"},
		{fake(none), "exec"},
	}
	e.join(j)
	r := e.Runner("x")
	kept := filepath.Join(dir, "x", "apt.released")

	if removed, err := r.Forget("apt"); len(removed) > 0 || err != nil {
		t.Errorf("nothing to forget: %q, %v", removed, err)
	}
	id := begin(t, r)
	<-at
	if err := os.WriteFile(kept, nil, 0o600); err != nil { // as an earlier run may have left it
		t.Fatal(err)
	}
	if removed, err := r.Forget("apt"); len(removed) > 0 || !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), id) {
		t.Errorf("while it runs: %q, %v", removed, err)
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("it has forgotten while it runs: %v", err)
	}
	on <- struct{}{}
	if run := ended(t, r, id); !run.Outcome.Good() {
		t.Fatalf("%+v", run)
	}
	for _, name := range []string{"exec", "rpm", "", "../x"} {
		if _, err := r.Forget(name); !errors.Is(err, ErrNoMemory) {
			t.Errorf("gate %q: %v", name, err)
		}
	}
	if removed, err := r.Forget("apt"); !slices.Equal(removed, []string{kept, filepath.Join(dir, "x", "apt.other")}) || err != nil {
		t.Errorf("%q, %v", removed, err)
	}
	if _, err := os.Stat(kept); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it remembers: %v", err)
	}
	e.leaveJob(j)
}
