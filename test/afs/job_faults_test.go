package afs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/job"
	"github.com/unifiedmirrors/mirror/test/afscell/cell"
)

// fault is something that ends while a job is at work.
type fault struct {
	name  string
	point string // at which the job stops for it, see faulty
	wait  func(*faulty, *testing.T)
	hit   func(*faulty, *testing.T)
	stage string   // at which the run fails then; empty: if it does
	words []string // that its error has
}

const (
	unlock  = "vos unlock set -cell example.org"
	reclone = "vos release set -cell example.org -force-reclone"
	away    = "asking volume server 198.18."
	nowhere = "no volume location server of cell example.org answers"
)

// faultGroups are the faults, by the cells that they take place in.
var faultGroups = [][]fault{{
	{"file server, sync", "sync", nil, (*faulty).crash, "", nil},
	{"volume server, gate", "synced", nil, killVolserver1, "release", []string{away}},
	{"volume server, first site", "vos", (*faulty).first, killVolserver1, "release", []string{away, reclone}},
	{"file server, first site", "vos", (*faulty).first, (*faulty).crash, "", nil},
	{"vos, first site", "vos", (*faulty).first, (*faulty).killVos, "release", []string{unlock}},
	{"host, all the time", "sync", nil, (*faulty).down, "release", []string{away, reclone}},
}, {
	{"file server, between", "", (*faulty).between, (*faulty).crash, "", nil},
	{"vos, between", "", (*faulty).between, (*faulty).killVos, "release", []string{unlock}},
	{"volume server, between", "", (*faulty).between, killVolserver2, "release", []string{away, reclone}},
	{"database, release", "gated", nil, killVlserver, "release", []string{nowhere}},
	{"lock, release", "gated", nil, (*faulty).lock, "release", []string{unlock}},
}, {
	{"database, last site", "vos", (*faulty).last, killVlserver, "release", []string{nowhere}},
	{"vos, last site", "vos", (*faulty).last, (*faulty).killVos, "release", []string{unlock}},
	{"volume server, last site", "vos", (*faulty).last, killVolserver2, "release", []string{away, reclone}},
}}

func killVolserver1(f *faulty, t *testing.T) { f.kill(t, f.c.FS1.Volserver()) }
func killVolserver2(f *faulty, t *testing.T) { f.kill(t, f.c.FS2.Volserver()) }
func killVlserver(f *faulty, t *testing.T)   { f.kill(t, f.c.DB.Vlserver()) }

// testFaults: whatever ends while a job is at work, and wherever that is, what the job
// says of it is true, the next run mends it once it can be mended, and clients of the
// mirror notice nothing.
func testFaults(t *testing.T, bin string, faults []fault) {
	f := newFaulty(t, bin)
	for _, x := range faults {
		t.Run(x.name, func(t *testing.T) {
			f.next(t)
			id := f.begin(t, x.point)
			if x.wait != nil {
				x.wait(f, t)
			}
			x.hit(f, t)
			f.let(t, x.point)
			run := f.job(t).wait(id)
			f.heal(t)
			f.judge(t, run, x.stage, x.words)
			f.mend(t)
		})
	}
	f.check()
}

// faulty is a cell with a job that stops at points where it is told to: in the middle
// of its sync, after it, after the gate, and before vos.
type faulty struct {
	c          *cell.Cell
	client     *afs.Client
	bin, dir   string
	readers    setReaders
	check      func()
	generation uint64
	released   time.Time
	dead       []*cell.Server
}

const points = `#!/bin/sh
cd "${0%/*}"
at() {
	touch "at.$1"
	while [ -e "hold.$1" ]; do sleep 0.02; done
}
case "$1" in
sync)
	"$2" -dir "$3" write set . one && at sync && "$2" -dir "$3" write set . two && sleep 1.1 && at synced ;;
gate)
	at gated ;;
vos)
	at vos
	shift
	exec "$@" ;;
esac
`

