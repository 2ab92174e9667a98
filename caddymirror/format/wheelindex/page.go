package wheelindex

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/panics"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
)

// The names of pages that are made.
const (
	pageHTML = "index.html"
	pageJSON = "index.v1_json"
)

var pageNames = []string{pageHTML, pageJSON}

// A page is a page at one moment.
type page struct {
	x     *Index
	name  string
	page  pypi.Page
	size  int64
	sum   string
	bytes []byte // nil if it is too large to be in memory

	passing bool // there is more to be found out
}

// page makes the page of this name; ok is false if none is made.
func (x *Index) page(ctx context.Context, name string) (p *page, ok bool, err error) {
	base := path.Base(name)
	if !slices.Contains(pageNames, base) {
		return nil, false, nil
	}
	dir := path.Dir(name)
	at, ok := placeOf(dir)
	if !ok {
		return nil, false, nil
	}
	t := x.tree(ctx)
	p = &page{x: x, name: base}
	if at.list {
		var names []string
		for name := range x.projects(ctx, t, at.root) {
			names = append(names, name)
		}
		if len(names) == 0 {
			if x.before() == nil && !t.isDone() {
				return nil, true, fmt.Errorf("%w: %s is being listed", origin.ErrAway, at.root)
			}
			return nil, false, nil
		}
		p.page.Projects, p.passing = slices.Values(names), !t.isDone() || x.anyTorn(t)
	} else {
		files, all, err := x.find(ctx, t, at.root, at.project)
		if err != nil {
			return nil, true, err
		}
		x.await(ctx, files)
		if !x.describe(p, dir, files) {
			if there, _ := x.own(ctx, t, dir); there {
				return nil, false, nil
			}
			// Clients ask for each project that they need, of which few are here.
			return nil, true, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		p.page.Project = at.project
		p.passing = p.passing || !all
	}
	if _, pages := x.own(ctx, t, dir); pages {
		return nil, false, nil
	}
	return p, true, p.measure()
}

// await waits for files to be read, but not for long.
func (x *Index) await(ctx context.Context, files []*file) {
	ctx, cancel := context.WithTimeout(ctx, readPatience)
	defer cancel()
	var jobs []*job
	var young []*file
	x.mu.Lock()
	for _, f := range files {
		if f.young != nil {
			young = append(young, f)
			continue
		}
		if f.wrong != "" || x.factOf(f) != nil {
			continue
		}
		if j := x.queue.add(f, true); j.state != resting {
			jobs = append(jobs, j)
		}
	}
	x.mu.Unlock()
	x.glance(ctx, young)
	for _, j := range jobs {
		select {
		case <-j.done:
		case <-ctx.Done():
			return
		}
	}
}

// describe puts the files on a page in the directory dir that are not left out, and
// reports whether there are any.
func (x *Index) describe(p *page, dir string, files []*file) bool {
	links := make([]pypi.File, 0, len(files))
	versions := map[string]bool{}
	x.mu.Lock()
	for _, f := range files {
		if x.why(f) != "" {
			p.passing = p.passing || f.young != nil
			continue
		}
		k := x.factOf(f)
		p.passing = p.passing || k == nil || k.other
		links = append(links, f.link(dir, k))
		versions[f.version] = true
	}
	x.mu.Unlock()
	p.page.Files = slices.Values(links)
	p.page.Versions = sortVersions(versions)
	return len(links) > 0
}

// link is what a page in the directory dir has of a file, of which k is known, or
// nothing.
func (f *file) link(dir string, k *fact) pypi.File {
	l := pypi.File{URL: pypi.Escape(relative(dir, f.path)), Size: f.info.Size}
	if t := f.info.ModTime; t.Unix() > 1 { // build systems give all files the epoch
		l.UploadTime = t
	}
	if k == nil || k.other {
		return l
	}
	l.Digest = hexDigest(k.SHA256)
	l.RequiresPython = k.RequiresPython
	if k.MetadataSHA256 != "" {
		l.Metadata, l.MetadataDigest = true, hexDigest(k.MetadataSHA256)
	}
	return l
}

func hexDigest(text string) digest.Digest {
	d, err := digest.Parse("sha256", text)
	if err != nil {
		return digest.Digest{}
	}
	return d
}

// sortVersions returns versions, the oldest first.
func sortVersions(set map[string]bool) []string {
	type version struct {
		text string
		wheel.Version
	}
	all := make([]version, 0, len(set))
	for text := range set {
		v, err := wheel.ParseVersion(text)
		if err == nil {
			all = append(all, version{text, v})
		}
	}
	slices.SortFunc(all, func(a, b version) int {
		return cmp.Or(a.Compare(b.Version), strings.Compare(a.text, b.text))
	})
	texts := make([]string, len(all))
	for i, v := range all {
		texts[i] = v.text
	}
	return texts
}

func (p *page) write(w io.Writer) error {
	if p.name == pageJSON {
		return p.page.WriteJSON(w)
	}
	return p.page.WriteHTML(w)
}

// inMemory is how large a page may be that is made once, for all of it at a time.
const inMemory = 1 << 20

// measure makes the page to see how long it is, and keeps it if it is short.
func (p *page) measure() error {
	h := sha256.New()
	m := &measured{}
	if err := p.write(io.MultiWriter(h, m)); err != nil {
		return err
	}
	p.size, p.sum = m.size, hex.EncodeToString(h.Sum(nil))
	if m.size <= inMemory {
		p.bytes = m.buf.Bytes()
	}
	return nil
}

// measured keeps what is written as long as it is short.
type measured struct {
	buf  bytes.Buffer
	size int64
}

func (m *measured) Write(b []byte) (int, error) {
	if m.size += int64(len(b)); m.size > inMemory {
		m.buf = bytes.Buffer{}
	} else {
		m.buf.Write(b)
	}
	return len(b), nil
}

// info describes the page. It has no date: the page of another release may have an older
// one.
func (p *page) info() origin.Info {
	if p == nil {
		return origin.Info{}
	}
	return origin.Info{Name: p.name, Size: p.size, Validator: p.sum, Passing: p.passing}
}

func (p *page) open(offset int64) (origin.Body, error) {
	if p.bytes != nil {
		return (&blob{p.info(), p.bytes}).from(offset)
	}
	if offset < 0 {
		return nil, errOffset(p.name, offset)
	}
	r, w := io.Pipe()
	go func() {
		var err error
		defer func() { w.CloseWithError(err) }()
		defer panics.Recover(p.x.conf.Log, "wheel index", &err)
		err = p.write(&skipper{w, offset})
	}()
	return &piped{r, p.info()}, nil
}

// piped is a page that is made while it is read.
type piped struct {
	*io.PipeReader
	i origin.Info
}

func (b *piped) Info() origin.Info { return b.i }

// skipper leaves the first bytes out.
type skipper struct {
	io.Writer
	left int64
}

func (s *skipper) Write(b []byte) (int, error) {
	n := min(s.left, int64(len(b)))
	s.left -= n
	if n == int64(len(b)) {
		return len(b), nil
	}
	m, err := s.Writer.Write(b[n:])
	return int(n) + m, err
}

// A blob is a file that is in memory.
type blob struct {
	info  origin.Info
	bytes []byte
}

type blobBody struct {
	*bytes.Reader
	i origin.Info
}

func (b *blobBody) Info() origin.Info { return b.i }
func (b *blobBody) Close() error      { return nil }

func (b *blob) from(offset int64) (origin.Body, error) {
	if offset < 0 {
		return nil, errOffset(b.info.Name, offset)
	}
	return &blobBody{bytes.NewReader(b.bytes[min(offset, int64(len(b.bytes))):]), b.info}, nil
}

func sumOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
