package origin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/breaker"
)

// readDir is what ReadDir yields, sorted by name.
func readDir(ctx context.Context, o Tree, name string) ([]Info, error) {
	var list []Info
	for i, err := range o.ReadDir(ctx, name) {
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// manyFiles makes n empty files, and an origin for them that calls step before
// each call that reads from their directory.
func manyFiles(t *testing.T, n int, step func(number int32) error, settings ...func(*Dir)) *Dir {
	t.Helper()
	root := t.TempDir()
	for i := range n {
		write(t, root, fmt.Sprintf("d/%05d", i), "")
	}
	d := newDir(t, root, settings...)
	var steps atomic.Int32
	d.state.inject = func(op, _ string) error {
		if op == "readdir" {
			return step(steps.Add(1))
		}
		return nil
	}
	t.Cleanup(func() {
		waitFor(t, "the directory is closed", func() bool { return openFiles(t, filepath.Join(root, "d")) == 0 })
		waitFor(t, "the tree is let go of", func() bool { return d.state.tree.Load().users.Load() == 1 })
	})
	return d
}

// TestReadDirSlow: a listing may take as long as it wants to, if only each
// step of it is done in time.
func TestReadDirSlow(t *testing.T) {
	const n = 8 * listStep
	d := manyFiles(t, n, func(int32) error {
		time.Sleep(100 * time.Millisecond)
		return nil
	}, timeout(500*time.Millisecond))
	list, err := readDir(t.Context(), d, "d")
	if err != nil || len(list) != n {
		t.Errorf("%d entries, %v", len(list), err)
	}
	if s := d.Status(); s.Lists != 1 || s.Timeouts != 0 || s.State != "up" {
		t.Errorf("%+v", s)
	}
}

// TestReadDirStopped: who has seen enough has no more read.
func TestReadDirStopped(t *testing.T) {
	var last atomic.Int32
	d := manyFiles(t, 4*listStep, func(number int32) error {
		last.Store(number)
		return nil
	})
	seen := 0
	for _, err := range d.ReadDir(t.Context(), "d") {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; seen == listStep+1 {
			break
		}
	}
	if last.Load() != 2 {
		t.Errorf("%d steps were read for %d entries", last.Load(), seen)
	}
}

// TestReadDirHangs: one that hangs under way ends in time, as do those whose
// caller leaves, and what the late call reads from is closed after it.
func TestReadDirHangs(t *testing.T) {
	h := new(hang)
	t.Cleanup(h.cont)
	d := manyFiles(t, 4*listStep, func(number int32) error {
		if number == 3 {
			h.stop()
		}
		return h.inject("", "")
	}, timeout(200*time.Millisecond))
	start := time.Now()
	if list, err := readDir(t.Context(), d, "d"); !errors.Is(err, ErrAway) {
		t.Errorf("%d entries, %v", len(list), err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if s := d.Status(); s.Timeouts != 1 || s.Stuck != 1 {
		t.Errorf("%+v", s)
	}
	h.cont()
	if list, err := readDir(t.Context(), d, "d"); err != nil || len(list) != 4*listStep {
		t.Errorf("when it is back: %d entries, %v", len(list), err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	seen := 0
	var last error
	for _, err := range d.ReadDir(ctx, "d") {
		last = err
		if seen++; seen == listStep {
			cancel()
		}
	}
	if seen != listStep+1 || !errors.Is(last, ErrAway) || !errors.Is(last, context.Canceled) {
		t.Errorf("%d entries, %v", seen, last)
	}
}

// TestReadDirRemoved: a directory that goes while it is listed is neither empty
// nor known not to be there, and opens no breaker.
func TestReadDirRemoved(t *testing.T) {
	var d *Dir
	d = manyFiles(t, listStep, func(number int32) error {
		if number%2 == 0 {
			return os.RemoveAll(filepath.Join(d.Root, "d"))
		}
		return nil
	})
	write(t, d.Root, "stays", "")
	for range 2 * breaker.Threshold {
		list, err := readDir(t.Context(), d, "d")
		if !errors.Is(err, ErrAway) || errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%d entries, %v", len(list), err)
		}
		for i := range listStep {
			write(t, d.Root, fmt.Sprintf("d/%05d", i), "")
		}
	}
	if s := d.Status(); s.State != "up" {
		t.Errorf("%+v", s)
	}
}
