package job

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/unifiedmirrors/mirror/caddymirror/gate"
	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// fake is a syncer, gate or releaser made of a function.
type fake func(context.Context, *step.Run) error

func (f fake) Sync(ctx context.Context, r *step.Run) error  { return f(ctx, r) }
func (f fake) Check(ctx context.Context, r *step.Run) error { return f(ctx, r) }

type fakeReleaser struct {
	fake
	targets []string
	lane    string
}

func (f fakeReleaser) Release(ctx context.Context, r *step.Run) (bool, error) {
	return true, f.fake(ctx, r)
}
func (f fakeReleaser) Targets() []string { return f.targets }
func (f fakeReleaser) Lane() string      { return f.lane }

func none(context.Context, *step.Run) error { return nil }

// testJob is a job as a config has it after provisioning.
func testJob(t testing.TB, name string, j Job, f fake) *Job {
	t.Helper()
	j.name, j.log, j.syncer = name, zap.NewNop(), f
	j.SyncRaw = json.RawMessage("{}")
	j.setDefaults()
	if err := j.check(); err != nil {
		t.Fatal(err)
	}
	var err error
	if j.schedule, err = newSchedule(&j); err != nil {
		t.Fatal(err)
	}
	return &j
}

func testEngine(t testing.TB, dir string) *Engine {
	t.Helper()
	e := newEngine(dir)
	e.holds++
	if err := e.awaitDir(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.shutdown)
	return e
}

// ended waits until a run that was asked for has ended.
func ended(t testing.TB, r *Runner, id string) Run {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	run, ok := r.Await(ctx, id)
	if !ok || run.Outcome == "" {
		t.Fatalf("run %s: %+v, %t", id, run, ok)
	}
	return run
}

