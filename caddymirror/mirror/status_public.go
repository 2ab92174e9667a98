package mirror

import (
	"slices"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
)

// PublicStatus is what clients may know of a [Status]: which mirrors there are, whether
// they are up to date, and how old. It has no path, process, error, host or address.
// The names of mounts and jobs are in it; who serves several sites chooses for each.
type PublicStatus struct {
	Mounts []PublicMount `json:"mounts"`
	Jobs   []PublicJob   `json:"jobs"`
}

// PublicMount is what clients may know of a mount.
type PublicMount struct {
	Prefix string `json:"prefix"`

	// State is "up"; "degraded" if some of the origins are away, or "away" if all are:
	// then what is cached is served.
	State string `json:"state"`

	// Seen is when it was last looked whether the first origin has a new release; zero
	// if it was not.
	Seen time.Time `json:"seen,omitzero"`
}

// PublicJob is what clients may know of a job.
type PublicJob struct {
	Name string `json:"name"`

	// State is one of those of [job.Status], or "unknown".
	State string `json:"state"`

	LastSuccess time.Time `json:"last_success,omitzero"`
	LastRelease time.Time `json:"last_release,omitzero"`
	Next        time.Time `json:"next,omitzero"`

	// Seen is when upstream was last seen.
	Seen time.Time `json:"seen,omitzero"`

	// Upstream is when upstream last changed what it has, and Served when what is
	// served was written; of several copies, the oldest. Zero is not known.
	Upstream time.Time `json:"upstream,omitzero"`
	Served   time.Time `json:"served,omitzero"`
}

// Public is what clients may know. It takes field by field, so that none gets out by
// being added.
func (s Status) Public() PublicStatus {
	p := PublicStatus{Mounts: make([]PublicMount, 0, len(s.Mounts)), Jobs: make([]PublicJob, 0, len(s.Jobs))}
	for _, m := range s.Mounts {
		p.Mounts = append(p.Mounts, m.public())
	}
	for _, j := range s.Jobs {
		p.Jobs = append(p.Jobs, publicJob(j))
	}
	return p
}

func (m MountStatus) public() PublicMount {
	p := PublicMount{Prefix: m.Prefix, State: "up"}
	away, poor := 0, false
	for n, o := range m.Origins {
		if n == 0 {
			p.Seen = o.Seen
		}
		if o.State != "up" {
			away++
		}
		for _, u := range o.Upstreams {
			poor = poor || u.State != "up"
		}
	}
	switch {
	case away > 0 && away == len(m.Origins):
		p.State = "away"
	case away > 0, poor:
		p.State = "degraded"
	}
	return p
}

// jobStates are those of [job.Status].
var jobStates = []string{"idle", "running", "waiting", "held", "failing", "leaving"}

func publicJob(s job.Status) PublicJob {
	p := PublicJob{
		Name: s.Name, State: "unknown", LastSuccess: s.LastSuccess, LastRelease: s.LastRelease, Next: s.Next,
		Seen: s.Seen, Upstream: s.Upstream, Served: s.Served(),
	}
	if slices.Contains(jobStates, s.State) {
		p.State = s.State
	}
	return p
}
