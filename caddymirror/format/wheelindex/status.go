package wheelindex

import (
	"github.com/dustin/go-humanize"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// maxLeftOut is how many files the status names that are left out.
const maxLeftOut = 100

// Status implements [origin.Tree].
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
	switch {
	case x.newest != t:
	case x.whole == t:
		i.State = "complete"
	default:
		i.State = "reading"
	}
	i.Unread = len(x.queue.jobs)
	x.mu.Unlock()
	for _, r := range t.roots {
		for _, name := range r.names {
			if x.anyListed(r.projects[name]) {
				i.Projects++
			}
		}
	}
	if t.cut {
		note(i, ".", "has more files than an index may have, "+humanize.Comma(maxFiles)+": some are missing")
	}
	for f := range t.all() {
		why, err := x.look(f)
		switch {
		case why != "":
			i.LeftOut++
			note(i, f.path, why)
			continue
		case err != nil:
			note(i, f.path, "is listed without a checksum: "+err.Error())
		}
		i.Files++
	}
	return s
}

// look tells why a file is left out, or has not been read. The lock is held for one file
// at a time: requests wait for it.
func (x *Index) look(f *file) (why string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if j := x.queue.jobs[f.path]; j != nil {
		err = j.err
	}
	if f.young != nil {
		err = errYoung
	}
	return x.why(f), err
}

func note(i *origin.IndexStatus, name, reason string) {
	if len(i.Remarks) < maxLeftOut {
		i.Remarks = append(i.Remarks, origin.IndexRemark{Name: name, Reason: reason})
	}
}
