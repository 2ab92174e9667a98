// Package step is what the steps of a job, its syncer, gates and releaser, are
// given to work with.
package step

import (
	"context"
	"io"
	"time"

	"go.uber.org/zap"
)

// Run is one run of a job, as its steps see it. Steps of one run come one after
// the other.
type Run struct {
	// Job is the name of the job.
	Job string

	// ID is different for every run of the job.
	ID string

	// Dir is the tree that is brought up to date, an absolute path. It is empty
	// for jobs that have none.
	Dir string

	// State is a directory for what the steps want to know again in the next run.
	// Each step uses files that begin with its own name, and writes them by [WriteFile].
	State string

	// Timestamp is a file in the tree that the job writes before each release. It is
	// relative to Dir, and empty if there is none.
	Timestamp string

	// Last is when the job last succeeded, zero if it never did.
	Last time.Time

	// Log is for what operators have to know; Out is the log of the run, where
	// everything goes.
	Log *zap.Logger
	Out io.Writer

	// Command runs a command as the job has it: with its environment, in a process
	// group that ends with the run, with Kerberos tickets where so configured. What
	// it prints goes to Out. Several commands may run at a time.
	Command func(ctx context.Context, c Command) (Result, error)

	// Report tells how far the run is. It may be called often.
	Report func(Progress)

	// Changed is set by a syncer that knows whether it has changed the tree, bookkeeping
	// aside; nil is not known. It counts also if the sync has failed.
	Changed *bool

	// Changes are what a syncer has changed, if it knows, also in a sync that fails.
	Changes Changes

	// Bookkeeping is set by a syncer that writes files though there is nothing new:
	// timestamps, status files. It reports whether a file is one of those, by its name
	// relative to Dir.
	Bookkeeping func(name string) bool

	// Serial is the number by which upstream counts its changes, that the tree has come
	// to. Zero is not known.
	Serial int64

	// Bytes is counted up by a syncer that knows how much it has fetched.
	Bytes int64

	// Counts are how many of what they work on steps have found in which state: "built",
	// "failed". They are replaced as a whole, by Count, which may be called often.
	Count func(map[string]int)

	// Notes are what steps want to be remembered of the run, by name: "serial". They are
	// few and short.
	Notes map[string]string

	// Upstream is when upstream last changed what it has, by its own indexes, or up to
	// when the tree has all of that. The first step that knows sets it; zero is not known.
	Upstream time.Time

	// Synced says that the job has brought the tree up to date. Else others write what
	// it releases: what is wrong with one of several targets is no reason to leave out
	// the others.
	Synced bool

	// Enter waits until nobody else is in a queue of releases: "afs:CELL".
	Enter func(ctx context.Context, queue string) (leave func(), err error)

	// Released is called by a releaser that publishes one target after the other, with
	// each that is published now, by its name as in Targets, and how long that took.
	Released func(target string, took time.Duration)
}

// Command is a command to run.
type Command struct {
	// Name of the program, and its arguments. There is no shell.
	Name string
	Args []string

	// Dir is the working directory. Default: that of the run.
	Dir string

	// Env is added to the job's environment.
	Env []string

	// Line is called with each line of output, as well.
	Line func(string)

	// Kerberos is how it gets tickets. Default: as the job has it.
	Kerberos *Kerberos

	// Out gets what it prints, and not the log of the run, which does not name the
	// command then either.
	Out io.Writer

	// Untrusted has the command run without the job's tickets and with no environment but
	// Env: what it runs was written by strangers.
	Untrusted bool

	// Finish has the command left to end by itself when the run is to end: nobody
	// kills `vos release`.
	Finish bool
}

// Result is how a command ended.
type Result struct {
	// Code is its exit status, -1 if a signal ended it.
	Code int
}

// Progress is how far a run is.
type Progress struct {
	// Stage says what is being done: "packages", "indexes", "deletions".
	Stage string

	// Done is from 0 to 1; negative if it is not known.
	Done float64

	// Detail is a line for people.
	Detail string
}
