package mirrorcache

import (
	"errors"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
)

const namespace, subsystem = "caddy", "mirror"

// What mounts count. Package variables: counters survive a config reload.
var (
	mountRequests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "requests_total",
		Help: "Requests by mount and result.",
	}, []string{"mount", "result"})
	mountBytes = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "bytes_total",
		Help: "Bytes of bodies sent, by mount and where they came from.",
	}, []string{"mount", "source"})
	mountFills = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "fills_total",
		Help: "Fills by mount and result.",
	}, []string{"mount", "result"})
	mountWentBack = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "went_back_total",
		Help: "Answers of upstreams that were older than what the cache has, by mount.",
	}, []string{"mount"})
	oldNameRequests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "old_name_requests_total",
		Help: "Requests for a mount at a host name that it had before it got a prefix.",
	}, []string{"mount", "host"})
	originSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "origin_seconds",
		Help:    "How long origins take to answer, by mount and operation.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"mount", "op"})
)

// registerMetrics adds the counters to the registry of this configuration, for the
// first handler that it has.
func registerMetrics(ctx caddy.Context) error {
	reg := ctx.GetMetricsRegistry()
	for _, c := range []prometheus.Collector{mountRequests, mountBytes, mountFills, mountWentBack, oldNameRequests, originSeconds} {
		var already prometheus.AlreadyRegisteredError
		if err := reg.Register(c); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

// metrics are the counters of a mount, looked up once.
type metrics struct {
	requests                              [results]prometheus.Counter
	fromMemory, fromDisk, fromFill        prometheus.Counter
	fromOrigin                            prometheus.Counter
	fillStored, fillBypassed              prometheus.Counter
	fillNotFound, fillFailed, fillGaveWay prometheus.Counter
	wentBack                              prometheus.Counter
	statSeconds, openSeconds, listSeconds prometheus.Observer
}

func newMetrics(mount string) metrics {
	m := metrics{
		fromMemory:   mountBytes.WithLabelValues(mount, "memory"),
		fromDisk:     mountBytes.WithLabelValues(mount, "disk"),
		fromFill:     mountBytes.WithLabelValues(mount, "fill"),
		fromOrigin:   mountBytes.WithLabelValues(mount, "origin"),
		fillStored:   mountFills.WithLabelValues(mount, "stored"),
		fillBypassed: mountFills.WithLabelValues(mount, "bypassed"),
		fillNotFound: mountFills.WithLabelValues(mount, "not_found"),
		fillFailed:   mountFills.WithLabelValues(mount, "failed"),
		fillGaveWay:  mountFills.WithLabelValues(mount, "gave_way"),
		wentBack:     mountWentBack.WithLabelValues(mount),
		statSeconds:  originSeconds.WithLabelValues(mount, "stat"),
		openSeconds:  originSeconds.WithLabelValues(mount, "open"),
		listSeconds:  originSeconds.WithLabelValues(mount, "list"),
	}
	for r := range results {
		m.requests[r] = mountRequests.WithLabelValues(mount, r.String())
	}
	return m
}

// bytes is the counter of what a body reads from. A body that had to change
// over counts for where it ended.
func (m *metrics) bytes(b *body) prometheus.Counter {
	switch {
	case b.remote != nil:
		return m.fromOrigin
	case b.fill != nil:
		return m.fromFill
	case b.entry != nil && b.entry.Bytes() != nil:
		return m.fromMemory
	case b.entry != nil:
		return m.fromDisk
	}
	return m.fromOrigin
}

func (m *metrics) origin(op string) prometheus.Observer {
	switch op {
	case "stat":
		return m.statSeconds
	case "open":
		return m.openSeconds
	}
	return m.listSeconds
}
