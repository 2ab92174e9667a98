package wheels

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/constraints"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// A farm is one run: it builds what there is to build.
type farm struct {
	w   *Wheels
	r   *step.Run
	dir string // of the platform

	work  string // directory of builds under way
	http  *http.Client
	index *index
	hosts *hosts // that builds may reach

	memory    *memory // of runs before
	published *published
	pythons   []*python
	tally     *tally

	told      sync.Map   // lines of the sandbox
	placing   sync.Mutex // held while a wheel is put into its place; taken before those of published and memory
	nextBuild atomic.Int64
	bytes     atomic.Int64 // fetched
}

// open prepares a run. The farm is to be closed, if there is one.
func (w *Wheels) open(ctx context.Context, r *step.Run) (*farm, error) {
	platform := w.Platform
	if platform == "" {
		var err error
		if platform, err = thisPlatform(); err != nil {
			return nil, err
		}
	}
	if w.User != "" && os.Geteuid() == 0 {
		uid, gid, err := lookUser(w.User)
		if err != nil {
			return nil, err
		}
		w.uid, w.gid = &uid, &gid
	}
	// The tree's directory must be there: that it is not may mean that its file system is
	// not mounted.
	if _, err := os.Stat(r.Dir); err != nil {
		return nil, err
	}
	f := &farm{w: w, r: r, dir: filepath.Join(r.Dir, w.Output, platform), tally: newTally(r)}
	f.http = &http.Client{Timeout: 2 * time.Minute}
	f.hosts = newHosts(w.index, w.AllowHosts)
	f.index = newIndex(f.http, w.index, f.hosts)
	var err error
	if f.memory, err = loadMemory(r.State, time.Duration(w.RetryAfter)); err != nil {
		return nil, err
	}
	if err := f.openWork(); err != nil {
		return f, err
	}
	f.published, err = f.scan(ctx)
	return f, err
}

// openWork makes a directory for builds, and removes that of a run that was killed.
func (f *farm) openWork() error {
	parent := f.w.WorkDir
	if parent == "" {
		parent = os.TempDir()
	}
	if last := f.memory.Work; last != "" {
		if err := removeAll(last); err != nil {
			return fmt.Errorf("removing what a killed run has left: %w", err)
		}
	}
	work, err := os.MkdirTemp(parent, "mirror-wheels-")
	if err != nil {
		return fmt.Errorf("work_dir: %w", err)
	}
	f.work = work
	if err := os.Chmod(work, 0o711); err != nil { //nolint:gosec // whom builds run as must come to theirs, which have modes of their own
		return err
	}
	return f.memory.change(func(m *memory) { m.Work = work })
}

func (f *farm) close() {
	if f.work == "" {
		return
	}
	err := removeAll(f.work)
	if err == nil {
		f.memory.Work = ""
		err = f.memory.tidy(filepath.Join(f.r.State, logsName), time.Now())
	}
	if err != nil {
		f.r.Log.Warn("removing a directory of builds", zap.String("directory", f.work), zap.Error(err))
	}
}

// removeAll removes a tree, also one whose owner may not write to it.
func removeAll(dir string) error {
	err := os.RemoveAll(dir)
	if err == nil {
		return nil
	}
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() {
			_ = os.Chmod(path, 0o700) //nolint:gosec // to be removed; a link is no directory
		}
		return err
	})
	return os.RemoveAll(dir)
}

// open opens a file or URL of constraints.
func (f *farm) open(ctx context.Context, name string) (io.ReadCloser, error) {
	if !constraints.IsURL(name) {
		return os.Open(name)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, name, nil)
	if err != nil {
		return nil, err
	}
	resp, err := f.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", constraints.Redacted(name), resp.Status)
	}
	return resp.Body, nil
}

// run finds out what is wanted, and has it made.
func (f *farm) run(ctx context.Context) error {
	f.r.Report(step.Progress{Stage: "wheels", Done: -1, Detail: "constraints"})
	list, err := constraints.Load(ctx, f.open, f.w.Constraints...)
	if err != nil {
		return err
	}
	f.tell(list)
	for _, name := range f.w.Pythons {
		f.r.Report(step.Progress{Stage: "wheels", Done: -1, Detail: name})
		p, err := f.prepare(ctx, name)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f.pythons = append(f.pythons, p)
	}
	units := plan(list, f.pythons)
	if len(units) == 0 {
		return errors.New("the constraints name no package for any of the Pythons")
	}
	if err := f.notOwn(ctx); err != nil {
		return err
	}
	for _, u := range units {
		f.tally.expect(len(u.wanted))
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(f.w.Parallel)
	for _, u := range units {
		g.Go(func() error { return f.unit(ctx, u) })
	}
	err = g.Wait()
	f.tally.show()
	return err
}

// tell tells what is wrong with the constraints.
func (f *farm) tell(list *constraints.List) {
	for _, p := range list.Problems {
		f.r.Log.Warn("constraint cannot be read", zap.String("file", p.File), zap.Int("line", p.Line), zap.String("reason", p.Reason), zap.String("text", p.Text))
		fmt.Fprintln(f.r.Out, p)
		f.tally.failed(p.String())
	}
	for range list.Unlisted {
		f.tally.failed("")
	}
	for _, p := range list.Remarks {
		fmt.Fprintln(f.r.Out, p)
	}
}
