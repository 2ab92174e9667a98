package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/gate"
	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// quietly is a job with a syncer that brings what it is told, and a gate and a releaser
// that count how often they are asked.
type quietly struct {
	t testing.TB
	e *Engine
	j *Job

	brings   func(r *step.Run) error
	gate     error
	release  error
	gates    int
	releases int
	others   []releaser.Releaser
	copies   []releaser.Copy // of a releaser that knows when the tree was written to
}

// told is a releaser as it is told.
type told struct{ q *quietly }

func (t told) Release(context.Context, *step.Run) (bool, error) {
	t.q.releases++
	return t.q.release == nil, t.q.release
}
func (told) Targets() []string { return []string{"a"} }
func (told) Lane() string      { return "" }

func (t told) Copies(context.Context) []releaser.Copy { return slices.Clone(t.q.copies) }

// newQuietly starts such a job. Its releaser is another one if there are any.
func newQuietly(t testing.TB, dir string, j Job, others ...releaser.Releaser) *quietly {
	t.Helper()
	q := &quietly{t: t, others: others}
	j.ReleasesRaw = []json.RawMessage{nil}
	q.start(dir, j)
	return q
}

// start starts the job in an engine.
func (q *quietly) start(dir string, j Job) {
	q.t.Helper()
	q.e = testEngine(q.t, dir)
	q.j = testJob(q.t, "x", j, func(_ context.Context, r *step.Run) error { return q.brings(r) })
	q.j.gates = []namedGate{{fakeRecorder{func(context.Context, *step.Run) error { q.gates++; return q.gate }, "g.released"}, "g"}}
	q.j.releases = q.others
	if q.others == nil {
		q.j.releases = []releaser.Releaser{told{q}}
	}
	q.e.join(q.j)
}

func (q *quietly) runner() *Runner { return q.e.Runner("x") }

// Nothing, and something.
func nothing(r *step.Run) error { r.Changed = new(false); return nil }
func broken(*step.Run) error    { return errors.New("upstream is away") }

func something(names ...string) func(*step.Run) error {
	return func(r *step.Run) error {
		r.Changed = new(true)
		for _, name := range names {
			r.Changes.Add(name)
		}
		return nil
	}
}

// run runs it as the schedule does, unless a request says otherwise, and wants that it
// ends so, with so many more looks of the gate and calls of the releaser.
func (q *quietly) run(what string, brings func(*step.Run) error, want Outcome, gates, releases int, by ...Request) {
	q.t.Helper()
	q.brings = brings
	beforeGates, beforeReleases := q.gates, q.releases
	r := q.runner()
	p := &pending{id: fmt.Sprint("run", time.Now().UnixNano()), trigger: "schedule"}
	if len(by) > 0 {
		p.trigger, p.Request = "manual", by[0]
	}
	await(q.t, "the state is read", r.isLoaded)
	if !r.run(q.j, p) {
		q.t.Fatalf("%s: it cannot run", what)
	}
	run, _ := r.Find(p.id)
	if run.Outcome != want {
		q.t.Errorf("%s: the run ended with %+v, want %s", what, run, want)
	}
	if g, n := q.gates-beforeGates, q.releases-beforeReleases; g != gates || n != releases {
		q.t.Errorf("%s: the gate has looked %d times, and it was released %d times; want %d and %d", what, g, n, gates, releases)
	}
}

func (q *quietly) pending() *Backlog { return q.runner().Status(time.Now()).Pending }

