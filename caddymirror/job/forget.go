package job

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/gate"
)

// ErrNoMemory says that there is no gate of that name, or that it keeps nothing.
var ErrNoMemory = errors.New("nothing can be forgotten")

// Forget has the gates of that name forget the last release, so that the next tree is
// compared with nothing. It returns the files that were removed. Other errors than
// [ErrNoMemory] and [ErrRunning] are those of the disk.
func (r *Runner) Forget(name string) (removed []string, err error) {
	return within(func() ([]string, error) {
		removed, err := r.forget(name)
		if len(removed) > 0 {
			// A gate has to look again, else nothing is compared with what is released now.
			r.update(func() { r.state.Settled = time.Time{} })
		}
		return removed, err
	})
}

func (r *Runner) forget(name string) (removed []string, err error) {
	// No run begins while this is held: its beginning is kept in the state first.
	r.saving.Lock()
	defer r.saving.Unlock()
	r.mu.Lock()
	gates, err := r.recorders(name)
	if c := r.state.Current; err == nil && c != nil {
		err = fmt.Errorf("%w: run %s; wait for its end", ErrRunning, c.ID)
	}
	r.mu.Unlock()
	removed = []string{}
	if err != nil {
		return removed, err
	}
	for _, g := range gates {
		file, err := gate.Forget(g, r.dir)
		if err != nil {
			return removed, err
		}
		if file != "" {
			removed = append(removed, file)
			logger().Info("a gate has forgotten the last release", zap.String("job", r.name), zap.String("gate", name), zap.String("removed", file))
		}
	}
	return removed, nil
}

// recorders returns the gates of the name that remember. r.mu is held.
func (r *Runner) recorders(name string) (gates []gate.Recorder, err error) {
	var others []string
	if len(r.configs) > 0 {
		for _, g := range r.configs[0].gates {
			rec, ok := g.Gate.(gate.Recorder)
			switch {
			case ok && g.name == name:
				gates = append(gates, rec)
			case g.name == name:
				return nil, fmt.Errorf("%w: gate %s remembers nothing", ErrNoMemory, name)
			case ok && !slices.Contains(others, g.name):
				others = append(others, g.name)
			}
		}
	}
	switch {
	case len(gates) > 0:
		return gates, nil
	case len(others) > 0:
		return nil, fmt.Errorf("%w: there is no gate %q; those that remember are %s", ErrNoMemory, name, strings.Join(others, ", "))
	}
	return nil, fmt.Errorf("%w: there is no gate %q, and none that remembers", ErrNoMemory, name)
}