func newFaulty(t *testing.T, bin string) *faulty {
	t.Helper()
	f := &faulty{c: cell.New(t, cell.Options{}), bin: bin, dir: t.TempDir()}
	f.client = newClient(t, f.c)
	newVolume(t, f.c, "set", f.c.FS1, f.c.FS2)
	for _, d := range []string{"one", "two"} {
		try(t, os.Mkdir(filepath.Join(f.dir, d), 0o755))
	}
	script := filepath.Join(f.dir, "points")
	try(t, os.WriteFile(script, []byte(points), 0o755))
	jobs := `job set {
		sync exec ` + script + ` sync ` + bin + " " + f.c.Dir + `
		gate exec ` + script + ` gate
		` + releaseAFS(f.c, script+" vos "+bin+" -dir "+f.c.Dir, "set", "tries 1") + `
	}
	`
	srv := startSite(t, jobSite(t, f.c, jobs, "set"))
	f.readers.srv = srv
	f.mend(t)
	f.check = reading(t, &f.readers)
	return f
}

func (f *faulty) job(t *testing.T) runner { return runner{t, f.readers.srv, "set"} }

// next lets upstream have a new generation.
func (f *faulty) next(t *testing.T) {
	t.Helper()
	f.generation++
	for n := range setSizes {
		d := "one"
		if n%2 == 1 {
			d = "two"
		}
		try(t, os.WriteFile(filepath.Join(f.dir, d, fmt.Sprintf("f%d", n)), member(f.generation, n), 0o644))
	}
}

// begin has the job run up to a point, or as long as it takes.
func (f *faulty) begin(t *testing.T, point string) (id string) {
	t.Helper()
	at := filepath.Join(f.dir, "at."+point)
	if point != "" {
		try(t, os.WriteFile(filepath.Join(f.dir, "hold."+point), nil, 0o600))
		_ = os.Remove(at)
	}
	id = f.job(t).begin()
	if point != "" {
		waitFor(t, 20*time.Second, "at "+point, func() bool { _, err := os.Stat(at); return err == nil })
	}
	return id
}

// let lets it go on.
func (f *faulty) let(t *testing.T, point string) {
	t.Helper()
	if err := os.Remove(filepath.Join(f.dir, "hold."+point)); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

func (f *faulty) kill(t *testing.T, s *cell.Server) {
	t.Helper()
	try(t, s.Kill())
	f.dead = append(f.dead, s)
	try(t, f.c.FS2.Delay(0))
}

func (f *faulty) lock(t *testing.T) {
	t.Helper()
	_, err := f.c.Vos(t.Context(), "lock", "set")
	try(t, err)
}

// killVos kills vos, of all that runs for the job.
func (f *faulty) killVos(t *testing.T) {
	t.Helper()
	group := strconv.Itoa(f.job(t).status().Current.PID)
	procs, err := os.ReadDir("/proc")
	try(t, err)
	for _, p := range procs {
		// PID (NAME) STATE PPID PGRP ...
		b, _ := os.ReadFile(filepath.Join("/proc", p.Name(), "stat"))
		_, rest, ok := bytes.Cut(b, []byte(" (vos) "))
		if fields := strings.Fields(string(rest)); ok && len(fields) > 2 && fields[2] == group {
			pid, err := strconv.Atoi(p.Name())
			try(t, err)
			try(t, syscall.Kill(pid, syscall.SIGKILL))
			try(t, f.c.FS1.Volserver().Continue())
			try(t, f.c.FS2.Delay(0))
			return
		}
	}
	t.Fatal("no vos runs in process group " + group)
}

// first waits until vos is at the first site.
func (f *faulty) first(t *testing.T) {
	t.Helper()
	try(t, f.c.FS1.Volserver().Pause())
	f.let(t, "vos")
	f.until(t, "at the first site", func() bool {
		out, err := f.c.Vos(t.Context(), "listvldb", "set")
		return err == nil && strings.Contains(out.Stdout, "LOCKED")
	})
}

// between waits until vos sleeps between the sites: the first one is new.
func (f *faulty) between(t *testing.T) {
	t.Helper()
	f.until(t, "between the sites", func() bool {
		for _, s := range volumeState(t, f.client, f.c, "set").Sites {
			if s.Server == f.c.FS1.Addr.String() && s.Type == "RO" {
				return s.State() == "online" && s.Info.Created.After(f.released)
			}
		}
		return false
	})
}

// last waits until vos is in the middle of the last site.
func (f *faulty) last(t *testing.T) {
	t.Helper()
	try(t, f.c.FS2.Delay(100*time.Millisecond))
	f.let(t, "vos")
	b := broken{c: f.c, volumes: []string{"set"}}
	const packets = 100
	f.until(t, "at the last site", func() bool { return b.transactions(t, f.c.FS2)["set"].packets > packets })
}

// until waits for something that the run is to come by.
func (f *faulty) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	waitFor(t, 30*time.Second, what, func() bool {
		if s := f.job(t).status(); s.Current == nil {
			t.Fatalf("the run has ended, and was not %s: %+v\n%s", what, s.Last, f.job(t).log(s.Last.ID))
		}
		return is()
	})
}

