// Package check looks at a mirror host from outside, as its clients do: the indexes, their
// signatures and dates, and files that they list, compared with what the indexes say of
// them; ranges, conditional requests and the cache. It relies on nothing but HTTP, and so
// checks any mirror, not just this one.
//
// What it reads is not believed: names that lead to other hosts are refused, answers are
// bounded in size and time (see limits.go), and whatever is wrong with them is a fault of
// the mirror that is reported, not an error of the check.
package check

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/openpgp"
)

// A Kind is what a mount has: how its index is found and read.
type Kind string

// The kinds of mounts.
const (
	PyPI  Kind = "pypi"  // a Python package index: pages below simple/ (PEP 503, 691)
	Wheel Kind = "wheel" // wheels: such an index for each platform, below PLATFORM/
	Apt   Kind = "apt"   // distributions of Debian packages
	RPM   Kind = "rpm"   // an RPM repository: the directory that repodata/ is in
	Files Kind = "files" // files with no index but listings of directories, or one file
)

// A Mount is what is to be looked at.
type Mount struct {
	Kind Kind

	// Path is that of its URL, such as "/pypi".
	Path string

	// Names are, of [Apt], the distributions: below dists/, or, with a slash at the end,
	// relative to the mount, as in sources.list(5). Of [Wheel] they are the platforms;
	// default: those that the mount lists.
	Names []string
}

// ParseMount reads a mount as the command line has it: "/ubuntu,jammy,jammy-updates".
func ParseMount(kind Kind, text string) (Mount, error) {
	parts := strings.Split(text, ",")
	m := Mount{Kind: kind, Path: parts[0], Names: parts[1:]}
	switch {
	case !strings.HasPrefix(m.Path, "/"):
		return m, fmt.Errorf("--%s %s: the path of a mount begins with a slash", kind, text)
	case slices.Contains(m.Names, ""):
		return m, fmt.Errorf("--%s %s: there is an empty name in it", kind, text)
	case kind == Apt && len(m.Names) == 0:
		return m, fmt.Errorf("--%s %s: which distributions? For example %s,jammy,jammy-updates, or %s,./ for a flat repository", kind, text, text, text)
	case kind != Apt && kind != Wheel && len(m.Names) > 0:
		return m, fmt.Errorf("--%s %s: what is %q for?", kind, text, m.Names[0])
	}
	for _, name := range m.Names {
		if strings.HasPrefix(name, "/") || slices.Contains(strings.Split(name, "/"), "..") {
			return m, fmt.Errorf("--%s %s: %s leads out of the mount", kind, text, name)
		}
	}
	m.Path = path.Clean(m.Path)
	return m, nil
}

// String is the mount as [ParseMount] reads it.
func (m Mount) String() string { return strings.Join(append([]string{m.Path}, m.Names...), ",") }

// Options say what to look at, and how.
type Options struct {
	// URL of the host: its scheme, name and port, and the path that all mounts are below,
	// if there is one.
	URL string

	Mounts []Mount

	// Sample is how many files of each mount are fetched, chosen at random; and so many
	// of the indexes that list them. Default: 5.
	Sample int

	// All has all files fetched.
	All bool

	// MaxAge is how old the data of a mount may be, by the dates of its indexes. Default:
	// any age.
	MaxAge time.Duration

	// Keyring has the keys of which one must have signed the indexes of [Apt] and [RPM].
	// Default: who has signed does not matter.
	Keyring *openpgp.Keyring

	// Timeout is how long an answer may take to begin, and to go on. Default: 30 s.
	Timeout time.Duration

	// Connect is the host or address to connect to instead of the URL's, with or without a
	// port: for a mirror whose name is not in the DNS yet. Default: that of the URL.
	Connect string

	// Progress, if it is not nil, is told what is looked at, from several goroutines.
	Progress func(what string)

	// Transport makes the requests. Default: one with the bounds of this package, and the
	// proxies that the environment names.
	Transport http.RoundTripper
}

// DefaultSample is how many files of a mount are fetched by default.
const DefaultSample = 5

// DefaultTimeout is how long an answer may take to begin, and to go on, by default.
const DefaultTimeout = 30 * time.Second

// ParseURL reads the URL of a host. Without a scheme it is http.
func ParseURL(text string) (*url.URL, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading the URL: %w", err)
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("%s is not the URL of a host, such as http://mirror.example.org", text)
	}
	return u, nil
}

// Run looks at a host. It returns an error only if options are wrong or ctx has ended;
// what is wrong with the host is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	base, err := ParseURL(o.URL)
	if err != nil {
		return nil, err
	}
	if o.Sample <= 0 {
		o.Sample = DefaultSample
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	c := newClient(base, &o)
	defer c.close()
	r := &Report{URL: base.Redacted(), Began: time.Now().UTC()}
	for _, m := range o.Mounts {
		l := look(ctx, &o, c, m)
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		r.Mounts = append(r.Mounts, l.result)
	}
	r.Seconds = time.Since(r.Began).Seconds()
	r.OK = !slices.ContainsFunc(r.Mounts, func(m Result) bool { return !m.OK })
	return r, nil
}

// look looks at a mount; once more if it was released meanwhile, since an index of
// the old release and a file of the new one do not match, which is no fault of the
// mirror.
func look(ctx context.Context, o *Options, c *client, m Mount) *mountLook {
	for again := false; ; again = true {
		l := &mountLook{Options: o, Mount: m, c: c, before: c.bytes.Load()}
		l.result = Result{Mount: m.String(), Kind: m.Kind, OK: true}
		l.run(ctx)
		if l.result.OK || again || ctx.Err() != nil || !l.changed(ctx) {
			l.finish()
			return l
		}
	}
}

func (l *mountLook) run(ctx context.Context) {
	switch l.Kind {
	case PyPI:
		l.index(ctx, l.at("simple/"), l.at("simple/"))
		l.lastModified(ctx)
	case Wheel:
		l.wheels(ctx)
	case Apt:
		l.apt(ctx)
	case RPM:
		l.rpm(ctx)
	default:
		l.files(ctx)
	}
	l.absent(ctx)
	l.timestamp(ctx)
	l.judgeAge()
}
