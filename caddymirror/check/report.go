package check

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
)

// An Aspect is what was looked at when a fault was found.
type Aspect string

// The aspects of a mirror.
const (
	Reach     Aspect = "reach"     // the mount answers
	Index     Aspect = "index"     // its indexes are there, whole, and can be read
	Signature Aspect = "signature" // they are signed by a key of the keyring
	Date      Aspect = "date"      // they have not expired, nor are of the future
	File      Aspect = "file"      // files are there, with the size and checksum listed
	Metadata  Aspect = "metadata"  // and so are the metadata of wheels beside them (PEP 658)
	Validator Aspect = "validator" // there is an ETag or a date, and it stays while the file does
	Condition Aspect = "condition" // conditional requests are answered right (RFC 9110 section 13)
	Range     Aspect = "range"     // and so are those for ranges (section 14)
	Head      Aspect = "head"      // HEAD answers what GET does
	Cache     Aspect = "cache"     // what was fetched comes from the cache the second time
	Absent    Aspect = "absent"    // what is not there is answered with 404, not as if it were
	Age       Aspect = "age"       // the data are not older than they may be
)

// A Report is what was found at a host.
type Report struct {
	URL     string    `json:"url"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	OK      bool      `json:"ok"` // there is no fault
	Mounts  []Result  `json:"mounts"`
}

// A Result is what was found of a mount.
type Result struct {
	Mount string `json:"mount"` // as it was named
	Kind  Kind   `json:"kind"`
	OK    bool   `json:"ok"` // there is no fault

	Listed int64 `json:"listed"` // files, or projects of Python, in the indexes that were read
	Files  int64 `json:"files"`  // fetched and compared
	Bytes  int64 `json:"bytes"`  // received

	// Date is when upstream made the data, or, if the mirror has a timestamp.txt, when it
	// last looked, whichever is newer; zero if nothing tells.
	Date time.Time `json:"date,omitzero"`

	Faults []Finding `json:"faults,omitempty"` // the first, in the order of their URLs
	Notes  []Finding `json:"notes,omitempty"`  // what is no fault, and good to know

	// More is how many faults there are besides.
	More int `json:"more_faults,omitempty"`
}

// A Finding is one thing that was found.
type Finding struct {
	Aspect Aspect `json:"aspect"`
	URL    string `json:"url"` // the path, and the query if there is one
	Reason string `json:"reason"`
}

func (r *Result) sort() {
	for _, list := range [][]Finding{r.Faults, r.Notes} {
		slices.SortStableFunc(list, func(a, b Finding) int {
			return cmp.Or(strings.Compare(a.URL, b.URL), strings.Compare(string(a.Aspect), string(b.Aspect)), strings.Compare(a.Reason, b.Reason))
		})
	}
}

// Print writes the report for people.
func (r *Report) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MOUNT\tKIND\tLISTED\tFETCHED\tRECEIVED\tAGE\tRESULT")
	for _, m := range r.Mounts {
		result := "good"
		if n := len(m.Faults) + m.More; n == 1 {
			result = "1 fault"
		} else if n > 1 {
			result = fmt.Sprintf("%d faults", n)
		}
		age := "-"
		if !m.Date.IsZero() {
			age = strings.TrimSuffix(humanize.RelTime(m.Date, r.Began, "", "ahead"), " ")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Mount, m.Kind, humanize.Comma(m.Listed), humanize.Comma(m.Files),
			humanize.IBytes(uint64(m.Bytes)), age, result)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, m := range r.Mounts {
		if len(m.Faults)+len(m.Notes) > 0 {
			fmt.Fprintf(out, "\n%s\n", m.Mount)
		}
		for _, f := range m.Faults {
			fmt.Fprintf(out, "  %s: %s %s\n", f.Aspect, f.URL, f.Reason)
		}
		if m.More > 0 {
			fmt.Fprintf(out, "  and %d more\n", m.More)
		}
		for _, f := range m.Notes {
			fmt.Fprintf(out, "  note: %s %s\n", f.URL, f.Reason)
		}
	}
	return nil
}

// PrintJSON writes the report for machines.
func (r *Report) PrintJSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// Faulty says in one line how many mounts have faults; "" if none has.
func (r *Report) Faulty() string {
	var bad []string
	for _, m := range r.Mounts {
		if !m.OK {
			bad = append(bad, m.Mount)
		}
	}
	if len(bad) == 0 {
		return ""
	}
	return fmt.Sprintf("%s: %d of %d mounts have faults: %s", r.URL, len(bad), len(r.Mounts), strings.Join(bad, " "))
}
