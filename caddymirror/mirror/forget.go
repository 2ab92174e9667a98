package mirror

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/gate"
)

// forgetRequest names the gate that is to forget what was released last.
type forgetRequest struct {
	Gate string `json:"gate"`
}

// forgetReply says what was removed.
type forgetReply struct {
	// Removed are the files that gates of the name kept: none if they remembered nothing.
	Removed []string `json:"removed"`
}

func (r *runner) serveForget(w http.ResponseWriter, req *http.Request) error {
	var q forgetRequest
	if err := decode(w, req, &q); err != nil {
		return err
	}
	if q.Gate == "" {
		return apiError(http.StatusBadRequest, errors.New("which gate?"))
	}
	removed, err := within(func() ([]string, error) { return r.forget(q.Gate) })
	if err != nil {
		err = fmt.Errorf("job %s: %w", r.name, err)
	}
	switch {
	case errors.Is(err, errNoMemory):
		return apiError(http.StatusNotFound, err)
	case errors.Is(err, errRunning):
		return apiError(http.StatusConflict, err)
	case err != nil:
		return err
	}
	return reply(w, forgetReply{removed})
}

// errNoMemory says that there is no gate of that name, or that it keeps nothing.
var errNoMemory = errors.New("nothing can be forgotten")

// forget has the gates of that name forget the last release, so that the next tree is
// compared with nothing. It returns the files that were removed.
func (r *runner) forget(name string) (removed []string, err error) {
	// No run begins while this is held: its beginning is kept in the state first.
	r.saving.Lock()
	defer r.saving.Unlock()
	r.mu.Lock()
	gates, err := r.recorders(name)
	if c := r.state.Current; err == nil && c != nil {
		err = fmt.Errorf("%w: run %s; wait for its end", errRunning, c.ID)
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
func (r *runner) recorders(name string) (gates []gate.Recorder, err error) {
	var others []string
	if len(r.configs) > 0 {
		for _, g := range r.configs[0].gates {
			rec, ok := g.Gate.(gate.Recorder)
			switch {
			case ok && g.name == name:
				gates = append(gates, rec)
			case g.name == name:
				return nil, fmt.Errorf("%w: gate %s remembers nothing", errNoMemory, name)
			case ok && !slices.Contains(others, g.name):
				others = append(others, g.name)
			}
		}
	}
	switch {
	case len(gates) > 0:
		return gates, nil
	case len(others) > 0:
		return nil, fmt.Errorf("%w: there is no gate %q; those that remember are %s", errNoMemory, name, strings.Join(others, ", "))
	}
	return nil, fmt.Errorf("%w: there is no gate %q, and none that remembers", errNoMemory, name)
}