// TestQuiet: a run that brings nothing releases nothing, nor do gates look, but for what
// an earlier run has left.
func TestQuiet(t *testing.T) {
	dir := t.TempDir()
	q := newQuietly(t, dir, Job{})
	q.run("first", nothing, Released, 1, 1)
	for range 5 {
		q.run("quiet", nothing, Unchanged, 0, 0)
	}
	q.run("one change", something("a"), Released, 1, 1)
	q.run("quiet again", nothing, Unchanged, 0, 0)
	q.run("asked for", nothing, Released, 1, 1, Request{Release: true})
	q.gate = &gate.Verdict{Gate: "g", Reason: "no"}
	q.run("asked for, and held", nothing, Held, 1, 0, Request{Release: true})
	q.gate = nil
	q.run("what was asked for", nothing, Released, 1, 1)
	q.run("by hand", nothing, Unchanged, 0, 0, Request{})
	q.run("a syncer that does not know", func(*step.Run) error { return nil }, Released, 1, 1)

	// What was brought and not released is released by the next run.
	q.gate = &gate.Verdict{Gate: "g", Reason: "no"}
	q.run("held", something("a"), Held, 1, 0)
	if b := q.pending(); b == nil || b.Changes != 1 || b.Why != "" {
		t.Errorf("held: pending is %+v", b)
	}
	q.run("held still", nothing, Held, 1, 0)
	q.gate = nil
	q.run("not held", nothing, Released, 1, 1)
	q.release = errors.New("no")
	q.run("release failed", something("a"), Failed, 1, 1)
	q.release = nil
	q.run("away meanwhile", broken, Failed, 0, 0)
	q.run("and then", nothing, Released, 1, 1)
	q.run("the sync failed before it began", func(r *step.Run) error { r.Changed = new(false); return errors.New("away") }, Failed, 0, 0)
	q.run("quiet after that", nothing, Unchanged, 0, 0)
	q.run("the sync failed, nobody knows where", broken, Failed, 0, 0)
	q.run("released after that", nothing, Released, 1, 1)
	q.run("the sync failed in the middle", func(r *step.Run) error { _ = something("a")(r); return errors.New("away") }, Failed, 0, 0)
	if b := q.pending(); b == nil || b.Changes != 1 || b.Uncounted {
		t.Errorf("the sync failed in the middle: pending is %+v", b)
	}
	q.run("released after that, too", nothing, Released, 1, 1)
	// In a session of its own before its parent ends, and the group with that.
	const script = `setsid sh -c 'echo >"$0"; exec sleep 2.5' "$1" >/dev/null 2>&1 & until test -e "$1"; do sleep 0.01; done`
	begun := filepath.Join(t.TempDir(), "begun")
	q.run("a process is left that may write", func(r *step.Run) error {
		_, err := r.Command(t.Context(), step.Command{Name: "/bin/sh", Args: []string{"-c", script, "sh", begun}})
		return errors.Join(err, nothing(r))
	}, Failed, 0, 0)
	await(t, "it is gone", func() bool { return len(holders(q.runner().lockName())) == 0 })
	q.run("released after that, as well", nothing, Released, 1, 1)
	q.run("a panic", func(*step.Run) error { panic("oops") }, Failed, 0, 0)
	q.run("released after a panic", nothing, Released, 1, 1)

	// Somebody else has written to it, or what is released is not in order.
	at := time.Unix(1000, 0)
	q.copies = []releaser.Copy{{Target: "a", Stage: releaser.ReadWrite, At: at}, {Target: "a", Stage: releaser.ReadOnly, Site: "s", At: at}}
	q.run("it is seen when it was written to", nothing, Released, 1, 1)
	q.run("which has not changed", nothing, Unchanged, 0, 0)
	q.run("written to by the sync", func(r *step.Run) error { q.copies[0].At = at.Add(time.Minute); return nothing(r) }, Unchanged, 0, 0)
	q.copies[0].At = at.Add(time.Hour)
	q.gate = &gate.Verdict{Gate: "g", Reason: "no"}
	q.run("written to by hand, and held", nothing, Held, 1, 0)
	q.gate = nil
	q.run("written to by hand", nothing, Released, 1, 1)
	q.run("which was released", nothing, Unchanged, 0, 0)
	q.copies[1].Error = "old release"
	q.run("a site is off", nothing, Released, 1, 1)
	q.copies[1].Error = ""
	q.run("it is on again", nothing, Unchanged, 0, 0)

	if removed, err := q.runner().Forget("g"); err != nil || len(removed) != 1 {
		t.Errorf("forgotten: %q, %v", removed, err)
	}
	q.run("the gate has forgotten it", nothing, Released, 1, 1)
	q.run("and knows it again", nothing, Unchanged, 0, 0)

	// Other settings, and a state that is lost.
	q.j.settings = "new"
	q.run("configured anew", nothing, Released, 1, 1)
	q.run("as before", nothing, Unchanged, 0, 0)
	q.e.shutdown()
	settings := q.j.settings
	q.start(dir, *q.j)
	q.j.settings = settings
	q.run("after a restart", nothing, Unchanged, 0, 0)
	q.e.shutdown()
	if err := os.Remove(filepath.Join(dir, "x", stateName)); err != nil {
		t.Fatal(err)
	}
	q.start(dir, *q.j)
	q.run("without its state", nothing, Released, 1, 1)
}

