package check

import (
	"cmp"
	"context"
	"errors"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
)

// ClientsPath is where a mirror of this kind has the configuration for its clients, unless
// it is configured otherwise (the directive mirror_clients).
const ClientsPath = "/clients"

// maxConfigs is how many files of configuration are read.
const maxConfigs = 100

// ErrUntold says that a host does not tell its clients what is mirrored there.
var ErrUntold = errors.New("the host does not tell its clients what is mirrored there")

// Discover asks a host for the configuration that it has for clients. It returns the mounts
// that are named there; skipped are those that cannot be looked at. Its error is [ErrUntold]
// if there is none.
func Discover(ctx context.Context, o Options) (mounts []Mount, skipped []string, err error) {
	base, err := ParseURL(o.URL)
	if err != nil {
		return nil, nil, err
	}
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	c := newClient(base, &o)
	defer c.close()
	d := discovery{mountLook: &mountLook{Options: &o, Mount: Mount{Path: ClientsPath}, c: c}}
	names, err := d.names(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		text, _, err := d.read(ctx, d.at(name), nil, maxConfig)
		if err != nil {
			return nil, nil, fault.Errorf("%s %s", shown(d.at(name)), err)
		}
		d.config(name, string(text))
	}
	if len(d.mounts) == 0 {
		return nil, d.skipped, ErrUntold
	}
	return d.mounts, d.skipped, nil
}

type discovery struct {
	*mountLook
	mounts  []Mount
	skipped []string
}

// names are the files that the host has for its clients.
func (d *discovery) names(ctx context.Context) (names []string, err error) {
	s, err := d.spool(ctx, d.at(""), accept("text/html"), maxConfig, digest.Digest{}, "")
	if status := statusError(0); errors.As(err, &status) {
		return nil, ErrUntold
	}
	if err != nil {
		return nil, fault.Errorf("%s/ %s", ClientsPath, err)
	}
	defer s.Close()
	r := pypi.Reader{Remark: func(string) {}, See: func(f pypi.File) error {
		if e, ok := entryOf(s.at, f.URL, -1); ok && !e.dir && len(names) < maxConfigs {
			names = append(names, path.Base(e.at.Path))
		}
		return nil
	}}
	if r.HTML(s) != nil { // some other page
		return nil, ErrUntold
	}
	return names, nil
}

// config reads a file of configuration.
func (d *discovery) config(name, text string) {
	switch {
	case name == "pip.conf":
		for _, m := range pipIndex.FindAllStringSubmatch(text, -1) {
			d.add(PyPI, strings.TrimSuffix(strings.TrimSuffix(m[1], "/"), "/simple"))
		}
	case name == "mirror_info.sh":
		for _, m := range wheelMirror.FindAllStringSubmatch(text, -1) {
			d.add(Wheel, m[1])
		}
	case strings.HasSuffix(name, ".sources"):
		for stanza := range strings.SplitSeq(text, "\n\n") {
			d.sources(stanza)
		}
	case strings.HasSuffix(name, ".repo"):
		for _, m := range baseURL.FindAllStringSubmatch(text, -1) {
			d.add(RPM, m[1])
		}
	}
}

var (
	// pipIndex is an index of pip; those of wheels are known from elsewhere.
	pipIndex = regexp.MustCompile(`(?m)^\s*(?:index-url\s*=\s*|extra-index-url\s*=\s*)?(https?://\S+/simple/?)\s*$`)

	// wheelMirror is where shells find wheels; a platform may follow, which they fill in.
	wheelMirror = regexp.MustCompile(`NODEPOOL_WHEEL_MIRROR:-\w+://[^/\s}]+(/[^\s}$]*)`)

	baseURL = regexp.MustCompile(`(?m)^baseurl\s*=\s*(\S+)`)
)

// sources reads a stanza of a file for apt.
func (d *discovery) sources(stanza string) {
	fields := map[string][]string{}
	for line := range strings.Lines(stanza) {
		if name, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
			fields[strings.ToLower(name)] = strings.Fields(value)
		}
	}
	for _, uri := range fields["uris"] {
		d.add(Apt, uri, fields["suites"]...)
	}
}

// add adds a mount, by its path or its URL, or names to one that is known.
func (d *discovery) add(kind Kind, address string, names ...string) {
	u, err := url.Parse(address)
	if err == nil && u.Host != "" {
		err = d.c.allows(u)
	}
	var m Mount
	if err == nil {
		// What is mounted at the root, as at an old name, has no path.
		below := cmp.Or(strings.TrimPrefix(u.Path, strings.TrimSuffix(d.c.base.Path, "/")), "/")
		m, err = ParseMount(kind, strings.Join(append([]string{below}, names...), ","))
	}
	if err != nil || strings.ContainsAny(address, "$,") {
		d.skipped = append(d.skipped, fault.Show(address))
		return
	}
	for i := range d.mounts {
		was := &d.mounts[i]
		if was.Kind != kind || was.Path != m.Path {
			continue
		}
		for _, name := range m.Names {
			if !slices.Contains(was.Names, name) {
				was.Names = append(was.Names, name)
			}
		}
		return
	}
	d.mounts = append(d.mounts, m)
}
