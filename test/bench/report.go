package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is what -json writes.
type report struct {
	Time     time.Time         `json:"time"`
	Machine  machine           `json:"machine"`
	Versions map[string]string `json:"versions"`
	Settings settings          `json:"settings"`
	Foreign  float64           `json:"foreign_load"` // most of a core that others used before a row of hits, of 1
	Hits     []hitTable        `json:"hits,omitempty"`
	Fanout   *fanoutResult     `json:"fanout,omitempty"`
	Million  *millionResult    `json:"million,omitempty"`
	Pages    *pagesResult      `json:"pages,omitempty"`
	Upstream *upstreamResult   `json:"upstream,omitempty"`
	Allocs   []allocResult     `json:"allocs,omitempty"`
	AFS      *afsResult        `json:"afs,omitempty"`
}

type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
}

type settings struct {
	Rounds      int     `json:"rounds"`
	Seconds     float64 `json:"seconds"`
	Connections int     `json:"connections"`
	ServerCPU   int     `json:"server_cpu"`
	LoadCPU     int     `json:"load_cpu"`
}

// goal is a bound and whether it was met.
type goal struct {
	Bound float64 `json:"bound"`
	Met   bool    `json:"met"`
}

func atLeast(bound, got float64) *goal { return &goal{bound, got >= bound} }
func atMost(bound, got float64) *goal  { return &goal{bound, got <= bound} }

// hitTable holds the rows of one size.
type hitTable struct {
	Size    string   `json:"size"`
	Bytes   int64    `json:"bytes"`
	Servers []hitRow `json:"servers"`
}

// hitRow is one server's figures with one size.
type hitRow struct {
	Name   string  `json:"name"`
	Title  string  `json:"title"`
	Median load    `json:"median"` // each figure's own median
	Rounds []load  `json:"rounds"`
	Ratio  *spread `json:"ratio,omitempty"` // of our requests per second to its own
	CPU    *spread `json:"cpu,omitempty"`   // of its CPU time per request to ours
	Goal   *goal   `json:"goal,omitempty"`
}

// spread is a figure over all rounds.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// newHitTable makes the table of a size. goals are ours to a peer, at least, by its name.
func newHitTable(f file, servers []*server, loads map[cell][]load, goals map[string]float64) hitTable {
	t := hitTable{Size: f.title, Bytes: f.size}
	ours := loads[cell{f.title, ourName}]
	for _, s := range servers {
		rounds := loads[cell{f.title, s.name}]
		if len(rounds) == 0 {
			continue
		}
		row := hitRow{Name: s.name, Title: s.title, Rounds: rounds, Median: load{
			Requests:   medianOf(rounds, func(l load) float64 { return l.Requests }),
			Megabytes:  medianOf(rounds, func(l load) float64 { return l.Megabytes }),
			P50:        medianOf(rounds, func(l load) float64 { return l.P50 }),
			P99:        medianOf(rounds, func(l load) float64 { return l.P99 }),
			ServerBusy: medianOf(rounds, func(l load) float64 { return l.ServerBusy }),
			LoadBusy:   medianOf(rounds, func(l load) float64 { return l.LoadBusy }),
			CPU:        medianOf(rounds, func(l load) float64 { return l.CPU }),
			LoadCPU:    medianOf(rounds, func(l load) float64 { return l.LoadCPU }),
		}}
		if s.name != ourName && len(ours) > 0 {
			row.Ratio = spreadOf(rounds, func(i int) float64 { return ours[i].Requests / rounds[i].Requests })
			row.CPU = spreadOf(rounds, func(i int) float64 { return rounds[i].CPU / ours[i].CPU })
			if bound, ok := goals[s.name]; ok {
				row.Goal = atLeast(bound, row.Ratio.Median)
			}
		}
		t.Servers = append(t.Servers, row)
	}
	return t
}

func spreadOf(rounds []load, of func(round int) float64) *spread {
	values := make([]float64, len(rounds))
	for i := range values {
		values[i] = of(i)
	}
	return &spread{median(values), slices.Min(values), slices.Max(values)}
}

func medianOf[T any](list []T, of func(T) float64) float64 {
	values := make([]float64, len(list))
	for i, v := range list {
		values[i] = of(v)
	}
	return median(values)
}

func median[T ~int64 | ~float64](values []T) T {
	values = slices.Sorted(slices.Values(values))
	mid := len(values) / 2
	if len(values)%2 == 1 {
		return values[mid]
	}
	return (values[mid-1] + values[mid]) / 2
}

// missed reports whether any goal was missed.
func (r *report) missed() bool {
	tables := r.Hits
	if r.Upstream != nil {
		tables = slices.Concat(tables, r.Upstream.Hits)
	}
	for _, t := range tables {
		for _, row := range t.Servers {
			if row.Goal != nil && !row.Goal.Met {
				return true
			}
		}
	}
	var goals []*goal
	if f := r.Fanout; f != nil {
		goals = append(goals, f.OriginGoal, f.AnonGoal)
	}
	if m := r.Million; m != nil {
		goals = append(goals, m.BytesGoal, m.FirstHitGoal)
	}
	if p := r.Pages; p != nil {
		goals = append(goals, p.Goal)
	}
	if r.Upstream != nil {
		goals = append(goals, r.Upstream.goals()...)
	}
	if r.AFS != nil {
		goals = append(goals, r.AFS.goals()...)
	}
	return slices.ContainsFunc(goals, func(g *goal) bool { return g != nil && !g.Met })
}

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

func newReport(ctx context.Context, b *bench) *report {
	return &report{
		Time:     time.Now().UTC().Truncate(time.Second),
		Machine:  machine{CPU: cpuModel(), Cores: runtime.NumCPU(), Kernel: kernel()},
		Versions: b.versions(ctx),
		Settings: settings{b.rounds, b.duration.Seconds(), b.connections, b.serverCPU, b.loadCPU},
	}
}

// versions asks each program of the run for its version.
func (b *bench) versions(ctx context.Context) map[string]string {
	ask := map[string][]string{}
	if b.caddy != "" {
		ask["caddy"] = []string{b.caddy, "version"}
	}
	if b.has(partPages) {
		ask["wrk"] = []string{"wrk", "-v"}
	}
	var servers []string
	if b.has(partHits) {
		servers = b.servers
	}
	if b.has(partUpstream) {
		servers = slices.Concat(servers, b.upstreamServers)
	}
	if len(servers) > 0 {
		ask["wrk"] = []string{"wrk", "-v"}
		for _, s := range servers {
			switch s {
			case "apache":
				ask["apache"] = []string{"apache2", "-v"}
			case "varnish", "varnish_mute":
				ask["varnish"] = []string{"varnishd", "-V"}
				ask["hitch"] = []string{"hitch", "--version"}
			}
			if s == "nginx" || isCache(s) {
				ask["nginx"] = []string{"nginx", "-v"}
			}
		}
	}
	if b.has(partAFS) {
		ask["openafs"] = []string{"fs", "version"}
	}
	versions := map[string]string{"go": runtime.Version()}
	for name, argv := range ask {
		// wrk and others call it a failure to be asked; what they say counts.
		out, _ := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
		line, _, _ := strings.Cut(string(out), "\n")
		versions[name] = strings.TrimSpace(line)
	}
	return versions
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
