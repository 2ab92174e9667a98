package check

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/url"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
)

// An entry is what a listing has: an address below that of the listing.
type entry struct {
	at   *url.URL
	dir  bool
	size int64 // -1 if it is not told
}

// files looks at files that listings of directories lead to, from the top on: some ways
// down chosen at random, or all. A mount may be one file.
func (l *mountLook) files(ctx context.Context) {
	top := l.at("")
	if l.isOneFile = l.isFile(ctx); l.isOneFile {
		l.look(ctx, object{at: l.c.at(l.Path), size: -1, aspect: File})
		return
	}
	entries, err := l.list(ctx, top)
	if err == nil && len(entries) == 0 {
		err = fault.Errorf("lists no files")
	}
	if isMissing(err) {
		err = fault.Errorf("%s: there is no listing; name a file below it", err)
	}
	if err != nil {
		l.failed(ctx, Index, top, err)
		return
	}
	w := walk{mountLook: l, lists: maxListings}
	crew := newCrew(ctx)
	defer crew.wait()
	w.see = func(e entry) {
		crew.do(func(ctx context.Context) {
			l.look(ctx, object{at: e.at, size: e.size, by: "the listing", aspect: File})
		})
	}
	if l.All {
		w.all(ctx, entries, 0)
		return
	}
	w.lists = 20 * l.Sample
	w.some(ctx, entries)
}

// isFile reports whether the mount is a file: directories are redirected to their name with
// a slash.
func (l *mountLook) isFile(ctx context.Context) bool {
	at := l.c.at(l.Path)
	if strings.HasSuffix(at.Path, "/") {
		return false
	}
	a, err := l.get(ctx, at, nil)
	if err != nil {
		return false // the listing will tell
	}
	defer a.close()
	return a.at().Path == at.Path
}

// A walk goes down listings.
type walk struct {
	*mountLook
	see   func(entry)
	lists int // that may still be read
}

// maxDepth is how deep directories may lie in each other.
const maxDepth = 64

func (w *walk) all(ctx context.Context, entries []entry, depth int) {
	for _, e := range entries {
		if ctx.Err() != nil {
			return
		}
		if !e.dir {
			w.listed(1)
			w.see(e)
			continue
		}
		if depth == maxDepth {
			w.fault(Index, e.at, "lies deeper than %d directories", maxDepth)
			continue
		}
		below, ok := w.below(ctx, e)
		if !ok {
			return
		}
		w.all(ctx, below, depth+1)
	}
}

// below lists a directory. ok is false if no more are to be listed: there are too many, or
// the host does not answer.
func (w *walk) below(ctx context.Context, e entry) (entries []entry, ok bool) {
	if w.lists--; w.lists < 0 {
		w.note(Index, e.at, "is not looked at, nor what follows: there are too many directories")
		return nil, false
	}
	entries, err := w.list(ctx, e.at)
	w.failed(ctx, Index, e.at, err)
	return entries, !errors.As(err, new(*silence))
}

// some looks at as many files as are to be sampled: each time a way down is chosen, and one
// file at its end.
func (w *walk) some(ctx context.Context, top []entry) {
	known := map[string][]entry{}
	seen := map[string]bool{}
	for tries := 0; len(seen) < w.Sample && tries < 4*w.Sample; tries++ {
		entries := top
		for range maxDepth {
			p := picker[entry]{n: 1}
			for _, e := range entries {
				p.see(e)
			}
			if len(p.kept) == 0 || ctx.Err() != nil {
				break
			}
			e := p.kept[0]
			if !e.dir {
				if !seen[e.at.String()] {
					seen[e.at.String()] = true
					w.see(e)
				}
				break
			}
			below, ok := known[e.at.String()]
			if !ok {
				if below, ok = w.below(ctx, e); !ok {
					return
				}
				known[e.at.String()] = below
			}
			entries = below
		}
	}
	w.listed(int64(len(seen)))
}

// listingAccept has servers answer with JSON if they can, which tells sizes.
const listingAccept = "application/json, text/html;q=0.9"

// list reads the listing of a directory: JSON of Caddy's file_server and of this mirror, or
// the links of a page.
func (l *mountLook) list(ctx context.Context, dir *url.URL) ([]entry, error) {
	text, a, err := l.read(ctx, dir, accept(listingAccept), maxListing)
	if err != nil {
		return nil, err
	}
	page := a.at()
	var entries []entry
	add := func(href string, size int64) {
		if e, ok := entryOf(page, href, size); ok {
			entries = append(entries, e)
		}
	}
	kind, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	switch kind {
	case "application/json":
		var list []struct {
			URL   string `json:"url"`
			Size  int64  `json:"size"`
			IsDir bool   `json:"is_dir"`
		}
		if err := json.Unmarshal(text, &list); err != nil {
			return nil, fault.Errorf("is no listing: %s", fault.Show(err.Error()))
		}
		for _, e := range list {
			if e.IsDir {
				e.Size = -1
			}
			add(e.URL, e.Size)
		}
	case "text/html":
		r := pypi.Reader{See: func(f pypi.File) error { add(f.URL, -1); return nil }, Remark: func(string) {}}
		if err := fault.Of(r.HTML(bytes.NewReader(text))); err != nil {
			return nil, err
		}
	default:
		return nil, fault.Errorf("is of the type %s, which is no listing", fault.Show(a.Header.Get("Content-Type")))
	}
	return entries, nil
}

// entryOf returns what a link on a listing leads to. ok is false if that is not in the
// directory: up, elsewhere, or the listing in another order.
func entryOf(page *url.URL, href string, size int64) (e entry, ok bool) {
	u, err := page.Parse(href)
	if err != nil || u.Host != page.Host || u.Scheme != page.Scheme || u.RawQuery != "" {
		return e, false
	}
	u.Fragment = ""
	rest, below := strings.CutPrefix(u.Path, page.Path)
	name, dir := strings.CutSuffix(rest, "/")
	if !below || name == "" || strings.Contains(name, "/") || name == "." || name == ".." {
		return e, false
	}
	return entry{u, dir, size}, true
}
