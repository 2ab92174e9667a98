package job

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/gate"
	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// release publishes what the gates have let pass.
func (x *execution) release(ctx context.Context, run *step.Run) (released bool, err error) {
	if len(x.j.releases) == 0 {
		return false, x.released(run)
	}
	if x.j.Timestamp != "" && (run.Changed == nil || *run.Changed || x.stamp) {
		if err := x.stage("timestamp", x.timestamp); err != nil {
			return false, err
		}
	}
	var errs []error
	for _, rel := range x.j.releases {
		x.targets = rel.Targets()
		err := x.stage("release", func() error {
			leave, err := x.enter(ctx, rel.Lane())
			if err != nil {
				return err
			}
			defer leave()
			done, err := x.releaseBy(ctx, rel, run)
			released = released || done
			return err
		})
		if err != nil {
			errs = append(errs, err)
		}
		if err != nil && (run.Synced || ctx.Err() != nil) {
			break
		}
	}
	if err := errors.Join(errs...); err != nil {
		return released, err
	}
	return released, x.released(run)
}

// enter waits until nobody else is in a queue of releases, and makes sure that it is
// still this host's turn then.
func (x *execution) enter(ctx context.Context, queue string) (leave func(), err error) {
	if leave, err = x.r.e.enter(ctx, queue); err != nil {
		return nil, err
	}
	if err := x.keepTurn(ctx); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

// releaseBy has a releaser publish, and tells what it has.
func (x *execution) releaseBy(ctx context.Context, rel releaser.Releaser, run *step.Run) (done bool, err error) {
	told := false
	run.Released = func(target string, took time.Duration) {
		told = true
		x.published(target, took)
	}
	start := time.Now()
	done, err = rel.Release(ctx, run)
	if !done || told {
		return done, err
	}
	targets := rel.Targets()
	if len(targets) == 0 {
		targets = []string{""}
	}
	for _, target := range targets {
		x.published(target, time.Since(start))
	}
	return done, err
}

// published tells that there is a new release of a target.
func (x *execution) published(target string, took time.Duration) {
	x.observer().Published(target, took, x.j.log)
	x.event(eventReleased, "release", map[string]any{"target": target, "seconds": took.Seconds()})
}

// released tells the gates that what they have seen is the last good state now.
func (x *execution) released(run *step.Run) error {
	for _, g := range x.j.gates {
		after, ok := g.Gate.(gate.Recorder)
		if !ok {
			continue
		}
		if err := after.Released(run); err != nil {
			return fmt.Errorf("gate %s: noting what was released: %w", g.name, err)
		}
	}
	x.r.update(func() { x.r.state.settle(x.j.settings, time.Now().Round(0)) })
	return nil
}

// timestamp writes the time into the tree.
func (x *execution) timestamp() error {
	root, err := os.OpenRoot(x.j.Directory)
	if err != nil {
		return err
	}
	defer root.Close()
	temp := x.j.Timestamp + ".tmp"
	// A snapshot may have one that was left over: not to be written into.
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = root.WriteFile(temp, []byte(time.Now().UTC().Format("2006-01-02T15:04:05,000000000-07:00")+"\n"), 0o644)
	if err == nil {
		err = root.Chmod(temp, 0o644) // whatever the umask: it is served
	}
	if err != nil {
		return err
	}
	return root.Rename(temp, x.j.Timestamp)
}
