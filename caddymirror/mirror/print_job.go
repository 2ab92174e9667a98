package mirror

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
)

// printJobs writes the state of jobs for a person: a table, with what is wrong with a
// job below its line.
func (s Status) printJobs(out io.Writer) error {
	var table bytes.Buffer
	w := newTable(&table)
	fmt.Fprintln(w, "JOB\tSTATE\tNEXT\tLAST\tSUCCESS\tUPSTREAM\tWRITTEN\tRELEASE\tNOW")
	for _, j := range s.Jobs {
		last := "-"
		if j.Last != nil {
			last = string(j.Last.Outcome) + ", " + ago(j.Last.Ended)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", j.Name, j.State, ago(j.Next), last,
			ago(j.LastSuccess), ago(j.Upstream), ago(j.Written()), ago(j.Served()), oneLine(jobStatus{j}.now()))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	n := -1 // the first line has no job
	for text := range strings.Lines(table.String()) {
		fmt.Fprint(out, text)
		if n >= 0 {
			for _, wrong := range (jobStatus{s.Jobs[n]}).wrong() {
				fmt.Fprintf(out, "    %s\n", oneLine(wrong))
			}
		}
		n++
	}
	return nil
}

// jobStatus is the status of a job, for people.
type jobStatus struct{ job.Status }

// print writes the state of one job for a person, with its copies and its history.
func (s jobStatus) print(out io.Writer) error {
	if err := (Status{Jobs: []job.Status{s.Status}}).printJobs(out); err != nil {
		return err
	}
	w := newTable(out)
	fmt.Fprintln(w, "\nSTAGE\tAS OF\tWHERE")
	fmt.Fprintf(w, "upstream\t%s\t%s\n", ago(s.Upstream), s.upstream())
	for _, c := range s.Copies {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", c.Stage, ago(c.At), strings.TrimSpace(c.Target+" "+c.Site), oneLine(c.Error))
	}
	if b := s.Pending; b != nil {
		what := strings.Join(b.Names, ", ")
		if more := b.Changes - len(b.Names); more > 0 {
			what += fmt.Sprintf(" and %d more", more)
		}
		fmt.Fprintln(w, "\nPENDING\tSINCE\tLATEST\tWHAT")
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", cmp.Or(b.Why, "to be released"), ago(b.Since), ago(b.Due), oneLine(cmp.Or(what, "-")))
	}
	fmt.Fprintln(w, "\nRUN\tBY\tBEGAN\tTOOK\tFETCHED\tOUTCOME\t")
	for _, r := range s.Runs {
		fetched := "-"
		if r.Bytes > 0 {
			fetched = size(r.Bytes)
		}
		notes := []string{r.Error}
		for _, name := range slices.Sorted(maps.Keys(r.Notes)) {
			notes = append(notes, name+" "+r.Notes[name])
		}
		for _, name := range slices.Sorted(maps.Keys(r.Counts)) {
			notes = append(notes, fmt.Sprintf("%s %d", name, r.Counts[name]))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%v\t%s\t%s\t%s\n", r.ID, r.Trigger, ago(r.Began),
			r.Ended.Sub(r.Began).Round(time.Millisecond), fetched, r.Outcome, oneLine(strings.Join(notes, " ")))
	}
	return w.Flush()
}

// upstream is what else is known of upstream.
func (s jobStatus) upstream() string {
	var texts []string
	if s.Serial != 0 {
		texts = append(texts, fmt.Sprintf("serial %d", s.Serial))
	}
	if !s.Seen.IsZero() {
		texts = append(texts, "last seen "+ago(s.Seen))
	}
	return cmp.Or(strings.Join(texts, ", "), "-")
}

// oneLine is a text that cannot upset a terminal: what commands print is in it.
func oneLine(text string) string {
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)), " ")
}

// wrong is what is wrong with a job.
func (s jobStatus) wrong() []string {
	var wrong []string
	if s.Last != nil && !s.Last.Outcome.Good() && s.Last.Error != "" {
		wrong = append(wrong, s.Last.Error)
	}
	if s.Problem != "" {
		wrong = append(wrong, s.Problem)
	}
	return wrong
}

// now says what the job is doing, or why it is not.
func (s jobStatus) now() string {
	text := s.doing()
	if pending := s.pending(); pending != "" && s.Current == nil {
		text = strings.TrimPrefix(text+"; "+pending, "-; ")
	}
	if s.Hold == nil {
		return text
	}
	held := strings.TrimSuffix("held: "+s.Hold.Reason, ": ")
	if text == "-" {
		return held
	}
	return text + "; " + held
}

// pending says what is not released yet.
func (s jobStatus) pending() string {
	b := s.Pending
	if b == nil || b.Why == "" {
		return "" // then it is to be, and the last run says why it is not
	}
	text := "to be released: " + oneLine(b.Why) + ", the first " + ago(b.Since)
	if !b.Due.IsZero() {
		text += "; at the latest " + ago(b.Due)
	}
	return text
}

func (s jobStatus) doing() string {
	switch {
	case s.Current != nil:
		text := s.Current.Stage
		if s.Progress != nil && s.Progress.Done >= 0 && s.Progress.Done <= 1 {
			text += fmt.Sprintf(" %.0f%%", 100*s.Progress.Done)
		}
		if s.Progress != nil && s.Progress.Detail != "" {
			text += ", " + s.Progress.Detail
		}
		text += ", for " + time.Since(s.Current.Began).Round(time.Second).String()
		if s.Estimate > 0 {
			text += " of about " + time.Duration(s.Estimate*float64(time.Second)).Round(time.Second).String()
		}
		return text
	case s.Waits != "":
		return s.Waits
	}
	return "-"
}
