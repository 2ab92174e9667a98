package mirror

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// print writes the status for a person: a table each of what there is.
func (s Status) print(out io.Writer) error {
	tables := []func(io.Writer) error{}
	if len(s.Caches) > 0 {
		tables = append(tables, s.printCaches)
	}
	if len(s.Mounts) > 0 {
		tables = append(tables, s.printMounts)
	}
	if len(s.Jobs) > 0 {
		tables = append(tables, s.printJobs)
	}
	for n, table := range tables {
		if n > 0 {
			fmt.Fprintln(out)
		}
		if err := table(out); err != nil {
			return err
		}
	}
	return nil
}

func (s Status) printCaches(out io.Writer) error {
	w := newTable(out)
	fmt.Fprintln(w, "CACHE\tSTATE\tSIZE\tOF\tENTRIES\tHITS\tMISSES\tEVICTED\tPATH")
	for _, c := range s.Caches {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\n", c.Name, c.State,
			size(c.Size), size(c.MaxSize), c.Entries, c.Hits, c.Misses, c.Evictions, c.Path)
		if c.Why != "" {
			fmt.Fprintf(w, "\t%s\n", c.Why)
		}
	}
	return w.Flush()
}

// printMounts prints a line for each origin, and what there is to say of it below the line.
func (s Status) printMounts(out io.Writer) error {
	var table bytes.Buffer
	below := []string{""} // of each line of the table
	w := newTable(&table)
	fmt.Fprintln(w, "MOUNT\tORIGIN\tSTATE\tRELEASE\tSEEN\tCACHED\tREAD\tERRORS")
	for _, m := range s.Mounts {
		prefix := m.Prefix
		for _, o := range m.Origins {
			release := o.Release
			if release == "" {
				release = "-"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", prefix, o.Origin, o.State,
				release, ago(o.Seen), size(m.Bytes), size(int64(o.ReadBytes)), o.Errors)
			var more strings.Builder
			if o.State != "up" && o.LastError != "" {
				fmt.Fprintln(&more, o.LastError)
			}
			printUpstreams(&more, o.Upstreams)
			printIndex(&more, o.Index)
			below = append(below, more.String())
			prefix = ""
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	// tabwriter ends a column at a line that lacks it, so these lines are not written by it.
	indent := strings.Repeat(" ", strings.Index(table.String(), "ORIGIN"))
	for n := 0; table.Len() > 0; n++ {
		line, _ := table.ReadString('\n')
		for more := range strings.Lines(below[n]) {
			line += indent + more
		}
		if _, err := io.WriteString(out, line); err != nil {
			return err
		}
	}
	return nil
}

// printUpstreams prints those that there is something to say of.
func printUpstreams(out io.Writer, upstreams []origin.UpstreamStatus) {
	for _, u := range upstreams {
		switch u.State {
		case "up":
		case "paused":
			fmt.Fprintf(out, "%s wants no requests before %s\n", u.URL, u.PausedUntil.Local().Format(time.TimeOnly))
		default:
			fmt.Fprintf(out, "%s is %s\n", u.URL, u.State)
		}
	}
}

// printedRemarks is how many remarks on the files of an index are printed.
const printedRemarks = 10

func printIndex(out io.Writer, i *origin.IndexStatus) {
	if i == nil {
		return
	}
	fmt.Fprintf(out, "index %s: %s, %s", i.State, english.Plural(i.Projects, "project", ""), english.Plural(i.Files, "file", ""))
	if i.Unread > 0 {
		fmt.Fprintf(out, ", %d to be read", i.Unread)
	}
	if i.LeftOut > 0 {
		fmt.Fprintf(out, ", %d left out", i.LeftOut)
	}
	fmt.Fprintln(out)
	for n, r := range i.Remarks {
		if n == printedRemarks {
			fmt.Fprintln(out, "  ... see --json for more")
			break
		}
		fmt.Fprintf(out, "  %s %s\n", fault.Show(r.Name), r.Reason)
	}
}

func newTable(out io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(out, 0, 4, 2, ' ', 0) }

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// ago is a time as people say it.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return humanize.RelTime(t, time.Now(), "ago", "from now")
}
