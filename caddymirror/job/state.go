package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// maxRuns is how many runs of a job are remembered, at least.
const maxRuns = 30

// Outcome is how a run ended.
type Outcome string

// Outcomes of runs.
const (
	Released    Outcome = "released"    // all went well, and there is a new release
	Unchanged   Outcome = "unchanged"   // all went well, and there was nothing to release
	Pending     Outcome = "pending"     // all went well, and what was brought is released later
	Failed      Outcome = "failed"      // a step failed
	Held        Outcome = "gate"        // a gate would not let it pass
	Interrupted Outcome = "interrupted" // this process was ended in the middle of it
	Busy        Outcome = "busy"        // somebody else had the lock
)

// Good reports whether the job has done what it is for.
func (o Outcome) Good() bool { return o == Released || o == Unchanged || o == Pending }

// Run is a run of a job.
type Run struct {
	ID      string    `json:"id"`
	Trigger string    `json:"trigger"` // "schedule", "retry" or "manual"
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"`
	Outcome Outcome   `json:"outcome,omitempty"` // empty while it runs
	Stage   string    `json:"stage,omitempty"`   // where it is, or failed: "sync", "gate shrink", "release"
	Error   string    `json:"error,omitempty"`
	Code    int       `json:"exit_code,omitempty"` // of the command that failed
	Bytes   int64     `json:"bytes,omitempty"`     // fetched, if known

	// Stages is how long each took, in seconds.
	Stages map[string]float64 `json:"stages,omitempty"`

	// PID is the process group of the command that runs, or that ran on when the
	// server had ended.
	PID  int    `json:"pid,omitempty"`
	Mark string `json:"pid_mark,omitempty"` // tells it from others that had, or will have, its number

	// Tail is the end of what the last command printed, if the run has failed. Only the
	// last run has it.
	Tail string `json:"tail,omitempty"`

	// Notes are what syncers note of the run: "serial" and "todo" of bandersnatch,
	// "source" of rsync.
	Notes map[string]string `json:"notes,omitempty"`

	// Counts are how many of what steps work on they have found in which state: "built"
	// and "failed" of wheels.
	Counts map[string]int `json:"counts,omitempty"`
}

// clone returns a copy that shares nothing.
func (r *Run) clone() Run {
	c := *r
	c.Stages, c.Notes, c.Counts = maps.Clone(r.Stages), maps.Clone(r.Notes), maps.Clone(r.Counts)
	return c
}

// Hold keeps a job from running by schedule.
type Hold struct {
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"` // zero: it is configured
}

// state is what is known of a job over restarts.
type state struct {
	Hold        *Hold     `json:"hold,omitempty"`
	Current     *Run      `json:"current,omitempty"`
	Runs        []*Run    `json:"runs,omitempty"` // the last first
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastRelease time.Time `json:"last_release,omitzero"`
	Failures    int       `json:"failures,omitempty"` // in a row

	// Backlog is what the tree has and the last release has not; nil if nothing. While
	// Syncing is set it may be more.
	Backlog *Backlog `json:"backlog,omitempty"`
	Syncing bool     `json:"syncing,omitempty"`

	// Settled is when the tree was last released, or found to be what is released, by a
	// run that took all steps, and Settings what its settings were.
	Settled  time.Time `json:"settled,omitzero"`
	Settings string    `json:"settings,omitempty"`

	// How new the data were at each stage when the last run ended.
	Seen     time.Time       `json:"seen,omitzero"`
	Serial   int64           `json:"serial,omitempty"`
	Upstream time.Time       `json:"upstream,omitzero"`
	Copies   []releaser.Copy `json:"copies,omitempty"`
}

const stateName = "state.json"

// loadState reads the state of a job. A run that has not ended was interrupted; it
// is returned, too. If the state cannot be read, the job is held: it may have been.
func loadState(dir string, now time.Time) (s state, interrupted *Run, err error) {
	name := filepath.Join(dir, stateName)
	text, err := step.ReadFile(name, step.MaxState)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		err = fmt.Errorf("reading the state of a job, now at %s.bad: %w", name, err)
		err = errors.Join(err, os.Rename(name, name+".bad"))
		return state{Hold: &Hold{Reason: err.Error(), Since: now}}, nil, err
	}
	if r := s.Current; r != nil {
		r.Outcome, r.Ended = Interrupted, now
		r.Error = "the server was ended while the job ran"
		s.syncEnded(r)
		s.Current = nil
		s.record(r, len(s.Runs)+1)
		interrupted = r
	}
	return s, interrupted, nil
}

// syncEnded notes the end of the sync of a run, if nobody has counted what it brought.
func (s *state) syncEnded(r *Run) {
	if s.Syncing {
		s.Syncing, s.Backlog = false, s.Backlog.vague(r.Began)
	}
}

// settle notes that the tree is what is released.
func (s *state) settle(settings string, now time.Time) {
	s.Backlog, s.Settled, s.Settings = nil, now, settings
}

// record takes a run that has ended into the history, of which so many are kept.
func (s *state) record(r *Run, keep int) {
	if len(s.Runs) > 0 {
		s.Runs[0].Tail = ""
	}
	// Of runs in a row that found the lock taken only the last is kept: they must not push out
	// older runs.
	if r.Outcome == Busy && len(s.Runs) > 0 && s.Runs[0].Outcome == Busy {
		s.Runs = s.Runs[1:]
	}
	s.Runs = slices.Insert(s.Runs, 0, r)
	s.Runs = slices.Clip(slices.Delete(s.Runs, min(len(s.Runs), keep), len(s.Runs)))
	switch {
	case r.Outcome.Good():
		s.LastSuccess, s.Failures = r.Ended, 0
		if r.Outcome == Released {
			s.LastRelease = r.Ended
		}
	case r.Outcome != Busy:
		s.Failures++
	}
}

// text is the state as it is kept.
func (s *state) text() ([]byte, error) {
	text, err := json.MarshalIndent(s, "", "\t")
	return append(text, '\n'), err
}

// saveState writes the state, so that a crash leaves either the old or the new.
func saveState(dir string, text []byte) error {
	if err := step.WriteFile(filepath.Join(dir, stateName), text); err != nil {
		return fmt.Errorf("writing the state of a job: %w", err)
	}
	return nil
}
