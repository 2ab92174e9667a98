// Package gate has the checks that a tree must pass after it was brought up to
// date and before it is released.
//
// Gates are Caddy modules of the namespace mirror.gates.
package gate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Gate says whether a tree may be released.
type Gate interface {
	// Check returns nil if it may. A [*Verdict] says why not. Any other error says
	// that the gate could not look: nothing is known of the tree then.
	Check(ctx context.Context, r *step.Run) error
}

// noteUpstream notes when upstream last changed what it has, if no step before knew
// better.
func noteUpstream(r *step.Run, t time.Time) {
	if r.Upstream.IsZero() {
		r.Upstream = t
	}
}

// Recorder is a Gate that compares a tree with the one released before.
type Recorder interface {
	Gate

	// Remembers is the name of the file in [step.Run.State] that holds what is known of
	// the last release. Gates of the same name in a job may share it. Without the file
	// the next tree is compared with nothing; see [Forget].
	Remembers() string

	// Released keeps what Check saw in the same run. It is called when that has
	// been released, or found to be what is released already, and only then.
	Released(r *step.Run) error
}

// Forget makes a gate forget the last release, in a job whose state is in that directory.
// It returns the file that it has removed, or "" if there was nothing to forget. The job
// must not run meanwhile.
func Forget(g Recorder, state string) (file string, err error) {
	file = filepath.Join(state, g.Remembers())
	err = os.Remove(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("forgetting the last release: %w", err)
	}
	return file, nil
}

// forgetHint tells an operator how to let a tree pass that a gate holds because of what
// it remembers in file.
func forgetHint(job, gate, file string) string {
	return fmt.Sprintf("if this is as it should be, run `caddy mirror forget %s %s`, which removes %s, and run the job again", job, gate, file)
}

// Verdict is why a tree may not be released.
type Verdict struct { //nolint:errname // what an operator reads is a verdict
	// Gate is the name of the gate.
	Gate string

	// File is what is wrong, relative to the tree. It is empty if no single file
	// is to blame.
	File string

	// Reason says what is wrong with it.
	Reason string

	// More are further problems, the first few of them.
	More []Problem

	// Count is how many problems there are in all.
	Count int
}

// Problem is something wrong with a tree.
type Problem struct {
	// File is relative to the tree.
	File string

	Reason string
}

func (p Problem) String() string {
	if p.File == "" {
		return p.Reason
	}
	return fault.Show(p.File) + ": " + p.Reason
}

// Error names the gate and the first problems, and says how many there are.
func (v *Verdict) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", v.Gate, Problem{v.File, v.Reason})
	for _, p := range v.More {
		fmt.Fprintf(&b, "; %s", p)
	}
	if n := v.Count - 1 - len(v.More); n > 0 {
		fmt.Fprintf(&b, "; and %d more", n)
	}
	return b.String()
}
