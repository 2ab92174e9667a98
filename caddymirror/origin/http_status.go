package origin

import "time"

// UpstreamStatus is what an operator wants to know of one of the upstreams of an origin.
type UpstreamStatus struct {
	URL string `json:"url"`

	// State is "up", "away" while its breaker is open, or "paused" while it wants no
	// requests.
	State string `json:"state"`

	// PausedUntil is when it may be asked again.
	PausedUntil time.Time `json:"paused_until,omitzero"`
}

// Status tells the state of the upstreams: the origin is away while none of them is asked.
func (h *HTTP) Status() Status {
	st := h.count.status()
	st.Origin, st.State = h.name, "away"
	if h.group == nil {
		return st
	}
	for _, s := range h.group.States() {
		u := UpstreamStatus{URL: s.Upstream.String(), State: "up"}
		switch {
		case s.Away:
			u.State = "away"
		case s.NotBefore.After(time.Now()):
			u.State, u.PausedUntil = "paused", s.NotBefore
		default:
			st.State = "up"
		}
		st.Upstreams = append(st.Upstreams, u)
	}
	return st
}