func begin(t testing.TB, r *Runner) string {
	t.Helper()
	id, err := r.Ask(Request{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// TestLife: days of a job, on a clock of their own: runs on time, back-off after
// failures, its end, a hold, and what was missed while the server was down.
func TestLife(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		var runs []time.Duration
		var fail atomic.Bool
		job := testJob(t, "x", Job{Every: caddy.Duration(2 * time.Hour)}, func(_ context.Context, r *step.Run) error {
			mu.Lock()
			runs = append(runs, time.Since(start).Round(time.Second))
			mu.Unlock()
			if fail.Load() {
				return errors.New("no luck")
			}
			return nil
		})
		expect := func(what string, want ...time.Duration) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(runs, want) {
				t.Errorf("%s: runs at %v, want %v", what, runs, want)
			}
			runs = nil
		}
		e := testEngine(t, dir)
		e.join(job)
		r := e.Runner("x")
		time.Sleep(5 * time.Hour)
		expect("by the schedule", 0, 2*time.Hour, 4*time.Hour)

		fail.Store(true)
		time.Sleep(4 * time.Hour) // from 5:00 to 9:00
		var want []time.Duration
		at := 6 * time.Hour
		for _, minutes := range []int{0, 1, 2, 4, 8, 16, 32, 60} {
			at += time.Duration(minutes) * time.Minute
			want = append(want, at)
		}
		expect("failing", want...)
		if s := r.Status(time.Now()); s.State != "failing" || s.Failures != 8 || s.Last.Error != "sync: no luck" || s.Last.Trigger != "retry" {
			t.Errorf("failing: %+v, %+v", s, s.Last)
		}
		fail.Store(false)
		time.Sleep(3 * time.Hour) // to 12:00
		expect("good again", 9*time.Hour+3*time.Minute, 11*time.Hour+3*time.Minute)
		if s := r.Status(time.Now()); s.State != "idle" || s.Failures != 0 {
			t.Errorf("good again: %+v", s)
		}

		if err := r.Hold(&Hold{Reason: "upstream is moving", Since: time.Now()}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Hour) // to 22:00
		expect("held")
		if s := r.Status(time.Now()); s.State != "held" || !s.Next.IsZero() || s.Hold.Reason != "upstream is moving" {
			t.Errorf("held: %+v", s)
		}
		if run := ended(t, r, begin(t, r)); run.Outcome != Unchanged || run.Trigger != "manual" {
			t.Errorf("by hand: %+v", run)
		}
		expect("by hand", 22*time.Hour)

		// Down for some hours, and held over the restart.
		e.shutdown()
		time.Sleep(7 * time.Hour) // to 29:00
		e = testEngine(t, dir)
		e.join(job)
		r = e.Runner("x")
		time.Sleep(time.Hour)
		expect("held, after a restart")
		if s := r.Status(time.Now()); s.State != "held" || s.Hold.Reason != "upstream is moving" || len(r.state.Runs) != 14 {
			t.Errorf("held, after a restart: %+v", s)
		}
		if err := r.Hold(nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		expect("resumed: what was missed is made up for once", 30*time.Hour, 32*time.Hour)
		e.shutdown()
	})
}

// TestClockSet: a run in the future, by a clock that was wrong, does not keep the job
// from running until then.
func TestClockSet(t *testing.T) {
	for _, j := range []Job{{Every: caddy.Duration(time.Hour)}, {Cron: "0 * * * *"}, {Every: caddy.Duration(time.Hour), Jitter: caddy.Duration(time.Minute)}} {
		for _, outcome := range []Outcome{Unchanged, Failed} {
			e := testEngine(t, t.TempDir())
			job := testJob(t, "x", j, none)
			job.active = func() bool { return true }
			r := newRunner(e, job.name)
			now := time.Now().Round(0)
			future := now.AddDate(10, 0, 0)
			run := &Run{Began: future, Ended: future, Outcome: outcome}
			r.configs, r.begun, r.ended = []*Job{job}, future, future
			r.state.record(run, maxRuns)
			_, due, _ := r.next(now)
			if d := due.Sub(now); d < 0 || d > 62*time.Minute {
				t.Errorf("%+v, %s: the next run is in %v", j, outcome, d)
			}
			// It stays there, and comes.
			_, again, _ := r.next(now.Add(20 * time.Second))
			if !again.Equal(due) {
				t.Errorf("%+v, %s: the next run was at %v, and is at %v", j, outcome, due, again)
			}
			if _, _, p := r.next(now.Add(63 * time.Minute)); p == nil {
				t.Errorf("%+v, %s: it does not run", j, outcome)
			}
			// Forward: it runs now, and once.
			if _, _, p := r.next(future.AddDate(1, 0, 0)); p == nil {
				t.Errorf("%+v, %s: the clock is put forward, and it does not run", j, outcome)
			}
		}
	}
}

// TestOnce: however often it is asked for, scheduled and reloaded, a job does not run
// twice at once; each run that was accepted takes place.
func TestOnce(t *testing.T) {
	e := testEngine(t, t.TempDir())
	var running, most, ran atomic.Int32
	f := func(context.Context, *step.Run) error {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(time.Duration(rand.IntN(10)) * time.Millisecond)
		ran.Add(1)
		running.Add(-1)
		return nil
	}
	newJob := func() *Job { return testJob(t, "x", Job{Every: caddy.Duration(5 * time.Millisecond)}, f) }
	first := newJob()
	e.join(first)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	var accepted, refused atomic.Int32
	wg.Go(func() {
		old := first
		for ctx.Err() == nil {
			j := newJob()
			e.join(j)
			e.leaveJob(old)
			old = j
			time.Sleep(time.Duration(rand.IntN(3)) * time.Millisecond)
		}
	})
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				r := e.Runner("x")
				id, err := r.Ask(Request{})
				if err != nil {
					if !errors.Is(err, ErrRunning) {
						t.Error(err)
					}
					refused.Add(1)
					time.Sleep(time.Millisecond)
					continue
				}
				accepted.Add(1)
				run, ok := r.Find(id)
				if !ok {
					t.Errorf("run %s was accepted, and is not known", id)
					return
				}
				for ok && run.Outcome == "" {
					time.Sleep(time.Millisecond)
					run, ok = r.Find(id)
				}
				if ok && run.Trigger != "manual" {
					t.Errorf("run %s is %+v", id, run)
				}
			}
		})
	}
	for ctx.Err() == nil {
		for _, r := range e.Runners() {
			r.Status(time.Now())
		}
		time.Sleep(time.Millisecond)
	}
	wg.Wait()
	if most.Load() != 1 || accepted.Load() == 0 || refused.Load() == 0 || ran.Load() < accepted.Load() {
		t.Errorf("at most %d at once; %d runs, %d accepted, %d refused", most.Load(), ran.Load(), accepted.Load(), refused.Load())
	}
	t.Logf("%d runs, %d accepted, %d refused", ran.Load(), accepted.Load(), refused.Load())
}

// blocker is a syncer that says when it runs and runs until it is let go.
type blocker struct {
	begun chan string // what it was configured with
	end   chan struct{}
}

func newBlocker() blocker { return blocker{make(chan string, 10), make(chan struct{})} }

