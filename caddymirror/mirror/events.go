package mirror

import (
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// observer passes on what jobs tell: as events, as metrics, to statsd, and to mounts of
// the trees that are released.
type observer struct{ statsd *Statsd }

// Event implements [job.Observer].
func (observer) Event(name string, data map[string]any, log *zap.Logger) { emit(log, name, data) }

// Stage implements [job.Observer].
func (observer) Stage(job, stage string, took time.Duration) {
	jobSeconds.WithLabelValues(job, stage).Observe(took.Seconds())
}

// Published implements [job.Observer].
func (o observer) Published(target string, took time.Duration, log *zap.Logger) {
	if dir, ok := strings.CutPrefix(target, "dir:"); ok {
		origin.LookAt(dir) // those who serve it on this host
	}
	if target != "" {
		releaseSeconds.WithLabelValues(target).Observe(took.Seconds())
	}
	if o.statsd != nil {
		go o.statsd.released(target, took, log) // a look-up of a name may take its time
	}
}

// Ended implements [job.Observer].
func (observer) Ended(name string, outcome job.Outcome) {
	jobRuns.WithLabelValues(name, string(outcome)).Inc()
}

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
	jobItems   = desc("job_items", "What the run under way, or else the last, has worked on, as wheels, by what became of it.", "job", "state")
	jobSeen    = desc("job_upstream_seen_timestamp_seconds", "When upstream was last seen: when the last sync that went well began.", "job")
	jobSerial  = desc("job_upstream_serial", "The number by which upstream counts its changes, that the tree has come to.", "job")
	jobPending = desc("job_pending_changes", "Changes that were brought and are not released yet, as far as they are counted.", "job")
	jobSince   = desc("job_pending_since_timestamp_seconds", "When the first of what is not released yet was brought.", "job")
	jobData    = desc("job_data_timestamp_seconds", "How new the data of the job are at each stage: upstream, where they are written (rw), and where they are served from (ro).",
		"job", "stage", "target", "site")
)

// counts are those of the run under way, or else of the last.
func counts(j job.Status) map[string]int {
	switch {
	case j.Current != nil:
		return j.Current.Counts
	case j.Last != nil:
		return j.Last.Counts
	}
	return nil
}

// collectJobs sends the state of jobs.
func collectJobs(send func(*prometheus.Desc, prometheus.ValueType, float64, ...string), jobs []job.Status) {
	const gauge = prometheus.GaugeValue
	for _, j := range jobs {
		if !j.LastSuccess.IsZero() {
			send(jobSuccess, gauge, float64(j.LastSuccess.Unix()), j.Name)
		}
		if !j.LastRelease.IsZero() {
			send(jobRelease, gauge, float64(j.LastRelease.Unix()), j.Name)
		}
		if !j.Seen.IsZero() {
			send(jobSeen, gauge, float64(j.Seen.Unix()), j.Name)
		}
		if j.Serial != 0 {
			send(jobSerial, gauge, float64(j.Serial), j.Name)
		}
		pending := 0
		if j.Pending != nil {
			pending = j.Pending.Changes
			send(jobSince, gauge, float64(j.Pending.Since.Unix()), j.Name)
		}
		send(jobPending, gauge, float64(pending), j.Name)
		send(jobRunning, gauge, bit(j.Current != nil), j.Name)
		send(jobHeld, gauge, bit(j.Hold != nil), j.Name)
		send(jobFails, gauge, float64(j.Failures), j.Name)
		for state, n := range counts(j) {
			send(jobItems, gauge, float64(n), j.Name, state)
		}
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

// Interface guards
var _ job.Observer = observer{}
