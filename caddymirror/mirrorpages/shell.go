package mirrorpages

import (
	_ "embed"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// known are the names that OpenDev's jobs have for mirrors, where they are not those of
// the directory.
var known = map[string]string{
	"ubuntu-cloud-archive": "NODEPOOL_UCA_MIRROR",
	"ubuntu-mariadb":       "NODEPOOL_MARIADB_MIRROR",
}

//go:embed slug.sh
var slug string

// shell is the file of variables: NODEPOOL_MIRROR_HOST, and the URL of each mount. What
// the environment has already stays as it is.
func (s *site) shell(p *python) string {
	var b strings.Builder
	fmt.Fprintf(&b, "export NODEPOOL_MIRROR_HOST=\"${NODEPOOL_MIRROR_HOST:-%s}\"\n", s.at.host)
	done := map[string]bool{}
	port := ""
	if s.at.port != "" {
		port = ":" + s.at.port
	}
	add := func(name, path string) {
		if !done[name] {
			done[name] = true
			fmt.Fprintf(&b, "export %s=\"${%[1]s:-%s://$NODEPOOL_MIRROR_HOST%s%s}\"\n", name, s.at.scheme, port, path)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.c.Variables)) {
		if path, ok := s.path(s.c.Variables[name]); ok {
			add(name, path)
		}
	}
	// The first is for all that is not asked for by name.
	if len(p.indexes) > 0 {
		add("NODEPOOL_PYPI_MIRROR", p.indexes[0]+"/simple")
	}
	if len(p.shell) > 0 {
		if p.open {
			b.WriteString(slug)
		}
		add("NODEPOOL_WHEEL_MIRROR", p.shell[0])
	}
	for _, m := range s.mounts {
		at, _ := s.path(m.Prefix)
		switch {
		case m.Prefix == "", slices.Contains(p.indexes, at), slices.Contains(p.shell, at), slices.Contains(p.shell, at+"/$AFS_SLUG"):
			continue // named already
		}
		name := known[path.Base(m.Prefix)]
		if name == "" {
			name = "NODEPOOL_" + strings.ToUpper(strings.Map(identifier, strings.Trim(m.Prefix, "/"))) + "_MIRROR"
		}
		// These two have the URLs of something within.
		if name != "NODEPOOL_PYPI_MIRROR" && name != "NODEPOOL_WHEEL_MIRROR" {
			add(name, at)
		}
	}
	return b.String()
}

// identifier is what stands for a rune in the name of a variable.
func identifier(r rune) rune {
	if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
		return r
	}
	return '_'
}