// TestAtLeast: what is only bookkeeping is released once a day, unless it is not to be.
func TestAtLeast(t *testing.T) {
	age := func(q *quietly, by time.Duration) {
		q.runner().update(func() { q.runner().state.Settled = q.runner().state.Settled.Add(-by) })
	}
	q := newQuietly(t, t.TempDir(), Job{})
	q.run("first", nothing, Released, 1, 1)
	age(q, 23*time.Hour)
	q.run("not yet", nothing, Unchanged, 0, 0)
	age(q, time.Hour)
	q.gate = &gate.Verdict{Gate: "g", Reason: "no"}
	q.run("after a day, held", nothing, Held, 1, 0)
	q.gate = nil
	q.run("after a day", nothing, Released, 1, 1)
	q.run("and no more", nothing, Unchanged, 0, 0)

	q = newQuietly(t, t.TempDir(), Job{ReleaseAtLeast: -1, ReleaseWhen: &ReleaseWhen{Changes: 10}})
	q.run("first", nothing, Released, 1, 1)
	age(q, 1000*time.Hour)
	q.run("never", nothing, Unchanged, 0, 0)
	q.run("never, though something waits", something("a"), Pending, 0, 0)

	q = newQuietly(t, t.TempDir(), Job{ReleaseAtLeast: caddy.Duration(time.Hour), ReleaseWhen: &ReleaseWhen{Changes: 10}})
	q.run("first", nothing, Released, 1, 1)
	q.run("waits", something("a"), Pending, 0, 0)
	age(q, time.Hour)
	q.run("waits no longer", nothing, Released, 1, 1)
}

// TestReleaseWhen: what waits is counted over runs and restarts, and released when it is
// enough, old, urgent, or by hand.
func TestReleaseWhen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(t.TempDir(), "upper-constraints.txt")
	if err := os.WriteFile(file, []byte("# comment\nOslo.Config===9.0 ; python_version>='3.9'\nzope-interface===6\nbad line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	when := &ReleaseWhen{Changes: 4, After: caddy.Duration(4 * time.Hour), Projects: []string{file}}
	q := newQuietly(t, dir, Job{ReleaseWhen: when})
	q.run("first", something("a", "b", "c", "d", "e"), Released, 1, 1)

	q.run("a few", something("a", "b"), Pending, 0, 0)
	q.run("the same", something("a", "b"), Pending, 0, 0)
	q.run("nothing more", nothing, Pending, 0, 0)
	q.run("one of them, before upstream goes away", func(r *step.Run) error { _ = something("c")(r); return errors.New("away") }, Failed, 0, 0)
	q.run("nothing more, once more", nothing, Pending, 0, 0)
	b := q.pending()
	if b == nil || b.Changes != 3 || !slices.Equal(b.Names, []string{"a", "b", "c"}) || b.Why != "3 of 4 changes" || b.Uncounted ||
		time.Since(b.Since) > time.Minute || !b.Due.Equal(b.Since.Add(4*time.Hour)) {
		t.Errorf("pending is %+v", b)
	}
	if s := q.runner().Status(time.Now()); s.Failures != 0 || s.Last.Outcome != Pending || time.Since(s.Seen) > time.Minute {
		t.Errorf("status is %+v", s)
	}
	q.e.shutdown()
	q.start(dir, *q.j)
	q.run("after a restart", nothing, Pending, 0, 0)
	q.run("enough", something("d"), Released, 1, 1)
	if b := q.pending(); b != nil {
		t.Errorf("released, and pending is %+v", b)
	}
	q.run("then", nothing, Unchanged, 0, 0)

	q.run("waits", something("a"), Pending, 0, 0)
	q.run("by hand", nothing, Released, 1, 1, Request{})
	q.run("waits", something("a"), Pending, 0, 0)
	q.runner().update(func() { b := q.runner().state.Backlog; b.Since = b.Since.Add(-4 * time.Hour) })
	q.run("old", nothing, Released, 1, 1)
	q.run("waits", something("a"), Pending, 0, 0)
	q.run("urgent", something("oslo-config"), Released, 1, 1)
	q.run("waits", something("simple/index.html"), Pending, 0, 0)
	q.run("urgent by a file", something("web/simple/z/zope.interface/index.html"), Released, 1, 1)
	q.run("waits", something("bad"), Pending, 0, 0)

	q.run("it is not known what", func(*step.Run) error { return nil }, Released, 1, 1)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := q.j.Ready(); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("without its constraints it is ready: %v", err)
	}
	q.run("the constraints cannot be read", something("a"), Released, 1, 1)
	q.run("nor need they", nothing, Unchanged, 0, 0)

	when.Projects = nil
	q.run("it is not known what else", func(r *step.Run) error { r.Changes.Add("a"); return nil }, Pending, 0, 0)
	if b := q.pending(); b == nil || !b.Uncounted || b.Changes != 1 {
		t.Errorf("pending is %+v", b)
	}
	q.run("by hand", nothing, Released, 1, 1, Request{})
	q.run("it is not known what, and need not be", func(*step.Run) error { return nil }, Pending, 0, 0)
	if b := q.pending(); b == nil || !b.Uncounted || b.Why != "0 of 4 changes, and what nobody has counted" {
		t.Errorf("pending is %+v", b)
	}
	when.Changes = 0
	q.run("only time counts", nothing, Pending, 0, 0)
	if b := q.pending(); b == nil || b.Why != "changes that nobody has counted" {
		t.Errorf("pending is %+v", b)
	}
	when.Changes, when.After = 4, 0
	q.run("it is not known what, and no time is said", nothing, Released, 1, 1)
}

