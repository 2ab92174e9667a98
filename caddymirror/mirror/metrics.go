package mirror

import (
	"errors"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
)

// Caddy has a new registry for each configuration. What is counted lives in
// caches, origins and package variables, so that it survives a reload, and is
// read when somebody asks.
func registerMetrics(ctx caddy.Context, a *App) error {
	reg := ctx.GetMetricsRegistry()
	if err := reg.Register(collector{a}); err != nil {
		return err
	}
	for _, c := range []prometheus.Collector{jobRuns, jobSeconds, releaseSeconds} {
		var already prometheus.AlreadyRegisteredError
		if err := reg.Register(c); err != nil && !errors.As(err, &already) {
			return err
		}
	}
	return nil
}

const namespace, subsystem = "caddy", "mirror"

// collector reads the state of an app when it is asked.
type collector struct{ app *App }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, subsystem, name), help, labels, nil)
}

var (
	cacheBytes    = desc("cache_bytes", "Bytes that the cache has on disk.", "cache")
	cacheMaxBytes = desc("cache_max_bytes", "The most bytes that the cache may have on disk.", "cache")
	cacheEntries  = desc("cache_entries", "Entries in the cache.", "cache")
	cacheMemory   = desc("cache_memory_bytes", "Bytes of bodies that the cache holds in memory.", "cache")
	cacheUp       = desc("cache_up", "1 if the cache takes fills, 0 while it cannot.", "cache")
	cacheErrors   = desc("cache_disk_errors_total", "Errors of the cache's disk.", "cache")
	cacheCorrupt  = desc("cache_corrupt_total", "Entries removed because their checksum was wrong.", "cache")
	cacheBypassed = desc("cache_bypassed_total", "Fills that the disk or a limit was against.", "cache")
	evictions     = desc("evictions_total", "Entries evicted.", "cache")
	evictedBytes  = desc("evicted_bytes_total", "Bytes evicted.", "cache")
	originUp      = desc("origin_up", "1 if the origin answers, 0 while its breaker is open.", "mount", "origin")
	originErrors  = desc("origin_errors_total", "Calls to the origin that it did not answer.", "mount", "origin", "kind")
	originReads   = desc("origin_bytes_total", "Bytes read from the origin.", "mount", "origin")
	originStuck   = desc("origin_stuck_calls", "Calls given up on that the file system has not ended yet.", "mount", "origin")
	upstreamUp    = desc("upstream_up", "1 if the upstream answers, 0 while its breaker is open, or it asked for a pause.", "mount", "upstream")
	mountBytes    = desc("mount_bytes", "Bytes that the mount has in its cache.", "mount")
	fillsRunning  = desc("fills_running", "Fills that run now.", "mount")
	fillsWaiting  = desc("fills_waiting", "Fills that wait for their turn.", "mount")
	mountEntries  = desc("mount_entries", "Entries that the mount has in its cache.", "mount")
	panicsTotal   = desc("panics_total", "Panics that ended one fill, call or packet, and not the process.", "place")
)

// Describe sends nothing: which series there are depends on the state.
func (c collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends the state of the caches and origins.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, t prometheus.ValueType, v float64, labels ...string) {
		for n, l := range labels {
			labels[n] = strings.ToValidUTF8(l, "\uFFFD")
		}
		ch <- prometheus.MustNewConstMetric(d, t, v, labels...)
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	status := c.app.Status()
	for _, s := range status.Caches {
		send(cacheBytes, gauge, float64(s.Size), s.Name)
		send(cacheMaxBytes, gauge, float64(s.MaxSize), s.Name)
		send(cacheEntries, gauge, float64(s.Entries), s.Name)
		send(cacheMemory, gauge, float64(s.Memory), s.Name)
		send(cacheUp, gauge, bit(s.State == "ready"), s.Name)
		send(cacheErrors, counter, float64(s.DiskErrors), s.Name)
		send(cacheCorrupt, counter, float64(s.Corrupt), s.Name)
		send(cacheBypassed, counter, float64(s.Bypassed), s.Name)
		send(evictions, counter, float64(s.Evictions), s.Name)
		send(evictedBytes, counter, float64(s.EvictedBytes), s.Name)
	}
	collectJobs(send, status.Jobs)
	for place, n := range status.Panics {
		send(panicsTotal, counter, float64(n), place)
	}
	// Two sites may have a mount in common: it is one series.
	seen := map[[2]string]bool{}
	for _, m := range status.Mounts {
		if k := [2]string{m.Prefix}; !seen[k] {
			seen[k] = true
			send(mountBytes, gauge, float64(m.Bytes), m.Prefix)
			send(mountEntries, gauge, float64(m.Entries), m.Prefix)
			send(fillsRunning, gauge, float64(m.Filling), m.Prefix)
			send(fillsWaiting, gauge, float64(m.Waiting), m.Prefix)
		}
		for _, o := range m.Origins {
			if k := [2]string{m.Prefix, o.Origin}; seen[k] {
				continue
			} else {
				seen[k] = true
			}
			send(originUp, gauge, bit(o.State == "up"), m.Prefix, o.Origin)
			send(originErrors, counter, float64(o.Timeouts), m.Prefix, o.Origin, "timeout")
			send(originErrors, counter, float64(o.Errors-o.Timeouts-o.Panics), m.Prefix, o.Origin, "error")
			send(originErrors, counter, float64(o.Panics), m.Prefix, o.Origin, "panic")
			send(originErrors, counter, float64(o.Busy), m.Prefix, o.Origin, "busy")
			send(originReads, counter, float64(o.ReadBytes), m.Prefix, o.Origin)
			send(originStuck, gauge, float64(o.Stuck), m.Prefix, o.Origin)
			for _, u := range o.Upstreams {
				if k := [2]string{m.Prefix, "upstream " + u.URL}; !seen[k] {
					seen[k] = true
					send(upstreamUp, gauge, bit(u.State == "up"), m.Prefix, u.URL)
				}
			}
		}
	}
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
