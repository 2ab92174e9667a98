package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
)

// goals are all that the part has.
func (r *afsResult) goals() []*goal {
	tables := slices.Clone(r.Cold)
	if r.Far != nil {
		tables = append(tables, *r.Far)
	}
	var goals []*goal
	for _, t := range tables {
		for _, w := range t.Ways {
			goals = append(goals, w.Goal)
		}
	}
	for _, s := range r.Releases {
		goals = append(goals, s.Goal)
	}
	if r.Crowd != nil {
		goals = append(goals, r.Crowd.AnonGoal)
	}
	return goals
}

func (r *afsResult) print(w io.Writer) {
	fmt.Fprintf(w, "\nAFS: a cell on this machine, volumes with two read-only sites, nothing cached; servers and caches on %s; median of %d rounds. Every body was right.\n",
		r.FileSystem, r.Rounds)
	if r.Foreign > maxForeign {
		fmt.Fprintf(w, "CAUTION: others used up to %s of the cores meanwhile. Repeat this on a quiet machine, or with -quiet.\n", percent(r.Foreign))
	}
	fmt.Fprintf(w, "afsd.fuse was asked for no more than %d files at a time, and crashed %d times.\n", afsFuseMost, r.FuseCrashes)
	for _, t := range r.Cold {
		t.print(w)
	}
	if r.Far != nil {
		r.Far.print(w)
	}
	if len(r.Releases) > 0 {
		printServed(w, r.Releases)
	}
	if r.Crowd != nil {
		r.Crowd.print(w)
	}
}

func (t *afsTable) print(w io.Writer) {
	fmt.Fprintln(w)
	rows := table{{t.Title, t.Unit, t.Ratio, "min..max", "goal"}}
	for _, row := range t.Ways {
		bound := ""
		if row.Goal != nil {
			bound = strconv.FormatFloat(row.Goal.Bound, 'f', 2, 64)
		}
		q := row.Ratio
		rows.row(row.Name, figure(row.Median), fmt.Sprintf("%.2f", q.Median), fmt.Sprintf("%.2f..%.2f", q.Min, q.Max), row.Goal.text(bound))
	}
	rows.print(w)
}

func printServed(w io.Writer, all []afsServed) {
	fmt.Fprintln(w)
	t := table{{"from the end of vos release to the new file (-: before it)", "releases", "p50", "p99", "goal"}}
	for _, s := range all {
		t.row(s.Name, strconv.Itoa(len(s.Times)), millis(s.P50), millis(s.P99), s.Goal.text("6 s"))
	}
	t.print(w)
}

func (c *afsCrowd) print(w io.Writer) {
	fmt.Fprintln(w)
	head := fmt.Sprintf("%d cold files of %s at once, mirror_cache", c.Clients, mebibytes(c.Bytes))
	t := table{{head, "from AFS", "from a directory", "goal"}}
	t.row("peak number of goroutines", strconv.Itoa(c.AFS.Goroutines), strconv.Itoa(c.Local.Goroutines), "-")
	t.row("growth of anonymous memory (RssAnon)", mebibytes(c.AFS.AnonGrowth), mebibytes(c.Local.AnonGrowth),
		c.AnonGoal.text(mebibytes(int64(c.AnonGoal.Bound))))
	t.row("time", millis(c.AFS.Time), millis(c.Local.Time), "-")
	t.print(w)
}
