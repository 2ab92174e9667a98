package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/dustin/go-humanize"
)

const (
	firstFile  = "first.bin"
	firstSize  = 64 * kib
	firstCount = 300
	maxFirst   = time.Millisecond // more than a direct request

	coldSize   = gib
	coldRounds = 3
	coldGoal   = 0.95 // of nginx
)

// firstTable is the time to the first byte of cold objects.
type firstTable struct {
	Objects int           `json:"objects"`
	P50     time.Duration `json:"direct_p50_ns"` // of direct requests, like P99
	P99     time.Duration `json:"direct_p99_ns"`
	Servers []firstRow    `json:"servers"`
}

// firstRow is that time through one server.
type firstRow struct {
	Name  string        `json:"name"`
	Title string        `json:"title"`
	P50   time.Duration `json:"p50_ns"`
	P99   time.Duration `json:"p99_ns"`
	Over  time.Duration `json:"over_direct_ns"`        // median of what an object took longer than directly
	Over9 time.Duration `json:"over_direct_p99_ns"`    // P99 less that of direct requests
	Goal  *goal         `json:"over_direct,omitempty"` // in nanoseconds, of Over
}

// upstreamFirst asks for one cold object after the other, each directly and through all
// servers, over a connection for each.
func (b *bench) upstreamFirst(ctx context.Context, up behind, servers []*server) (*firstTable, error) {
	progress("upstream: the first byte of %d cold objects", firstCount)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	o, err := up.ask(ctx, firstDir, firstSize)
	if err != nil {
		return nil, err
	}
	addrs := []string{up.addr}
	for _, s := range servers {
		addrs = append(addrs, s.addr)
	}
	conns := make([]*net.TCPConn, len(addrs))
	times := make([][]time.Duration, len(addrs))
	for i, addr := range addrs {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		if deadline, ok := ctx.Deadline(); ok {
			if err := c.SetDeadline(deadline); err != nil {
				return nil, err
			}
		}
		conns[i] = c.(*net.TCPConn)
	}
	// The first of each makes a connection behind it, too, and does not count.
	for n := range firstCount + 1 {
		o.name = firstDir + "/" + strconv.Itoa(n)
		for i := range addrs {
			i = (i + n) % len(addrs)
			first, err := fetch(conns[i], addrs[i], o)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", addrs[i], err)
			}
			if n > 0 {
				times[i] = append(times[i], first)
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
	}
	t := &firstTable{Objects: firstCount, P50: median(times[0]), P99: percentile(times[0], 99)}
	for i, s := range servers {
		t.Servers = append(t.Servers, newFirstRow(s, times[0], times[i+1]))
	}
	return t, nil
}

// newFirstRow compares a server's times with those of the same objects directly.
func newFirstRow(s *server, direct, through []time.Duration) firstRow {
	over := make([]time.Duration, len(direct))
	for i := range direct {
		over[i] = through[i] - direct[i]
	}
	row := firstRow{
		Name: s.name, Title: s.title,
		P50: median(through), P99: percentile(through, 99),
		Over: median(over), Over9: percentile(through, 99) - percentile(direct, 99),
	}
	if s.name == ourName {
		row.Goal = atMost(float64(maxFirst), float64(row.Over))
	}
	return row
}

// percentile returns the value that p of 100 are not above.
func percentile(values []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}

// ask fetches an object of one of the directories once, directly, and returns it with
// its checksum: then it is in memory, too.
func (u behind) ask(ctx context.Context, dir string, size int64) (object, error) {
	if size == u.big.size {
		o := u.big
		o.name = dir + "/direct"
		_, err := fetchAll(ctx, u.addr, []object{o})
		return o, err
	}
	_, body, err := get(ctx, "http://"+u.addr+"/files/"+dir+"/direct")
	if err == nil && int64(len(body)) != size {
		err = fmt.Errorf("the upstream has %d bytes instead of %d", len(body), size)
	}
	return object{name: dir + "/direct", size: size, sum: checksum(body)}, err
}

func (t *firstTable) print(w io.Writer) {
	fmt.Fprintf(w, "\nThe first byte of %d cold objects of %s, one after the other, each directly and through all.\n\n", t.Objects, humanize.IBytes(firstSize))
	out := table{{"", "p50", "p99", "over direct", "p99 over direct", "goal"}}
	out.row("directly", micros(t.P50), micros(t.P99), "-", "-", "-")
	for _, r := range t.Servers {
		out.row(r.Title, micros(r.P50), micros(r.P99), micros(r.Over), micros(r.Over9), r.Goal.text(millis(maxFirst)))
	}
	out.print(w)
}

func micros(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds()*1e6, 'f', 0, 64) + " us"
}

