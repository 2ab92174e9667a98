package wheels

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// state is what became of a wheel that was wanted.
type state int

const (
	built    state = iota // now
	kept                  // built by a run before
	upstream              // the index has one
	denied                // by name
	broken                // it could not be built
	waiting               // it could not be built before, and is not tried again yet
	states
)

var stateNames = [states]string{"built", "published", "upstream", "denied", "failed", "waiting"}

// tally counts what became of what was wanted, and tells how far the run is.
type tally struct {
	r *step.Run

	mu       sync.Mutex
	expected int
	done     int
	counts   [states]int
	problems int      // lines of constraints
	reasons  []string // of the first failures
	now      string   // what is being built
}

// maxReasons is how many failures the error of a run names.
const maxReasons = 5

func newTally(r *step.Run) *tally { return &tally{r: r} }

func (t *tally) expect(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.expected += n
}

func (t *tally) get(s state) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[s]
}

// failed notes why something cannot be built; with "" only that it cannot.
func (t *tally) failed(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.expected == 0 {
		t.problems++ // before there is a plan
	}
	if reason != "" && len(t.reasons) < maxReasons {
		t.reasons = append(t.reasons, reason)
	}
}

// begin tells that a build begins.
func (t *tally) begin(what string) {
	t.mu.Lock()
	t.now = what
	t.mu.Unlock()
	t.show()
}

func (t *tally) add(s state) {
	t.mu.Lock()
	t.counts[s]++
	t.done++
	t.mu.Unlock()
	t.show()
}

// show tells how far the run is.
func (t *tally) show() {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts := map[string]int{"lines_unreadable": t.problems}
	for s, name := range stateNames {
		counts[name] = t.counts[s]
	}
	p := step.Progress{Stage: "wheels", Done: -1}
	if t.expected > 0 {
		p.Done = float64(t.done) / float64(t.expected)
	}
	detail := []string{fmt.Sprintf("%d/%d", t.done, t.expected)}
	for _, s := range []state{built, broken} {
		if n := t.counts[s]; n > 0 {
			detail = append(detail, fmt.Sprintf("%d %s", n, stateNames[s]))
		}
	}
	if t.now != "" && t.done < t.expected {
		detail = append(detail, t.now)
	}
	p.Detail = strings.Join(detail, ", ")
	t.r.Report(p)
	t.r.Count(counts)
}

// verdict is an error if more has failed than may.
func (f *farm) verdict() error {
	t := f.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	failed := t.counts[broken] + t.counts[waiting] + t.problems
	all := t.expected + t.problems
	if f.w.budget.allows(failed, all) {
		return nil
	}
	text := fmt.Sprintf("%d of %d wheels cannot be built, and max_failures is %s: %s", failed, all, f.w.budget.text, strings.Join(t.reasons, "; "))
	if more := failed - len(t.reasons); more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return errors.New(text)
}
