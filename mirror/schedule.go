package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/robfig/cron/v3"
)

var errNotPositive = errors.New("a duration has to be positive")

// schedule says when a job runs: every so often, or by a cron expression, and each
// time up to jitter later.
type schedule struct {
	name   string
	every  time.Duration
	cron   cron.Schedule // nil: every counts
	jitter time.Duration
}

func newSchedule(j *Job) (schedule, error) {
	s := schedule{name: j.name, every: time.Duration(j.Every), jitter: time.Duration(j.Jitter)}
	switch {
	case j.Every < 0 || j.Jitter < 0:
		return s, errors.New("a duration is negative")
	case j.Every != 0 && j.Cron != "":
		return s, errors.New("every and cron exclude each other")
	case j.Cron == "":
		return s, nil
	}
	c, err := cron.ParseStandard(j.Cron)
	if err != nil {
		return s, fmt.Errorf("cron %q: %w", j.Cron, err)
	}
	if c.Next(time.Now()).IsZero() {
		return s, fmt.Errorf("cron %q: it never comes", j.Cron)
	}
	s.cron = c
	return s, nil
}

// manual reports whether the job runs only when it is told to.
func (s schedule) manual() bool { return s.cron == nil && s.every == 0 }

// next is when the job runs after a run that began at last, or the first time, if
// that is zero. What was missed is made up for once, at now. It is zero for a job
// that runs only when it is told to.
func (s schedule) next(last, now time.Time) time.Time {
	if s.manual() {
		return time.Time{}
	}
	if last.After(now) {
		last = now // the clock was set back
	}
	var slot time.Time
	switch {
	case s.cron != nil && last.IsZero():
		slot = s.cron.Next(now)
	case s.cron != nil:
		slot = s.cron.Next(last)
	case last.IsZero():
		slot = now
	default:
		slot = last.Add(s.every)
	}
	if at := slot.Add(s.spread(slot)); at.After(now) {
		return at
	}
	return now
}

// spread is by how much to be late: always the same for one time of one job, so that
// a restart does not roll the dice again.
func (s schedule) spread(slot time.Time) time.Duration {
	if s.jitter <= 0 {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(s.name))
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(slot.Unix())))
	return time.Duration(h.Sum64() % uint64(s.jitter))
}

// backoff is how long to wait after so many failures in a row.
func backoff(failures int, least, most time.Duration) time.Duration {
	d := least
	for range failures - 1 {
		if d *= 2; d >= most {
			return most
		}
	}
	return min(d, most)
}
