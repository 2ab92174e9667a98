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
	i, t := x.status(origin.Release{Token: s.Release, Seen: s.Seen})
	s.Index = i
	if t == nil {
		return s
	}
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

// status is the state of the index of a release of the origin, and the tree to count the
// files of: nil if none was listed. The index itself is nil if nobody has asked for it. A
// release that is new is listed from now on: clients may not ask for long.
func (x *Index) status(r origin.Release) (*origin.IndexStatus, *tree) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.newest == nil {
		return nil, nil
	}
	x.notice(r)
	i := &origin.IndexStatus{State: "listing"}
	t := x.walked
	if t == nil {
		return i, nil
	}
	i.Unread = len(x.queue.jobs)
	switch {
	case t != x.newest || t.token != r.Token:
	case t == x.whole:
		i.State = "complete"
	default:
		i.State = "reading"
	}
	return i, t
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
