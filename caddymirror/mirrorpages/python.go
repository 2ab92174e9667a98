package mirrorpages

import (
	"fmt"
	"slices"
	"strings"
)

// python is what is mirrored for pip and uv.
type python struct {
	s       *site
	indexes []string // paths above simple/
	wheels  []string // paths of collections of wheels, for the platform asked for
	shell   []string // the same for shells, which know their platform
	open    bool     // there are collections that a platform has to be named for
	known   []string // platforms that may be
	err     error    // there are no wheels for the platform
}

func newPython(s *site, platform string) *python {
	p := &python{s: s}
	for _, path := range s.named(s.c.PyPI, "pypi") {
		if path, ok := s.path(path); ok {
			p.indexes = append(p.indexes, path)
		}
	}
	found := false
	for _, w := range s.wheels() {
		path, ok := s.path(w.Path)
		if !ok {
			continue
		}
		if w.Flat {
			p.wheels, p.shell = append(p.wheels, path), append(p.shell, path)
			continue
		}
		p.open = true
		p.known = append(p.known, w.Platforms...)
		p.shell = append(p.shell, path+"/$AFS_SLUG")
		// One that is the only one is meant.
		if platform == "" && len(w.Platforms) == 1 {
			p.wheels, found = append(p.wheels, path+"/"+escape(w.Platforms[0])), true
		}
		if platform != "" && (len(w.Platforms) == 0 || slices.Contains(w.Platforms, platform)) {
			p.wheels, found = append(p.wheels, path+"/"+escape(platform)), true
		}
	}
	if platform != "" && p.open && !found {
		p.err = fmt.Errorf("there are no wheels for %s", platform)
		if len(p.known) > 0 {
			p.err = fmt.Errorf("%w: there are for %s", p.err, strings.Join(p.known, ", "))
		}
	}
	return p
}

// named are paths that are configured, and the mounts of a format.
func (s *site) named(paths []string, format string) []string {
	all := slices.Clone(paths)
	for _, m := range s.mounts {
		if m.Format == format && !slices.ContainsFunc(paths, func(p string) bool { return strings.TrimSuffix(p, "/") == m.Prefix }) {
			all = append(all, m.Prefix)
		}
	}
	return all
}

// wheels are the collections that are configured, and those of mounts.
func (s *site) wheels() []Wheels {
	all := slices.Clone(s.c.Wheels)
	paths := make([]string, 0, len(all))
	for _, w := range all {
		paths = append(paths, w.Path)
	}
	for _, p := range s.named(paths, "wheel")[len(paths):] {
		all = append(all, Wheels{Path: p})
	}
	return all
}

// hint says how to choose a platform.
func (p *python) hint() string {
	switch {
	case !p.open:
		return ""
	case len(p.known) == 0:
		return "; for wheels add ?platform=, as in ubuntu-22.04-x86_64"
	}
	return "; for wheels add ?platform=" + strings.Join(p.known, " or ")
}

// indexURLs are the URLs of indexes, that of the first in front.
func (p *python) indexURLs() (all []string) {
	for _, path := range p.indexes {
		all = append(all, p.s.url(path+"/simple/"))
	}
	return all
}

// wheelURLs are the URLs of collections of wheels.
func (p *python) wheelURLs() (all []string) {
	for _, path := range p.wheels {
		all = append(all, p.s.url(path+"/"))
	}
	return all
}

// about says in a file which wheels it is for.
func (p *python) about() string {
	if p.open && len(p.wheels) == 0 {
		return "#" + strings.TrimPrefix(p.hint(), ";") + "\n"
	}
	return ""
}

// pip is pip.conf. A mirror may have to fetch what is asked for first: so it is given
// a minute.
func (p *python) pip() string {
	var b strings.Builder
	b.WriteString(p.about() + "[global]\ntimeout = 60\n")
	extra := p.wheelURLs()
	if all := p.indexURLs(); len(all) > 0 {
		fmt.Fprintf(&b, "index-url = %s\n", all[0])
		extra = append(extra, all[1:]...)
	}
	if len(extra) > 0 {
		fmt.Fprintf(&b, "extra-index-url = %s\n", strings.Join(extra, "\n\t"))
	}
	if p.s.at.scheme == "http" {
		fmt.Fprintf(&b, "trusted-host = %s\n", p.s.at.host)
	}
	return b.String()
}

// uv is uv.toml. By itself uv would look for other versions of a project in no further
// index once one has it.
func (p *python) uv() string {
	var b strings.Builder
	b.WriteString(p.about())
	extra := p.wheelURLs()
	all := p.indexURLs()
	if len(all) > 0 {
		extra = append(extra, all[1:]...)
	}
	if len(extra) > 0 {
		b.WriteString("index-strategy = \"unsafe-best-match\" # all versions of all indexes, as for pip\n")
	}
	for _, url := range extra {
		fmt.Fprintf(&b, "\n[[index]]\nurl = \"%s\"\n", url)
	}
	if len(all) > 0 {
		fmt.Fprintf(&b, "\n[[index]]\nurl = \"%s\"\ndefault = true\n", all[0])
	}
	return b.String()
}