// coldRow is what a large cold object takes through one server.
type coldRow struct {
	Name   string    `json:"name"`
	Title  string    `json:"title"`
	Rounds []coldRun `json:"rounds"`
	Ratio  *spread   `json:"ratio,omitempty"` // of our throughput to its own
	CPU    *spread   `json:"cpu,omitempty"`   // of its CPU time to ours
	Goal   *goal     `json:"goal,omitempty"`
}

type coldRun struct {
	Megabytes float64       `json:"megabytes_per_second"`
	First     time.Duration `json:"first_byte_ns"`
	CPU       time.Duration `json:"cpu_ns"`
}

// upstreamCold fetches a large object that no server has, and then another.
func (b *bench) upstreamCold(ctx context.Context, up behind, servers []*server, r *upstreamResult) ([]coldRow, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	o, err := up.ask(ctx, coldDir, coldSize)
	if err != nil {
		return nil, err
	}
	runs := map[string][]coldRun{}
	for round := range coldRounds {
		progress("upstream: a cold object of %s, round %d of %d", mebibytes(coldSize), round+1, coldRounds)
		o.name = coldDir + "/" + strconv.Itoa(round)
		for i := range servers {
			s := servers[(i+round)%len(servers)]
			if s.name == "cache_handler" {
				if len(runs[s.name]) > 0 {
					continue // what it keeps is all in memory
				}
				free, err := availableMemory()
				if err != nil {
					return nil, err
				}
				if free < handlerRoom {
					r.skip("%s has no cold object of %s: it would need %s of memory", s.title, mebibytes(coldSize), humanize.IBytes(handlerRoom))
					continue
				}
			}
			run, err := b.coldRun(ctx, s, o)
			if err != nil {
				if s.name == ourName || ctx.Err() != nil {
					return nil, fmt.Errorf("%s: %w", s.title, err)
				}
				r.skip("%s failed with a cold object of %s: %v", s.title, mebibytes(coldSize), err)
				continue
			}
			runs[s.name] = append(runs[s.name], run)
		}
	}
	return newColdRows(servers, runs), nil
}

func (b *bench) coldRun(ctx context.Context, s *server, o object) (coldRun, error) {
	if err := b.sync(); err != nil {
		return coldRun{}, err
	}
	before, err := s.cpuTime()
	if err != nil {
		return coldRun{}, err
	}
	f, err := fetchAll(ctx, s.addr, []object{o})
	if err != nil {
		return coldRun{}, errors.Join(err, s.alive())
	}
	after, err := s.cpuTime()
	return coldRun{Megabytes: float64(o.size) / 1e6 / f.time.Seconds(), First: f.first[0], CPU: after - before}, err
}

func newColdRows(servers []*server, runs map[string][]coldRun) []coldRow {
	ours := runs[ourName]
	var rows []coldRow
	for _, s := range servers {
		rounds := runs[s.name]
		if len(rounds) == 0 {
			continue
		}
		row := coldRow{Name: s.name, Title: s.title, Rounds: rounds}
		if n := min(len(rounds), len(ours)); s.name != ourName && n > 0 {
			values := func(of func(i int) float64) *spread {
				v := make([]float64, n)
				for i := range v {
					v[i] = of(i)
				}
				return &spread{median(v), slices.Min(v), slices.Max(v)}
			}
			row.Ratio = values(func(i int) float64 { return ours[i].Megabytes / rounds[i].Megabytes })
			row.CPU = values(func(i int) float64 { return rounds[i].CPU.Seconds() / ours[i].CPU.Seconds() })
			if s.name == "proxy_cache" {
				row.Goal = atLeast(coldGoal, row.Ratio.Median)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func printCold(w io.Writer, rows []coldRow) {
	fmt.Fprintf(w, "\nA cold object of %s, one client: medians of up to %d rounds.\n\n", humanize.IBytes(coldSize), coldRounds)
	t := table{{"", "MB/s", "first byte", "CPU s", "ours/peer", "min..max", "by CPU", "min..max", "goal"}}
	for _, r := range rows {
		cells := []string{
			r.Title,
			figure(medianOf(r.Rounds, func(c coldRun) float64 { return c.Megabytes })),
			micros(time.Duration(medianOf(r.Rounds, func(c coldRun) float64 { return float64(c.First) }))),
			strconv.FormatFloat(medianOf(r.Rounds, func(c coldRun) float64 { return c.CPU.Seconds() }), 'f', 2, 64),
		}
		if r.Ratio != nil {
			cells = append(cells, fmt.Sprintf("%.2f", r.Ratio.Median), fmt.Sprintf("%.2f..%.2f", r.Ratio.Min, r.Ratio.Max),
				fmt.Sprintf("%.2f", r.CPU.Median), fmt.Sprintf("%.2f..%.2f", r.CPU.Min, r.CPU.Max), r.Goal.text(fmt.Sprintf("%.2f", coldGoal)))
		}
		t.row(cells...)
	}
	t.print(w)
}
