package job

import (
	"fmt"
	"slices"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/caddyserver/caddy/v2"
)

func testSchedule(t *testing.T, j *Job) schedule {
	t.Helper()
	j.name = "x"
	s, err := newSchedule(j)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestEvery(t *testing.T) {
	s := testSchedule(t, &Job{Every: caddy.Duration(2 * time.Hour)})
	now := at("2026-03-01T12:00:00Z")
	for _, c := range []struct {
		name              string
		last, since, want time.Time
	}{
		{"never ran", time.Time{}, now, now},
		{"has run", now.Add(-time.Hour), now.Add(-24 * time.Hour), now.Add(time.Hour)},
		{"is due", now.Add(-2 * time.Hour), now.Add(-24 * time.Hour), now},
		{"was missed, many times", now.Add(-1000 * time.Hour), now.Add(-2000 * time.Hour), now},
	} {
		if got := s.next(c.last, c.since, c.since, now); !got.Equal(c.want) {
			t.Errorf("%s: next at %v, want %v", c.name, got, c.want)
		}
	}
	if got := testSchedule(t, &Job{}).next(now, now, now, now); !got.IsZero() {
		t.Errorf("a manual job runs at %v", got)
	}
}

func TestCron(t *testing.T) {
	s := testSchedule(t, &Job{Cron: "CRON_TZ=UTC 30 4 * * *"})
	since := at("2026-03-01T12:00:00Z")
	first := at("2026-03-02T04:30:00Z")
	for _, c := range []struct {
		name            string
		last, now, want time.Time
	}{
		{"not yet", time.Time{}, since, first},
		{"the first", time.Time{}, first, first},
		{"late for the first", time.Time{}, first.Add(time.Second), first.Add(time.Second)},
		{"after the first", first.Add(time.Second), first.Add(time.Hour), first.AddDate(0, 0, 1)},
		{"missed", first, first.AddDate(0, 0, 5), first.AddDate(0, 0, 5)},
		{"made up for", first.AddDate(0, 0, 5), first.AddDate(0, 0, 5), first.AddDate(0, 0, 6)},
	} {
		if got := s.next(c.last, since, since, c.now); !got.Equal(c.want) {
			t.Errorf("%s: next at %v, want %v", c.name, got, c.want)
		}
	}
}

// TestJitter: the delay of one slot is the same whenever one asks, so that the slot
// comes at all; those of many jobs are spread over all of the jitter.
func TestJitter(t *testing.T) {
	const jitter = 45 * time.Minute
	since := at("2026-03-01T12:00:00Z")
	for _, j := range []*Job{
		{Every: caddy.Duration(2 * time.Hour), Jitter: caddy.Duration(jitter)},
		{Cron: "CRON_TZ=UTC 0 */2 * * *", Jitter: caddy.Duration(jitter)},
	} {
		s := testSchedule(t, j)
		want := s.next(time.Time{}, since, since, since)
		for now := since; now.Before(want); now = now.Add(time.Second) {
			if got := s.next(time.Time{}, since, since, now); !got.Equal(want) {
				t.Fatalf("at %v the first run is at %v, before it was at %v", now, got, want)
			}
		}
	}
	var low, high int
	for n := range 200 {
		s := schedule{name: fmt.Sprint("job", n), every: time.Hour, jitter: jitter}
		d := s.next(time.Time{}, since, since, since).Sub(since)
		if d < 0 || d >= jitter {
			t.Fatalf("delay is %v", d)
		}
		if d < jitter/4 {
			low++
		}
		if d > jitter*3/4 {
			high++
		}
	}
	if low < 20 || high < 20 {
		t.Errorf("of 200 jobs, %d are in the first quarter and %d in the last", low, high)
	}
}

// TestJitterKeepsPace: jitter does not make a job that runs every so often run less
// often, and spreads what was missed while the server was down.
func TestJitterKeepsPace(t *testing.T) {
	const every, jitter = 2 * time.Hour, 45 * time.Minute
	since := at("2026-03-01T12:00:00Z")
	s := schedule{name: "x", every: every, jitter: jitter}
	first := s.next(time.Time{}, since, since, since)
	last := first
	for range 100 {
		last = s.next(last, since, since, last)
	}
	if want := first.Add(100 * every); !last.Equal(want) {
		t.Errorf("the 100th run after %v is at %v, want %v", first, last, want)
	}
	up := last.AddDate(0, 0, 1)
	var begins []time.Time
	for n := range 100 {
		s.name = fmt.Sprint("job", n)
		begins = append(begins, s.next(last, since, up, up))
	}
	slices.SortFunc(begins, time.Time.Compare)
	if begins[0].Before(up) || begins[99].After(up.Add(jitter)) || begins[99].Sub(begins[0]) < jitter/2 {
		t.Errorf("up at %v, the jobs that were missed begin from %v to %v", up, begins[0], begins[99])
	}
	s.cron = testSchedule(t, &Job{Cron: "CRON_TZ=UTC 0 4 * * *"}).cron
	if got := s.next(last, since, up, up); got.Before(up) || got.After(up.Add(jitter)) {
		t.Errorf("up at %v, what cron has missed begins at %v", up, got)
	}
	if s.jitter = 0; !s.next(last, since, up, up).Equal(up) {
		t.Error("without a jitter, what was missed is not made up for at once")
	}
}

// TestClocksChange: on the days when they do, what is at certain hours comes once, and
// what comes at any hour goes on by the time that passes.
func TestClocksChange(t *testing.T) {
	const spring, autumn = "2026-03-28T23:30:00Z", "2026-10-24T22:30:00Z" // half past midnight
	for _, c := range []struct {
		cron, from string
		want       []string
	}{
		{"CRON_TZ=Europe/Berlin 30 2 * * *", spring, []string{"03-29T01:00", "03-30T00:30", "03-31T00:30"}},
		{"CRON_TZ=Europe/Berlin 30 2 * * *", autumn, []string{"10-25T01:30", "10-26T01:30", "10-27T01:30"}},
		{"CRON_TZ=Europe/Berlin 0 3 * * *", spring, []string{"03-29T01:00", "03-30T01:00"}},
		{"CRON_TZ=Europe/Berlin 0 3 * * *", autumn, []string{"10-25T02:00", "10-26T02:00"}},
		{"CRON_TZ=Europe/Berlin 0 */2 * * *", spring, []string{"03-29T01:00", "03-29T02:00", "03-29T04:00"}},
		{"CRON_TZ=Europe/Berlin @hourly", spring, []string{"03-29T00:00", "03-29T01:00", "03-29T02:00"}},
		{"CRON_TZ=Europe/Berlin @hourly", autumn, []string{"10-24T23:00", "10-25T00:00", "10-25T01:00", "10-25T02:00"}},
		{"CRON_TZ=Europe/Berlin */30 * * * *", autumn, []string{"10-24T23:00", "10-24T23:30", "10-25T00:00", "10-25T00:30", "10-25T01:00"}},
		{"CRON_TZ=America/New_York 30 2 * * *", "2026-03-08T05:30:00Z", []string{"03-08T07:00", "03-09T06:30"}},
		{"CRON_TZ=America/New_York 30 1 * * *", "2026-11-01T04:30:00Z", []string{"11-01T05:30", "11-02T06:30"}},
		{"CRON_TZ=Africa/Cairo 0 0 * * *", "2026-04-22T22:30:00Z", []string{"04-23T22:00", "04-24T21:00"}}, // at midnight
		{"CRON_TZ=Europe/Berlin 15 2 29 3 *", spring, []string{"03-29T01:00", "03-29T00:15"}},              // in 2026 and 2027
		{"CRON_TZ=Europe/Berlin @every 1h", spring, []string{"03-29T00:30", "03-29T01:30"}},
	} {
		s := testSchedule(t, &Job{Cron: c.cron})
		now := at(c.from)
		var got []string
		for range c.want {
			now = s.next(now, now, now, now)
			got = append(got, now.UTC().Format("01-02T15:04"))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s from %s: %v, want %v", c.cron, c.from, got, c.want)
		}
	}
}

// TestAllYear: a daily job runs every day of the year, wherever the clocks change.
func TestAllYear(t *testing.T) {
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Africa/Cairo", "UTC"} {
		for hour := range 4 {
			s := testSchedule(t, &Job{Cron: fmt.Sprintf("CRON_TZ=%s 30 %d * * *", zone, hour)})
			last := at("2026-01-01T12:00:00Z")
			for n := range 365 {
				next := s.next(last, last, last, last)
				if d := next.Sub(last); n > 0 && (d < 22*time.Hour || d > 26*time.Hour) {
					t.Errorf("%s, %d:30: %v after %v", zone, hour, next, last)
				}
				last = next
			}
		}
	}
}

func TestBackoff(t *testing.T) {
	for n, minutes := range map[int]int{1: 1, 2: 2, 3: 4, 4: 8, 5: 10, 6: 10, 1000: 10} {
		if got := backoff(n, time.Minute, 10*time.Minute); got != time.Duration(minutes)*time.Minute {
			t.Errorf("after %d failures: %v", n, got)
		}
	}
	if got := backoff(1, 2*time.Hour, time.Hour); got != time.Hour {
		t.Errorf("more than the most: %v", got)
	}
}

func TestBadSchedules(t *testing.T) {
	for _, j := range []*Job{
		{Every: -1},
		{Jitter: -1},
		{Every: 1, Cron: "@daily"},
		{Cron: "x"},
		{Cron: "61 * * * *"},
		{Cron: "* * * *"},
		{Cron: "0 0 30 2 *"},
		{Cron: "CRON_TZ=Europe/Atlantis 0 0 * * *"},
		{Cron: "* * * * * *"},
	} {
		if _, err := newSchedule(j); err == nil {
			t.Errorf("%+v: no error", j)
		}
	}
}
