// Package mirrorpages serves configuration for the clients of a mirror.
package mirrorpages

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(new(Clients))
}

// Clients serves configuration for the clients of a mirror, ready to be used: of pip, uv,
// apt and dnf, and variables for shells. It names only what is mirrored at its own site,
// with the host name and scheme that the client asked by.
//
// A page that lists the files is at `path`; they are below.
//
// File | For
// -----|----
// `pip.conf` | pip: mounts of the formats `pypi` and `wheel`, and those named. `?platform=` chooses the wheels
// `uv.toml` | uv, with the same
// `mirror_info.sh` | shells: a variable for each mount, by the names that OpenDev's jobs use
// `NAME.sources` | apt: what is configured
// `NAME.repo` | dnf: what is configured
//
// Behind a proxy that the server trusts (`trusted_proxies`), the last X-Forwarded-Host
// and X-Forwarded-Proto say what the client asked for.
type Clients struct {
	// Path is where the files are. Default: `/clients`.
	Path string `json:"path,omitempty"`

	// URL is how clients reach the site, such as `http://mirror.example.org`. Default:
	// the host and scheme of the request.
	URL string `json:"url,omitempty"`

	// PyPI are paths of indexes of Python packages, besides the mounts of the format
	// `pypi`: those above `simple/`. The first is the index of pip, more are extra ones.
	PyPI []string `json:"pypi,omitempty"`

	// Wheels are collections of wheels, besides the mounts of the format `wheel`.
	Wheels []Wheels `json:"wheels,omitempty"`

	// Apt are repositories of apt.
	Apt []Apt `json:"apt,omitempty"`

	// RPM are repositories of dnf.
	RPM []RPM `json:"rpm,omitempty"`

	// Variables are names of further variables for shells, with the paths whose
	// URLs they get.
	Variables map[string]string `json:"variables,omitempty"`

	log    *zap.Logger
	url    *address // of URL
	warned sync.Map // paths that are not mirrored, and were logged
}

// Wheels is a collection of wheels.
type Wheels struct {
	// Path of the collection.
	Path string `json:"path,omitempty"`

	// Platforms are the directories of the collection, such as
	// `ubuntu-22.04-x86_64`: distribution, version and architecture. Default: clients
	// may ask for any.
	Platforms []string `json:"platforms,omitempty"`

	// Flat says that there are none: all wheels are for all clients.
	Flat bool `json:"flat,omitempty"`
}

// Apt is a stanza of a file `.sources` (sources.list(5)).
type Apt struct {
	// File is the name of the file, without `.sources`. Stanzas of one name are in
	// one file.
	File string `json:"file,omitempty"`

	// Path of the repository, the one that `dists/` is below.
	Path string `json:"path,omitempty"`

	// Suites, such as `jammy` and `jammy-updates`.
	Suites []string `json:"suites,omitempty"`

	// Components. Default: `main`; none for suites that end in a slash.
	Components []string `json:"components,omitempty"`

	// Types are `deb`, `deb-src` or both. Default: `deb`.
	Types []string `json:"types,omitempty"`

	// Architectures. Default: the client's.
	Architectures []string `json:"architectures,omitempty"`

	// SignedBy is the client's keyring. Default: all keys that it trusts.
	SignedBy string `json:"signed_by,omitempty"`

	// Trusted has the client take a repository that is not signed.
	Trusted bool `json:"trusted,omitempty"`
}

// RPM is a section of a file `.repo` (dnf.conf(5)).
type RPM struct {
	// File is the name of the file, without `.repo`. Sections of one name are in one
	// file.
	File string `json:"file,omitempty"`

	// ID of the repository.
	ID string `json:"id,omitempty"`

	// Path of the repository, the one that `repodata/` is below. The client's
	// variables, such as `$releasever` and `$basearch`, may be in it.
	Path string `json:"path,omitempty"`

	// Name for people. Default: ID.
	Name string `json:"name,omitempty"`

	// GPGKeys are URLs of keys. Default: those that the client has.
	GPGKeys []string `json:"gpgkeys,omitempty"`

	// Unsigned has the client take packages that are not signed.
	Unsigned bool `json:"unsigned,omitempty"`
}

const defaultPath = "/clients"

// CaddyModule returns the Caddy module information.
func (*Clients) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.mirror_clients", New: func() caddy.Module { return new(Clients) }}
}

// Provision sets the handler up.
func (c *Clients) Provision(ctx caddy.Context) error {
	c.log = ctx.Logger()
	c.Path = cmp.Or(c.Path, defaultPath)
	if c.Path != "/" { // which Validate refuses
		c.Path = strings.TrimSuffix(c.Path, "/")
	}
	return nil
}

// ServeHTTP answers requests for what is below the path.
func (c *Clients) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	rest, ok := strings.CutPrefix(r.URL.Path, c.Path)
	if !ok || rest != "" && rest[0] != '/' {
		return next.ServeHTTP(w, r)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return caddyhttp.Error(http.StatusMethodNotAllowed, fmt.Errorf("method %s", r.Method))
	}
	if rest == "" {
		// Relative: it may be in front of the path that a proxy knows.
		w.Header().Set("Location", path.Base(c.Path)+"/")
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	}
	a, err := c.address(w.Header(), r)
	if err != nil {
		return refuse(w, http.StatusBadRequest, err)
	}
	s := newSite(c, r, a)
	platform, err := platformOf(r)
	if err != nil {
		return refuse(w, http.StatusBadRequest, err)
	}
	files := c.files(s, platform)
	if rest == "/" {
		return c.serveIndex(w, r, s, files)
	}
	i := slices.IndexFunc(files, func(f file) bool { return "/"+f.name == rest })
	if i < 0 {
		return refuse(w, http.StatusNotFound, fmt.Errorf("there is no such file: %s%s/ lists those that there are", s, escape(c.Path)))
	}
	if files[i].err != nil {
		return refuse(w, http.StatusNotFound, files[i].err)
	}
	return respond(w, r, "text/plain; charset=utf-8", files[i].body)
}

//go:embed clients.html
var indexHTML string

var indexTemplate = template.Must(template.New("").Parse(indexHTML))

func (c *Clients) serveIndex(w http.ResponseWriter, r *http.Request, s *site, files []file) error {
	type row struct{ Name, For string }
	page := struct {
		Host  string
		URL   string
		Files []row
	}{Host: s.at.host, URL: s.String() + escape(c.Path)}
	for _, f := range files {
		page.Files = append(page.Files, row{f.name, f.note})
	}
	var b bytes.Buffer
	if err := indexTemplate.Execute(&b, page); err != nil {
		return err
	}
	return respond(w, r, "text/html; charset=utf-8", b.Bytes())
}

// respond answers with a body that may be another one the next time.
func respond(w http.ResponseWriter, r *http.Request, mediaType string, body []byte) error {
	sum := sha256.Sum256(body)
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "public, max-age=0, must-revalidate")
	h.Set("ETag", `"`+base64.RawURLEncoding.EncodeToString(sum[:12])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	return nil
}

// refuse answers with an error that tells a person what to do.
func refuse(w http.ResponseWriter, status int, err error) error {
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, err.Error(), status)
	return nil
}

// Interface guards
var (
	_ caddy.Provisioner           = (*Clients)(nil)
	_ caddy.Validator             = (*Clients)(nil)
	_ caddyhttp.MiddlewareHandler = (*Clients)(nil)
)