// crash kills the file server that the volume is at. It is soon there again, as
// bosserver has it.
func (f *faulty) crash(t *testing.T) {
	t.Helper()
	try(t, f.c.FS1.Fileserver().Kill())
	time.Sleep(time.Second)
	try(t, f.c.FS1.Fileserver().Start(t.Context()))
	try(t, errors.Join(f.c.FS1.Volserver().Continue(), f.c.FS2.Delay(0)))
}

// down ends all servers of the host that has but a copy.
func (f *faulty) down(t *testing.T) {
	t.Helper()
	for _, s := range f.c.FS2.Servers() {
		f.kill(t, s)
	}
}

// heal starts again what was killed.
func (f *faulty) heal(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	for _, s := range f.dead {
		try(t, s.Start(ctx))
		if s == f.c.DB.Vlserver() {
			waitFor(t, 30*time.Second, "a database that takes changes", func() bool {
				_, err := f.c.Vos(ctx, "lock", afs.RootCell)
				return err == nil
			})
			_, err := f.c.Vos(ctx, "unlock", afs.RootCell)
			try(t, err)
		}
	}
	f.dead = nil
	try(t, f.c.Heal())
}

// judge checks what a run says of itself and the volume.
func (f *faulty) judge(t *testing.T, run job.Run, stage string, words []string) {
	t.Helper()
	v := volumeState(t, f.client, f.c, "set")
	ok, why := v.Published()
	t.Logf("%s at %q after %v: %s; published: %v %s", run.Outcome, run.Stage, run.Ended.Sub(run.Began), run.Error, ok, why)
	if run.Stage != "sync" && (run.Outcome == job.Released) != ok {
		t.Errorf("the run was %q, and the volume is published: %v %s", run.Outcome, ok, why)
	}
	if stage != "" {
		check(t, run, job.Failed, stage, words...)
	}
	if !v.Locked() {
		return
	}
	if again := f.job(t).run(); again.Outcome != job.Failed || !strings.Contains(again.Error, unlock) {
		t.Errorf("it is locked, and the next run is %q: %s", again.Outcome, again.Error)
	}
	_, err := f.c.Vos(t.Context(), "unlock", "set")
	try(t, err)
	f.endTransactions(t)
}

// endTransactions ends what a vos that was killed has left, as the job says.
func (f *faulty) endTransactions(t *testing.T) {
	t.Helper()
	left := map[string][]string{} // by the server's address
	for _, h := range []*cell.Host{f.c.FS1, f.c.FS2} {
		out, err := f.c.Vos(t.Context(), "status", h.Addr.String())
		try(t, err)
		for _, m := range transactionNumber.FindAllStringSubmatch(out.Stdout, -1) {
			left[h.Addr.String()] = append(left[h.Addr.String()], m[1])
		}
	}
	if len(left) == 0 {
		return
	}
	run := f.job(t).want(job.Failed, "release")
	for server, numbers := range left {
		if !strings.Contains(run.Error, "vos endtrans "+server) {
			t.Errorf("the error does not say that %s has a transaction", server)
		}
		for _, n := range numbers {
			_, err := f.c.Vos(t.Context(), "endtrans", server, n)
			try(t, err)
		}
	}
}

var transactionNumber = regexp.MustCompile(`transaction: (\d+)`)

// mend runs the job, without a fault.
func (f *faulty) mend(t *testing.T) {
	t.Helper()
	f.next(t)
	f.job(t).want(job.Released, "")
	v := volumeState(t, f.client, f.c, "set")
	if ok, why := v.Published(); !ok {
		t.Error(why)
	}
	f.released = v.Released()
	served(t, &f.readers, f.generation)
}