func (b blocker) as(what string) fake {
	return func(ctx context.Context, _ *step.Run) error {
		b.begun <- what
		select {
		case <-b.end:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// TestJobReload: a run goes on under its old settings, the next one has the new ones; a
// renamed job waits for itself, and a removed one is gone when its run has ended.
func TestJobReload(t *testing.T) {
	e := testEngine(t, t.TempDir())
	b := newBlocker()
	dir := t.TempDir()
	old := testJob(t, "x", Job{Directory: dir}, b.as("old"))
	e.join(old)
	r := e.Runner("x")
	id := begin(t, r)
	if got := <-b.begun; got != "old" {
		t.Fatal(got)
	}
	changed := testJob(t, "x", Job{Directory: dir}, b.as("new"))
	e.join(changed)
	e.leaveJob(old)
	if _, err := r.Ask(Request{}); !errors.Is(err, ErrRunning) {
		t.Errorf("asked again: %v", err)
	}
	b.end <- struct{}{}
	if run := ended(t, r, id); run.Outcome != Unchanged {
		t.Errorf("the run ended with %+v", run)
	}
	id = begin(t, r)
	if got := <-b.begun; got != "new" {
		t.Errorf("the next run has the %s settings", got)
	}

	// A reload that fails: its jobs come, are never in force, and go.
	failed := testJob(t, "x", Job{Directory: dir}, b.as("failed"))
	never := testJob(t, "y", Job{Every: 1}, b.as("never"))
	failed.active, never.active = func() bool { return false }, func() bool { return false }
	e.join(failed)
	e.join(never)
	time.Sleep(3 * startPoll)
	e.leaveJob(failed)
	e.leaveJob(never)
	b.end <- struct{}{}
	ended(t, r, id)
	id = begin(t, r)
	if got := <-b.begun; got != "new" {
		t.Errorf("after a reload that failed, the %s settings are in force", got)
	}
	await(t, "the job of a config that failed is gone", func() bool { return e.Runner("y") == nil })

	// Renamed, and so is what it had in its tree.
	renamed := testJob(t, "z", Job{Directory: dir, Every: caddy.Duration(time.Hour)}, b.as("renamed"))
	e.join(renamed)
	e.leaveJob(changed)
	z := e.Runner("z")
	await(t, "the renamed job waits", func() bool { return z.Status(time.Now()).State == "waiting" })
	if s := z.Status(time.Now()); !strings.Contains(s.Waits, "job x runs") {
		t.Errorf("it waits for %q", s.Waits)
	}
	if s := r.Status(time.Now()); s.State != "leaving" {
		t.Errorf("the old one is %s", s.State)
	}
	b.end <- struct{}{}
	if run := ended(t, r, id); run.Outcome != Unchanged {
		t.Errorf("the run of the removed job ended with %+v", run)
	}
	if got := <-b.begun; got != "renamed" {
		t.Errorf("then begins %s", got)
	}
	await(t, "the removed job is gone", func() bool { return e.Runner("x") == nil })
	b.end <- struct{}{}

	// Back by its old name, it has its history.
	await(t, "idle", func() bool { return z.Status(time.Now()).State == "idle" })
	e.join(changed)
	if s := e.Runner("x").Status(time.Now()); s.Last == nil || s.Last.ID != id {
		t.Errorf("the history is %+v", s.Last)
	}
}

func await(t testing.TB, what string, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// TestShutdown: what runs is ended, and its end is recorded as an interruption,
// whatever the step says.
func TestShutdown(t *testing.T) {
	dir := t.TempDir()
	e := testEngine(t, dir)
	for name, f := range map[string]fake{
		"cause": func(ctx context.Context, _ *step.Run) error { <-ctx.Done(); return context.Cause(ctx) },
		"other": func(ctx context.Context, _ *step.Run) error { <-ctx.Done(); return errors.New("connection reset") },
		"well":  func(ctx context.Context, _ *step.Run) error { <-ctx.Done(); return nil },
	} {
		e.join(testJob(t, name, Job{Every: caddy.Duration(time.Hour)}, f))
	}
	await(t, "all run", func() bool { return len(e.names()) == 3 })
	start := time.Now()
	e.shutdown()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %v", took)
	}
	for name, want := range map[string]Outcome{"cause": Interrupted, "other": Interrupted, "well": Unchanged} {
		s, cut, err := loadState(filepath.Join(dir, name), time.Now())
		if err != nil || cut != nil || len(s.Runs) != 1 || s.Runs[0].Outcome != want || want != Unchanged && !strings.Contains(s.Runs[0].Error, errShutdown.Error()) {
			t.Errorf("%s: %+v, %v, %v", name, s.Runs, cut, err)
		}
	}
}

// TestPanicOverLine: what a command prints is read in a goroutine of its own, where a
// panic would end the server.
func TestPanicOverLine(t *testing.T) {
	e := testEngine(t, t.TempDir())
	seen := 0
	j := testJob(t, "x", Job{}, func(ctx context.Context, r *step.Run) error {
		_, err := r.Command(ctx, step.Command{
			Name: "/bin/sh", Args: []string{"-c", "echo a; echo b"},
			Line: func(string) { seen++; panic("oops") },
		})
		return err
	})
	e.join(j)
	r := e.Runner("x")
	if run := ended(t, r, begin(t, r)); run.Outcome != Failed || run.Error != "sync: panic in job: oops" || seen != 1 {
		t.Errorf("run is %+v, %d lines were seen", run, seen)
	}
}

// TestManyCommands: a step runs several commands at a time; those of strangers get none of
// the job's tickets and environment.
func TestManyCommands(t *testing.T) {
	e := testEngine(t, t.TempDir())
	var outs [4]bytes.Buffer
	var kerberos string
	j := testJob(t, "x", Job{Env: map[string]string{"SECRET": "x"}}, func(ctx context.Context, r *step.Run) error {
		r.Count(map[string]int{"built": 3})
		var g errgroup.Group
		for i := range outs {
			g.Go(func() error {
				_, err := r.Command(ctx, step.Command{
					Name: "/bin/sh", Args: []string{"-c", "sleep 0.2; echo $1 $SECRET $A", "sh", strconv.Itoa(i)},
					Env: []string{"A=a"}, Out: &outs[i], Untrusted: true,
				})
				return err
			})
		}
		err := g.Wait()
		_, trusted := r.Command(ctx, step.Command{Name: "/bin/true"})
		kerberos = fmt.Sprint(trusted)
		return err
	})
	j.Kerberos = &step.Kerberos{Keytab: "/k", Principal: "p", Command: "/nonexistent/k5start"}
	e.join(j)
	r := e.Runner("x")
	run := ended(t, r, begin(t, r))
	if run.Outcome != Unchanged && run.Outcome != Released || run.PID != 0 || run.Counts["built"] != 3 {
		t.Errorf("run is %+v", run)
	}
	for i := range outs {
		if got := outs[i].String(); got != strconv.Itoa(i)+" a\n" {
			t.Errorf("command %d printed %q", i, got)
		}
	}
	if !strings.Contains(kerberos, "k5start") {
		t.Errorf("others: %s", kerberos)
	}
}

// TestSteps: what runs, in which order, and how a run is said to end.
func TestSteps(t *testing.T) {
	verdict := &gate.Verdict{Gate: "shrink", File: "Packages", Reason: "is gone"}
	for _, c := range []struct {
		name                string
		sync, gate, release error
		changed             *bool
		panics              string
		outcome             Outcome
		stage, err, did     string
		stamped             bool
	}{
		{name: "all is well", outcome: Released, did: "sync gate release", stamped: true},
		{name: "nothing has changed", changed: new(false), outcome: Released, did: "sync gate release"},
		{name: "sync", sync: errors.New("a"), outcome: Failed, stage: "sync", err: "sync: a", did: "sync"},
		{name: "gate", gate: verdict, outcome: Held, stage: "gate g", err: "gate shrink: Packages: is gone", did: "sync gate"},
		{name: "gate cannot look", gate: errors.New("b"), outcome: Failed, stage: "gate g", err: "gate g: b", did: "sync gate"},
		{name: "release", release: errors.New("c"), outcome: Failed, stage: "release", err: "release: c", did: "sync gate release", stamped: true},
		{name: "panic", panics: "oops", outcome: Failed, stage: "sync", err: "panic in job: oops", did: "sync"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := testEngine(t, t.TempDir())
			tree := t.TempDir()
			var did []string
			note := func(what string, err error) fake {
				return func(_ context.Context, r *step.Run) error {
					did = append(did, what)
					r.Bytes, r.Changed = 123, c.changed
					if c.panics != "" {
						panic(c.panics)
					}
					return err
				}
			}
			j := testJob(t, "x", Job{Directory: tree, Timestamp: "timestamp.txt"}, note("sync", c.sync))
			j.gates = []namedGate{{note("gate", c.gate), "g"}}
			j.releases = []releaser.Releaser{fakeReleaser{fake: note("release", c.release)}}
			e.join(j)
			r := e.Runner("x")
			run := ended(t, r, begin(t, r))
			if run.Outcome != c.outcome || run.Stage != c.stage || run.Error != c.err || run.Bytes != 123 {
				t.Errorf("run is %+v", run)
			}
			if got := strings.Join(did, " "); got != c.did {
				t.Errorf("it did %s", got)
			}
			text, err := os.ReadFile(filepath.Join(tree, "timestamp.txt"))
			if (err == nil) != c.stamped {
				t.Errorf("timestamp: %q, %v", text, err)
			}
			if err == nil {
				stamp, err := time.Parse("2006-01-02T15:04:05,000000000-07:00\n", string(text))
				if err != nil || time.Since(stamp) > time.Minute {
					t.Errorf("timestamp: %q, %v", text, err)
				}
			}
			if left, _ := os.ReadDir(tree); len(left) > 1 {
				t.Errorf("in the tree: %v", left)
			}
		})
	}
}

// TestTimeout: also of a step that does not say why it ended, and of one that waits
// for other releases.
func TestTimeout(t *testing.T) {
	e := testEngine(t, t.TempDir())
	e.join(testJob(t, "mute", Job{Timeout: caddy.Duration(50 * time.Millisecond)}, func(ctx context.Context, _ *step.Run) error {
		<-ctx.Done()
		return errors.New("connection reset")
	}))
	r := e.Runner("mute")
	if run := ended(t, r, begin(t, r)); run.Outcome != Failed || run.Error != "time is up: 50ms: sync: connection reset" {
		t.Errorf("%+v", run)
	}
	id, err := r.Ask(Request{NoTimeout: true})
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	if run, _ := r.Find(id); run.Outcome != "" {
		t.Errorf("without a time-out: %+v", run)
	}

	b := newBlocker()
	first := testJob(t, "first", Job{}, none)
	first.releases = []releaser.Releaser{fakeReleaser{b.as("first"), []string{"a"}, "cell"}}
	second := testJob(t, "second", Job{Timeout: caddy.Duration(100 * time.Millisecond)}, none)
	second.releases = []releaser.Releaser{fakeReleaser{b.as("second"), []string{"b"}, "cell"}}
	e.join(first)
	e.join(second)
	one, two := e.Runner("first"), e.Runner("second")
	ids := begin(t, one)
	<-b.begun
	if run := ended(t, two, begin(t, two)); run.Outcome != Failed || !strings.Contains(run.Error, "waiting for other releases: time is up") {
		t.Errorf("%+v", run)
	}
	b.end <- struct{}{}
	if run := ended(t, one, ids); run.Outcome != Released {
		t.Errorf("%+v", run)
	}
	if id, err = two.Ask(Request{NoTimeout: true}); err != nil { // however slow the machine is
		t.Fatal(err)
	}
	<-b.begun
	b.end <- struct{}{}
	if run := ended(t, two, id); run.Outcome != Released {
		t.Errorf("%+v", run)
	}
}

// TestOneEngine: two processes do not share a directory of state.
func TestOneEngine(t *testing.T) {
	dir := t.TempDir()
	e := testEngine(t, dir)
	other := newEngine(dir)
	defer other.shutdown()
	if err := other.awaitDir(); err == nil || !strings.Contains(err.Error(), "caddy reload") {
		t.Errorf("a second one: %v", err)
	}
	e.shutdown()
	testEngine(t, dir)
}

// TestKept: logs and the history are kept as configured, also if the clock is set
// back, so that names do not sort by age.
func TestKept(t *testing.T) {
	e := testEngine(t, t.TempDir())
	e.join(testJob(t, "x", Job{Log: &Log{Keep: 3}}, none))
	r := e.Runner("x")
	r.mu.Lock()
	for n := range 5 {
		id := fmt.Sprintf("20990101T00000%d.000Z", n)
		r.state.record(&Run{ID: id, Outcome: Unchanged}, maxRuns)
		openRunLog(new(disk), r.logDir(), id, 100).Close()
	}
	r.mu.Unlock()
	id := ended(t, r, begin(t, r)).ID
	await(t, "old logs are removed", func() bool {
		left, _ := filepath.Glob(r.logDir() + "/*")
		return len(left) == 3 && slices.Contains(left, filepath.Join(r.logDir(), id+".log"))
	})
}