// TestInterrupted: what a sync has changed that nobody has seen the end of is released.
func TestInterrupted(t *testing.T) {
	for _, stage := range []string{"sync", "gate g"} {
		dir := t.TempDir()
		q := newQuietly(t, dir, Job{})
		q.run("first", nothing, Released, 1, 1)
		var state []byte
		look := func() {
			var err error
			if state, err = os.ReadFile(filepath.Join(dir, "x", stateName)); err != nil {
				t.Fatal(err)
			}
		}
		q.j.gates = []namedGate{{fake(func(context.Context, *step.Run) error {
			if stage != "sync" {
				look()
			}
			return nil
		}), "g"}}
		q.run(stage, func(r *step.Run) error {
			if stage == "sync" {
				look() // as it is if the server is killed now
			}
			return something("a")(r)
		}, Released, 0, 1)
		q.e.shutdown()
		if err := os.WriteFile(filepath.Join(dir, "x", stateName), state, 0o600); err != nil {
			t.Fatal(err)
		}
		q.start(dir, *q.j)
		await(t, "the state is read", q.runner().isLoaded)
		if b := q.pending(); b == nil || b.Uncounted != (stage == "sync") {
			t.Errorf("killed in %s: pending is %+v", stage, b)
		}
		q.run("after a kill in "+stage, nothing, Released, 1, 1)
		q.run("and then", nothing, Unchanged, 0, 0)
	}
}

// TestTellTree: releases that are snapshots are compared with the tree, but for
// bookkeeping.
func TestTellTree(t *testing.T) {
	root := t.TempDir()
	tree, link := filepath.Join(root, "tree"), filepath.Join(root, "link")
	put := func(name, text string) {
		t.Helper()
		name = filepath.Join(tree, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name+".new", []byte(text), 0o644), os.Rename(name+".new", name)); err != nil {
			t.Fatal(err)
		}
	}
	served := func(name string) string {
		text, err := os.ReadFile(filepath.Join(link, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	put("web/simple/a", "1")
	q := newQuietly(t, t.TempDir(), Job{Directory: tree}, &releaser.Snapshot{Link: link, Keep: 3})
	n := 0
	beat := func(r *step.Run) error {
		n++
		put("web/last-modified", fmt.Sprint(n))
		r.Bookkeeping = func(name string) bool { return name == "web/last-modified" || name == "web/other" }
		return nothing(r)
	}
	q.run("first", beat, Released, 1, 0)
	target := func() string {
		to, err := os.Readlink(link)
		if err != nil {
			t.Fatal(err)
		}
		return to
	}
	was := target()
	for range 5 {
		q.run("quiet", beat, Unchanged, 0, 0)
	}
	put("web/other", "")
	q.run("more bookkeeping", beat, Unchanged, 0, 0)
	if target() != was {
		t.Errorf("a run that brought nothing has released %s", target())
	}
	put("web/simple/a", "2")
	q.run("written to by hand", beat, Released, 1, 0)
	if served("web/simple/a") != "2" || served("web/last-modified") != fmt.Sprint(n) {
		t.Errorf("served are %q and %q", served("web/simple/a"), served("web/last-modified"))
	}
	q.run("quiet", beat, Unchanged, 0, 0)
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	q.run("the release is gone", beat, Released, 1, 0)

	q = newQuietly(t, t.TempDir(), Job{Directory: tree}, &releaser.Snapshot{Tree: filepath.Join(tree, "web"), Link: filepath.Join(root, "web"), Keep: 3})
	q.run("a part of the tree", beat, Released, 1, 0)
	q.run("a part of the tree, quiet", beat, Unchanged, 0, 0)
	put("web/simple/b", "2")
	q.run("a part of the tree, written to", beat, Released, 1, 0)
}
