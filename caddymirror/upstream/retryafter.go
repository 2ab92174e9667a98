package upstream

import (
	"net/http"
	"sync"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
)

const (
	// maxPause bounds what an upstream can ask for with Retry-After.
	maxPause = time.Hour

	// defaultPause is for a 429 that does not say how long.
	defaultPause = 10 * time.Second

	// maxHosts bounds the hosts of which pauses are known.
	maxHosts = 64
)

// RetryAfter is the pause that a response asks for (RFC 9110 section 10.2.3), which came
// at now: from 0 to an hour. A 429 that says nothing asks for ten seconds; other statuses
// than 429 and 503 ask for none.
func RetryAfter(status int, h http.Header, now time.Time) time.Duration {
	if status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable {
		return 0
	}
	// Of several, the longest.
	pause, known := time.Duration(0), false
	for _, value := range h["Retry-After"] {
		one := freshness.Response{Header: http.Header{"Retry-After": {value}, "Date": h["Date"]}, ResponseTime: now}
		if d, ok := freshness.RetryAfter(one); ok {
			pause, known = max(pause, d), true
		}
	}
	if !known && status == http.StatusTooManyRequests {
		return defaultPause
	}
	return min(pause, maxPause)
}

// pauses are until when hosts want no requests.
type pauses struct {
	mu    sync.Mutex
	until map[string]time.Time // by host
}

func (p *pauses) get(host string) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.until[host]
}

// set keeps the later of two times.
func (p *pauses) set(host string, until, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until == nil {
		p.until = map[string]time.Time{}
	}
	for other, t := range p.until {
		if !t.After(now) {
			delete(p.until, other)
		}
	}
	if _, ok := p.until[host]; (ok || len(p.until) < maxHosts) && until.After(p.until[host]) {
		p.until[host] = until
	}
}
