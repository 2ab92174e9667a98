package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// print writes the report as tables for people.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%d cores, %s, Linux %s\n", r.Machine.Cores, r.Machine.CPU, r.Machine.Kernel)
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(w, "%s: %s\n", name, r.Versions[name])
	}
	if len(r.Hits) > 0 {
		r.printHits(w)
	}
	if r.Fanout != nil {
		r.Fanout.print(w)
	}
	if r.Million != nil {
		r.Million.print(w)
	}
	if r.Pages != nil {
		r.Pages.print(w)
	}
	if r.Upstream != nil {
		r.printUpstream(w)
	}
	if len(r.Allocs) > 0 {
		printAllocs(w, r.Allocs)
	}
	if r.AFS != nil {
		r.AFS.print(w)
	}
	if r.missed() {
		fmt.Fprintln(w, "\nGoals missed: see the rows marked MISSED.")
	}
}

func (r *report) printHits(w io.Writer) {
	s := r.Settings
	fmt.Fprintf(w, "\nHits, HTTP/1.1: %d connections, median of %d rounds of %gs, servers on core %d, wrk on core %d.\n",
		s.Connections, s.Rounds, s.Seconds, s.ServerCPU, s.LoadCPU)
	fmt.Fprintln(w, "Busy: how much of each core was used. A server below 100% waited for wrk and could do more.")
	fmt.Fprintln(w, "CPU us, wrk us: the CPU time of the server, and of wrk, per request. By CPU: how many times ours a peer's is.")
	if r.Foreign > maxForeign {
		fmt.Fprintf(w, "CAUTION: others used up to %s of these cores meanwhile. Repeat this on a quiet machine, or with -quiet.\n", percent(r.Foreign))
	}
	printHitTables(w, r.Hits)
}

func printHitTables(w io.Writer, tables []hitTable) {
	for _, ht := range tables {
		fmt.Fprintln(w)
		t := table{{ht.Size, "req/s", "MB/s", "p50 ms", "p99 ms", "busy", "wrk busy", "CPU us", "wrk us", "ours/peer", "min..max", "by CPU", "min..max", "goal"}}
		for _, row := range ht.Servers {
			m := row.Median
			cells := []string{
				row.Title, figure(m.Requests), figure(m.Megabytes), latency(m.P50), latency(m.P99),
				percent(m.ServerBusy), percent(m.LoadBusy), figure(m.CPU), figure(m.LoadCPU),
			}
			if q := row.Ratio; q != nil {
				bound := ""
				if row.Goal != nil {
					bound = strconv.FormatFloat(row.Goal.Bound, 'f', 2, 64)
				}
				cells = append(cells, fmt.Sprintf("%.2f", q.Median), fmt.Sprintf("%.2f..%.2f", q.Min, q.Max),
					fmt.Sprintf("%.2f", row.CPU.Median), fmt.Sprintf("%.2f..%.2f", row.CPU.Min, row.CPU.Max), row.Goal.text(bound))
			}
			t.row(cells...)
		}
		t.print(w)
	}
}

// table is rows of cells, the first row being its head. The first column is
// aligned left, all others right.
type table [][]string

func (t *table) row(cells ...string) { *t = append(*t, cells) }

func (t table) print(w io.Writer) {
	widths := make([]int, len(t[0]))
	for _, row := range t {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range t {
		var line strings.Builder
		for i, cell := range row {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				line.WriteString(cell + space)
			} else {
				line.WriteString("  " + space + cell)
			}
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// text is the bound and, if so, that it was missed.
func (g *goal) text(bound string) string {
	switch {
	case g == nil:
		return "-"
	case g.Met:
		return bound
	}
	return bound + " MISSED"
}

// figure writes a number with no more digits than mean something.
func figure(v float64) string {
	if v < 100 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 0, 64)
}

// latency writes milliseconds; wrk tells 0 if no answer came to its end.
func latency(ms float64) string {
	if ms == 0 {
		return "-"
	}
	return strconv.FormatFloat(ms, 'f', 2, 64)
}

func percent(v float64) string { return strconv.FormatFloat(100*v, 'f', 0, 64) + "%" }

func mebibytes(n int64) string { return strconv.FormatFloat(float64(n)/mib, 'f', 1, 64) + " MiB" }

func millis(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds()*1e3, 'f', 1, 64) + " ms"
}
