package job

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Status is the state of a job.
type Status struct {
	Name string `json:"name"`

	// State is "idle", "running", "waiting" (see Waits), "held" (see Hold), "failing"
	// (the last run failed; Next is the next try) or "leaving" (it is in no config any
	// more, and its last run has not ended).
	State string `json:"state"`

	Next        time.Time `json:"next,omitzero"` // zero: not by itself
	Last        *Run      `json:"last,omitempty"`
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastRelease time.Time `json:"last_release,omitzero"`
	Failures    int       `json:"failures,omitempty"` // in a row
	Hold        *Hold     `json:"hold,omitempty"`

	// Pending is what was brought and is not released yet.
	Pending *Backlog `json:"pending,omitempty"`

	// Seen is when upstream was last seen: when the last sync that went well began.
	Seen time.Time `json:"seen,omitzero"`

	// Serial is the number of the last change of upstream that is in the tree, as PyPI
	// counts them; 0 if there is none.
	Serial int64 `json:"serial,omitempty"`

	// Upstream is how new upstream's data are, by the dates of its indexes or bandersnatch's
	// `last-modified`. Copies are how new the data are where they are written and where they are
	// served from. Both are as they were when the last run ended.
	Upstream time.Time       `json:"upstream,omitzero"`
	Copies   []releaser.Copy `json:"copies,omitempty"`

	Waits string `json:"waits,omitempty"`

	// Current is the run under way, Progress how far it is, and Estimate how long it
	// may take in all, by those before it that went well; 0 is not known.
	Current  *Run           `json:"current,omitempty"`
	Progress *step.Progress `json:"progress,omitempty"`
	Estimate float64        `json:"estimate_seconds,omitempty"`

	// Runs are those that are remembered, the last first. Only the status of a single
	// job has them.
	Runs []Run `json:"runs,omitempty"`

	// Problem says which part of the job's state or of the last log cannot be kept, and why.
	Problem string `json:"problem,omitempty"`
}

// Served is how old the release is that is served; of several copies, the oldest. Zero is
// not known.
func (s Status) Served() time.Time {
	if at := oldest(s.Copies, releaser.ReadOnly); !at.IsZero() {
		return at
	}
	return s.LastRelease // of a releaser that does not know
}

// Written is how old the data are where they are written; of several copies, the oldest.
// Zero is not known.
func (s Status) Written() time.Time { return oldest(s.Copies, releaser.ReadWrite) }

// History is the status of a job with its runs.
func (r *Runner) History(now time.Time) Status {
	s := r.Status(now)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, run := range r.state.Runs {
		s.Runs = append(s.Runs, run.clone())
	}
	return s
}

// Status is the status of a job.
func (r *Runner) Status(now time.Time) Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Status{
		Name: r.name, State: "idle", LastSuccess: r.state.LastSuccess, LastRelease: r.state.LastRelease,
		Failures: r.state.Failures, Hold: r.held(), Waits: r.waits,
		Pending: r.state.Backlog.shown(), Seen: r.state.Seen, Serial: r.state.Serial,
		Upstream: r.state.Upstream, Copies: slices.Clone(r.state.Copies),
	}
	if len(r.state.Runs) > 0 {
		s.Last = new(r.state.Runs[0].clone())
	}
	hangs := r.Hangs(now)
	problem := errors.Join(hangs, r.problem)
	if r.out != nil {
		problem = errors.Join(problem, r.out.problem())
	}
	if problem != nil {
		s.Problem = strings.ReplaceAll(problem.Error(), "\n", "; ")
	}
	if s.Failures > 0 {
		s.State = "failing"
	}
	switch {
	case r.state.Current != nil || s.Waits != "":
	case hangs != nil:
		s.Waits = hangs.Error()
	case !r.isLoaded():
		s.Waits = ErrNotLoaded.Error()
	}
	if len(r.configs) > 0 && s.Hold == nil && r.isLoaded() {
		s.Next, _ = r.due(r.configs[0], now)
		if !s.Next.IsZero() && s.Next.Before(now) {
			s.Next = now
		}
	}
	switch {
	case r.state.Current != nil:
		s.State = "running"
		s.Current, s.Progress, s.Next = new(r.state.Current.clone()), new(r.progress), time.Time{}
		s.Estimate = r.estimate().Seconds()
		if len(r.configs) == 0 {
			s.State = "leaving"
		}
	case s.Waits != "":
		s.State = "waiting"
	case s.Hold != nil:
		s.State = "held"
	}
	return s
}

// estimate is the mean time of the last runs that went well. r.mu is held.
func (r *Runner) estimate() time.Duration {
	const most = 5
	var sum time.Duration
	n := 0
	for _, run := range r.state.Runs {
		if run.Outcome.Good() && n < most {
			sum += run.Ended.Sub(run.Began)
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / time.Duration(n)
}
