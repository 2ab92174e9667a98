package job

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
	case j.Jitter != 0 && j.Every == 0 && j.Cron == "":
		return s, errors.New("a jitter needs every or cron")
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

// next is when the job runs after a run that began at last or, if that is zero, for
// the first time since it is known. What was missed before the server was up is made
// up for, once; many jobs may have been, so that has its jitter, too. It is zero for a
// job that runs only when it is told to. No time is after now.
func (s schedule) next(last, since, up, now time.Time) time.Time {
	var slot time.Time
	switch {
	case s.manual():
		return slot
	case s.cron != nil && last.IsZero():
		slot = nextSlot(s.cron, since)
	case s.cron != nil:
		slot = nextSlot(s.cron, last)
	case last.IsZero():
		slot = since
	default:
		slot = last.Add(s.every)
		if !slot.Before(up) {
			return later(slot, now) // last had its jitter
		}
	}
	at := slot.Add(s.spread(slot))
	if at.Before(up) {
		at = up.Add(s.spread(up))
	}
	return later(at, now)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// nextSlot is when a cron expression comes next, as cron(8) has it: what is at
// certain hours comes once a day, also on the days when the clocks change, and what
// is at any hour goes by the time that passes.
func nextSlot(c cron.Schedule, after time.Time) time.Time {
	const anyHour = 1 << 63 // the mark of a "*"
	after = after.Local()
	spec, ok := c.(*cron.SpecSchedule)
	if !ok || spec.Hour&anyHour != 0 {
		return c.Next(after)
	}
	// What the clocks on the wall show, as if they never changed.
	wall := *spec
	wall.Location = time.UTC
	for shown := onWall(after.In(spec.Location)); ; {
		if shown = wall.Next(shown); shown.IsZero() {
			return shown
		}
		if at := offWall(shown, spec.Location); at.After(after) {
			return at
		}
	}
}

// onWall is what a clock on the wall shows, as a time in UTC.
func onWall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}

// offWall is when a clock on the wall shows this: one of the times, if it does twice,
// or when it is put forward, if it never does.
func offWall(shown time.Time, loc *time.Location) time.Time {
	t := time.Date(shown.Year(), shown.Month(), shown.Day(), shown.Hour(), shown.Minute(), shown.Second(), 0, loc)
	start, end := t.ZoneBounds()
	switch got := onWall(t); {
	case got.Before(shown):
		return end
	case got.After(shown):
		return start
	}
	return t
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
