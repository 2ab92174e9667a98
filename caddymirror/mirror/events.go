package mirror

import (
	"maps"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Events that jobs emit, for Caddy's events app. Their data are the job's name
// (`job`), the ID of the run (`run`), the `stage` and, if it failed, the `error`; of a
// release its `target`, as `afs:example.org:mirror.ubuntu` or `dir:/srv/ubuntu`, and
// how long it took, in `seconds`; of one that failed the `targets`, one or more of which
// the error is about.
const (
	eventSyncStarted   = "sync_started"
	eventSyncFailed    = "sync_failed"
	eventGateFailed    = "gate_failed"
	eventReleaseFailed = "release_failed"
	eventReleased      = "volume_released" // whatever it was
	eventJobFailed     = "job_failed"
)

// emit emits an event in the configuration that is active now: a run may have
// begun under another.
func emit(log *zap.Logger, name string, data map[string]any) {
	ctx := caddy.ActiveContext()
	if ctx.Context == nil {
		return
	}
	app, err := ctx.AppIfConfigured("events")
	if err != nil {
		return // nobody listens
	}
	if events, ok := app.(*caddyevents.App); ok {
		if aborted := events.Emit(ctx, name, data).Aborted; aborted != nil {
			log.Debug("event was aborted", zap.String("event", name), zap.Error(aborted))
		}
	}
}

// event emits an event of a run, with more data than all have.
func (x *execution) event(name, stage string, more map[string]any) {
	data := map[string]any{"job": x.j.name, "run": x.rec.ID, "stage": stage}
	maps.Copy(data, more)
	emit(x.j.log, name, data)
}

// Metrics that jobs count themselves.
var (
	jobRuns = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "job_runs_total",
		Help: "Runs of jobs, by how they ended.",
	}, []string{"job", "outcome"})
	jobSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "job_stage_seconds",
		Help:    "How long the stages of jobs take.",
		Buckets: []float64{.1, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600},
	}, []string{"job", "stage"})
	releaseSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "release_seconds",
		Help:    "How long releases take, by volume or directory.",
		Buckets: []float64{.1, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600},
	}, []string{"target"})
)

var (
	jobSuccess = desc("job_last_success_timestamp_seconds", "When the job last succeeded.", "job")
	jobRelease = desc("job_last_release_timestamp_seconds", "When the job last released.", "job")
	jobRunning = desc("job_running", "1 while the job runs.", "job")
	jobHeld    = desc("job_held", "1 while the job is held.", "job")
	jobFails   = desc("job_failures", "Failures of the job in a row.", "job")
	jobData    = desc("job_data_timestamp_seconds", "How new the data of the job are at each stage: upstream, where they are written (rw), and where they are served from (ro).",
		"job", "stage", "target", "site")
)

// collectJobs sends the state of jobs.
func collectJobs(send func(*prometheus.Desc, prometheus.ValueType, float64, ...string), jobs []JobStatus) {
	const gauge = prometheus.GaugeValue
	for _, j := range jobs {
		if !j.LastSuccess.IsZero() {
			send(jobSuccess, gauge, float64(j.LastSuccess.Unix()), j.Name)
		}
		if !j.LastRelease.IsZero() {
			send(jobRelease, gauge, float64(j.LastRelease.Unix()), j.Name)
		}
		send(jobRunning, gauge, bit(j.Current != nil), j.Name)
		send(jobHeld, gauge, bit(j.Hold != nil), j.Name)
		send(jobFails, gauge, float64(j.Failures), j.Name)
		if !j.Upstream.IsZero() {
			send(jobData, gauge, float64(j.Upstream.Unix()), j.Name, "upstream", "", "")
		}
		for _, c := range j.Copies {
			if !c.At.IsZero() {
				send(jobData, gauge, float64(c.At.Unix()), j.Name, c.Stage, c.Target, c.Site)
			}
		}
	}
}
