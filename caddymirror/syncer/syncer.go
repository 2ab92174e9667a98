// Package syncer brings the tree of a job up to date.
//
// Syncers are Caddy modules of the namespace mirror.syncers. Whatever they run,
// they run through [step.Run.Command], so that it has the environment, the tickets
// and the end that the job gives it.
package syncer

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Syncer brings a tree up to date.
type Syncer interface {
	// Sync returns nil if the tree is as new as the syncer can make it. After an
	// error the tree may be of two states at once and must not be released; the
	// next Sync mends that.
	Sync(ctx context.Context, r *step.Run) error
}

// note has something remembered of the run.
func note(r *step.Run, name, value string) {
	if r.Notes == nil {
		r.Notes = map[string]string{}
	}
	r.Notes[name] = value
}

// saveState writes what is to be known in the next run.
func saveState(r *step.Run, name string, data []byte) error {
	return step.WriteFile(filepath.Join(r.State, name), data)
}

// loadState reads what an earlier run has saved under head, which names what it is
// about. There is nothing if that was about something else.
func loadState(r *step.Run, name, head string) ([]byte, error) {
	data, err := step.ReadFile(filepath.Join(r.State, name), step.MaxState)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	body, ok := bytes.CutPrefix(data, []byte(head+"\n"))
	if !ok {
		return nil, nil
	}
	return body, nil
}
