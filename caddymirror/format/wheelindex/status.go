package wheelindex

import (
	"github.com/dustin/go-humanize"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// maxLeftOut is how many files the status names that are left out.
const maxLeftOut = 100

// Status implements [origin.Origin].
func (x *Index) Status() origin.Status {
	s := x.from.Status()
	x.mu.Lock()
	t := x.walked
	started := x.newest
	x.mu.Unlock()
	if started == nil {
		return s
	}
	i := &origin.IndexStatus{State: "listing"}
	s.Index = i
	if t == nil {
		return s
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	i.Unread = len(x.queue.jobs)
	switch {
	case x.newest != t:
	case i.Unread > 0:
		i.State = "reading"
	default:
		i.State = "complete"
	}
	for _, r := range t.roots {
		i.Projects += len(r.names)
	}
	if t.cut {
		note(i, ".", "has more files than an index may have, "+humanize.Comma(maxFiles)+": some are missing")
	}
	for f := range t.all() {
		why := x.why(f)
		if why == "" {
			if j := x.queue.jobs[f.path]; j != nil && j.err != nil {
				why = "is listed without a checksum: " + j.err.Error()
				note(i, f.path, why)
			}
			i.Files++
			continue
		}
		i.LeftOut++
		note(i, f.path, why)
	}
	return s
}

func note(i *origin.IndexStatus, name, reason string) {
	if len(i.Remarks) < maxLeftOut {
		i.Remarks = append(i.Remarks, origin.IndexRemark{Name: name, Reason: reason})
	}
}
