package gate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// A wheelRecord is what a gate saw of the wheels of a tree. It is kept once the tree was
// released.
type wheelRecord struct {
	Run    string                   `json:"run"` // in which it was seen
	Wheels map[string]releasedWheel `json:"wheels"`

	hint string // how to let a tree pass that is held because of it
}

// A releasedWheel is one that was looked at, and was good.
type releasedWheel struct {
	Size   int64  `json:"size"`
	Time   int64  `json:"time"` // of its last change, in nanoseconds since 1970
	SHA256 string `json:"sha256"`
}

// readWheelRecord reads what was released last. It is empty if there is nothing yet.
func readWheelRecord(r *step.Run) (*wheelRecord, error) {
	file := recordOf(r, "wheel")
	last := &wheelRecord{hint: forgetHint(r.Job, "wheel", file)}
	text, err := step.ReadFile(file, step.MaxState)
	if errors.Is(err, fs.ErrNotExist) {
		return last, nil
	}
	if err == nil {
		err = json.Unmarshal(text, last)
	}
	if err != nil {
		return nil, fmt.Errorf("reading what was released last: %w (%s)", err, last.hint)
	}
	return last, nil
}

// keep makes the record that of what was released last.
func (seen *wheelRecord) keep(r *step.Run) error {
	if seen.Run != r.ID {
		return fmt.Errorf("wheel: keeping what was released: what was seen is of run %q, not of %q", seen.Run, r.ID)
	}
	text, err := json.Marshal(seen)
	if err == nil {
		err = step.WriteFile(recordOf(r, "wheel"), text)
	}
	if err != nil {
		return fmt.Errorf("wheel: keeping what was released: %w", err)
	}
	return nil
}
