package mirrorpages

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// file is a file of configuration.
type file struct {
	name string
	note string // what it is for
	body []byte
	err  error // why it cannot be had as it was asked for
}

// files are those that have something in them.
func (c *Clients) files(s *site, platform string) []file {
	var all []file
	python := newPython(s, platform)
	if len(python.indexes) > 0 || len(python.wheels) > 0 {
		all = append(all,
			s.file("pip.conf", "pip: /etc/pip.conf"+python.hint(), python.pip(), python.err),
			s.file("uv.toml", "uv: /etc/uv/uv.toml"+python.hint(), python.uv(), python.err))
	}
	if len(s.mounts) > 0 {
		all = append(all, s.file("mirror_info.sh", "shells: . ./mirror_info.sh", s.shell(python), nil))
	}
	all = append(all, s.aptFiles()...)
	return append(all, s.rpmFiles()...)
}

// file says in the file where it comes from.
func (s *site) file(name, note, body string, err error) file {
	head := fmt.Sprintf("# %s%s/%s\n", s, escape(s.c.Path), name)
	return file{name, note, []byte(head + body), err}
}

var platformName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]*$`)

// platformOf is the platform that a request is for, "" if it names none.
func platformOf(r *http.Request) (string, error) {
	values, ok := r.URL.Query()["platform"]
	if !ok {
		return "", nil
	}
	if len(values) != 1 || len(values[0]) > 100 || !platformName.MatchString(values[0]) {
		return "", errors.New("platform is not of the form ubuntu-22.04-x86_64")
	}
	return values[0], nil
}

// aptFiles are the files of apt.
func (s *site) aptFiles() []file {
	var g group
	for i := range s.c.Apt {
		a := &s.c.Apt[i]
		if p, ok := s.path(a.Path); ok {
			g.add(a.File, a.stanza(s.url(p)))
		}
	}
	return g.files(s, ".sources", "apt: /etc/apt/sources.list.d/")
}

// rpmFiles are the files of dnf.
func (s *site) rpmFiles() []file {
	var g group
	for i := range s.c.RPM {
		repo := &s.c.RPM[i]
		if p, ok := s.path(repo.Path); ok {
			g.add(repo.File, repo.section(s.url(keepVariables(p)+"/")))
		}
	}
	return g.files(s, ".repo", "dnf: /etc/yum.repos.d/")
}

// group gathers the stanzas of files, in the order in which they are first named.
type group struct {
	names  []string
	bodies map[string]string
}

func (g *group) add(name, stanza string) {
	if g.bodies == nil {
		g.bodies = map[string]string{}
	}
	if body, ok := g.bodies[name]; ok {
		g.bodies[name] = body + "\n" + stanza
		return
	}
	g.names = append(g.names, name)
	g.bodies[name] = stanza
}

func (g *group) files(s *site, suffix, dir string) []file {
	all := make([]file, 0, len(g.names))
	for _, name := range g.names {
		all = append(all, s.file(name+suffix, dir+name+suffix, g.bodies[name], nil))
	}
	return all
}

func (a *Apt) stanza(url string) string {
	var b strings.Builder
	field := func(name string, values ...string) {
		if len(values) > 0 && values[0] != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(values, " "))
		}
	}
	types, components := a.Types, a.Components
	if len(types) == 0 {
		types = []string{"deb"}
	}
	if len(components) == 0 && !a.exact() {
		components = []string{"main"}
	}
	field("Types", types...)
	field("URIs", url)
	field("Suites", a.Suites...)
	field("Components", components...)
	field("Architectures", a.Architectures...)
	field("Signed-By", a.SignedBy)
	if a.Trusted {
		field("Trusted", "yes")
	}
	return b.String()
}

// exact reports whether the suites are paths of indexes, which have no components.
func (a *Apt) exact() bool { return slices.ContainsFunc(a.Suites, isExact) }

func isExact(suite string) bool { return strings.HasSuffix(suite, "/") }

func (repo *RPM) section(url string) string {
	var b strings.Builder
	name := repo.Name
	if name == "" {
		name = repo.ID
	}
	fmt.Fprintf(&b, "[%s]\nname=%s\nbaseurl=%s\nenabled=1\n", repo.ID, name, url)
	if repo.Unsigned {
		b.WriteString("gpgcheck=0\n")
	} else {
		b.WriteString("gpgcheck=1\n")
	}
	if len(repo.GPGKeys) > 0 {
		fmt.Fprintf(&b, "gpgkey=%s\n", strings.Join(repo.GPGKeys, " "))
	}
	return b.String()
}

var escapedVariable = regexp.MustCompile(`%24(?:([A-Za-z0-9_]+)|%7B([A-Za-z0-9_]+)%7D)`)

// keepVariables undoes the escaping of dnf's variables, $NAME and ${NAME}.
func keepVariables(escaped string) string {
	return escapedVariable.ReplaceAllStringFunc(escaped, func(v string) string {
		m := escapedVariable.FindStringSubmatch(v)
		if m[2] != "" {
			return "${" + m[2] + "}"
		}
		return "$" + m[1]
	})
}
