package wheels

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/constraints"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
)

// maxPage is how large a page of the index may be: the largest of PyPI has some 10 MiB.
const maxPage = 256 << 20

// index is where sources come from.
type index struct {
	client *http.Client
	base   *url.URL
	hosts  *hosts
}

func newIndex(client *http.Client, base *url.URL, hosts *hosts) *index {
	return &index{client, base, hosts}
}

// page is what the index has of a package.
type page struct {
	wheels   []wheel.Name
	files    map[string]string // sha256 of the files that are told with one, by name
	versions []string          // that are not withdrawn
}

// An indexError says that the index does not answer as one does. It is no package's fault.
type indexError struct{ err error }

func (e *indexError) Error() string { return "the index does not answer: " + e.err.Error() }
func (e *indexError) Unwrap() error { return e.err }

// page asks for the page of a package, up to three times. One that the index does not know
// has an empty page.
func (x *index) page(ctx context.Context, name string) (*page, error) {
	for nap := time.Second; ; nap *= 3 {
		p, err := x.ask(ctx, name)
		switch {
		case err == nil:
			return p, nil
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case nap > 3*time.Second:
			return nil, &indexError{err}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(nap):
		}
	}
}

func (x *index) ask(ctx context.Context, name string) (*page, error) {
	u := x.base.JoinPath(name + "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.01")
	resp, err := x.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	p := &page{files: map[string]string{}}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return p, nil
	default:
		return nil, fmt.Errorf("%s: %s", u.Redacted(), resp.Status)
	}
	at := resp.Request.URL // after redirects
	x.hosts.allow(at)
	r := pypi.Reader{
		See:    func(f pypi.File) error { x.see(p, at, name, f); return nil },
		Remark: func(string) {},
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	body := io.LimitReader(resp.Body, maxPage)
	if strings.HasSuffix(media, "json") {
		err = r.JSON(body, "files")
	} else {
		err = r.HTML(body)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	return p, nil
}

// see notes a file of a page.
func (x *index) see(p *page, base *url.URL, project string, f pypi.File) {
	u, err := base.Parse(f.URL)
	if err != nil {
		return
	}
	x.hosts.allow(u)
	file := path.Base(u.Path)
	sum := f.Digest
	if sum.Kind == "" {
		sum, _ = pypi.DigestOfURL(f.URL)
	}
	if sum.Kind == "sha256" {
		p.files[file] = hex.EncodeToString([]byte(sum.Sum))
	}
	if n, err := wheel.ParseName(file); err == nil {
		if pypi.Normalize(n.Project) == project {
			p.wheels = append(p.wheels, n)
			if !f.Yanked {
				p.versions = append(p.versions, n.Version)
			}
		}
		return
	}
	if n, err := wheel.ParseSource(file); err == nil && pypi.Normalize(n.Project) == project && !f.Yanked {
		p.versions = append(p.versions, n.Version)
	}
}

// hasWheel reports whether the index has a wheel that a Python can use.
func (p *page) hasWheel(req constraints.Requirement, tags map[string]bool) bool {
	for _, n := range p.wheels {
		if req.Allows(n.Version) && compatible(n, tags) {
			return true
		}
	}
	return false
}

// notOwn makes sure that the index is not where the wheels are served that are built here:
// those would look as if upstream had them, and none would be built any more.
func (f *farm) notOwn(ctx context.Context) error {
	const look = 3
	n := 0
	for file, sum := range f.memory.Built {
		name, err := wheel.ParseName(file)
		if err != nil || !f.published.hasFile(file) {
			continue
		}
		p, err := f.index.page(ctx, pypi.Normalize(name.Project))
		if err != nil {
			return err
		}
		if p.files[file] == sum {
			return fmt.Errorf("the index %s has %s, which was built here: it must not be the one that serves what this job builds", f.w.index.Redacted(), file)
		}
		if n++; n == look {
			break
		}
	}
	return nil
}
