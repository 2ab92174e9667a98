package job

import (
	"maps"
	"time"

	"go.uber.org/zap"
)

// Observer is told what the runs of jobs do, as it happens. Its methods return soon, and
// several runs may call them at a time.
type Observer interface {
	// Event tells of one of the events below, with its data.
	Event(name string, data map[string]any, log *zap.Logger)

	// Stage tells how long a stage of a job took: "sync", "gate shrink", "release".
	Stage(job, stage string, took time.Duration)

	// Published tells that there is a new release of a target, by its name as in
	// [releaser.Releaser], and how long that took.
	Published(target string, took time.Duration, log *zap.Logger)

	// Ended tells how a run of a job has ended.
	Ended(job string, outcome Outcome)
}

// Events of jobs. Their data are the job's name (`job`), the ID of the run (`run`), the
// `stage` and, if it failed, the `error`; of a release its `target`, as
// `afs:example.org:mirror.ubuntu` or `dir:/srv/ubuntu`, and how long it took, in
// `seconds`; of one that failed the `targets`, one or more of which the error is about.
const (
	eventSyncStarted   = "sync_started"
	eventSyncFailed    = "sync_failed"
	eventGateFailed    = "gate_failed"
	eventReleaseFailed = "release_failed"
	eventReleased      = "volume_released" // whatever it was
	eventJobFailed     = "job_failed"
)

// event tells of an event of a run, with more data than all have.
func (x *execution) event(name, stage string, more map[string]any) {
	data := map[string]any{"job": x.j.name, "run": x.rec.ID, "stage": stage}
	maps.Copy(data, more)
	x.observer().Event(name, data, x.j.log)
}

// observer is the one of the configuration that the run has begun with.
func (x *execution) observer() Observer {
	if x.j.observer == nil {
		return nobody{}
	}
	return x.j.observer
}

// nobody is an [Observer] that looks away.
type nobody struct{}

func (nobody) Event(string, map[string]any, *zap.Logger)    {}
func (nobody) Stage(string, string, time.Duration)          {}
func (nobody) Published(string, time.Duration, *zap.Logger) {}
func (nobody) Ended(string, Outcome)                        {}
