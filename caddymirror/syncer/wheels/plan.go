package wheels

import (
	"context"
	"fmt"
	"slices"
	"time"

	pep440 "github.com/aquasecurity/go-pep440-version"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/constraints"
)

// A unit is one version of a package, for all Pythons that it is wanted for. They are
// looked at one after the other: what the first builds may do for the others.
type unit struct {
	wanted []want
}

type want struct {
	req    constraints.Requirement
	python *python
}

// plan makes units of the constraints.
func plan(list *constraints.List, pythons []*python) []*unit {
	at := map[string]*unit{}
	var units []*unit
	for _, p := range pythons {
		for _, req := range list.For(p.Environment) {
			u := at[req.Key()]
			if u == nil {
				u = new(unit)
				at[req.Key()] = u
				units = append(units, u)
			}
			u.wanted = append(u.wanted, want{req, p})
		}
	}
	return units
}

// unit sees to it that there are the wheels of a unit. An error ends the run: it is not
// the package's.
func (f *farm) unit(ctx context.Context, u *unit) error {
	var page *page // of the package, once it is asked for
	for _, w := range u.wanted {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		what, err := f.want(ctx, w, &page)
		if err != nil {
			return err
		}
		f.tally.add(what)
	}
	return nil
}

// want sees to it that there is one wheel, and says what became of it.
func (f *farm) want(ctx context.Context, w want, p **page) (state, error) {
	if f.w.denied(w.req.Name) {
		return denied, nil
	}
	ask := func() (err error) {
		if *p == nil {
			*p, err = f.index.page(ctx, w.req.Name)
		}
		return err
	}
	_, pinned := w.req.Pin()
	if !pinned && w.req.URL == "" {
		if err := ask(); err != nil {
			return 0, err
		}
		version := (*p).newest(w.req)
		if version == "" {
			return f.failed(w, "", fmt.Sprintf("%s has no version that %s allows", f.w.index.Redacted(), w.req))
		}
		w.req.Specifiers = []constraints.Specifier{{Op: "==", Version: version}}
	}
	if f.published.has(w.req, w.python.tags) || f.memory.made(w.req.Key(), w.python.tags, f.published) {
		return kept, nil
	}
	if why := f.memory.waits(w.key(), time.Now()); why != "" {
		f.tally.failed(w.String() + ": " + why)
		return waiting, nil
	}
	if w.req.URL != "" {
		f.hosts.allowURL(w.req.URL)
		return f.make(ctx, w)
	}
	if !f.w.KeepAll && f.memory.isUpstream(w.key(), time.Now()) {
		return upstream, nil
	}
	if err := ask(); err != nil {
		return 0, err
	}
	if !f.w.KeepAll && (*p).hasWheel(w.req, w.python.tags) {
		f.memory.sawUpstream(w.key(), time.Now())
		return upstream, nil
	}
	return f.make(ctx, w)
}

// key names a wheel that is wanted, in the memory of failures.
func (w want) key() string { return w.req.Key() + " for " + w.python.Label }

func (w want) String() string { return w.req.Redacted() + " for " + w.python.name }

// newest is the newest version that a requirement allows.
func (p *page) newest(req constraints.Requirement) string {
	var all []pep440.Version
	for _, v := range p.versions {
		if parsed, err := pep440.Parse(v); err == nil && req.Allows(v) {
			all = append(all, parsed)
		}
	}
	if len(all) == 0 {
		return ""
	}
	return slices.MaxFunc(all, pep440.Version.Compare).String()
}
