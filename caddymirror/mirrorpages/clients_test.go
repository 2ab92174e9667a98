package mirrorpages

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/unifiedmirrors/mirror/caddymirror/mirror"
)

// fake is a handler that serves mounts.
type fake []mirror.Served

func (f fake) Served() []mirror.Served { return f }

func (f fake) ServeHTTP(w http.ResponseWriter, _ *http.Request, _ caddyhttp.Handler) error {
	w.WriteHeader(http.StatusTeapot)
	return nil
}

// everything is a site with a mount of each kind.
var everything = fake{
	{Prefix: "/pypi", Format: "pypi", OldNames: []string{"pypi.test"}},
	{Prefix: "/wheel", Format: "wheel"},
	{Prefix: "/ubuntu", Format: "plain"},
	{Prefix: "/ubuntu-cloud-archive", Format: "plain"},
	{Prefix: "/debian-security", Format: "plain"},
	{Prefix: "/epel", Format: "plain"},
	{Prefix: "/ceph-deb-nautilus", Format: "plain"},
}

// newClients is a handler of this configuration.
func newClients(t testing.TB, config string) *Clients {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	c := new(Clients)
	if err := caddy.StrictUnmarshalJSON([]byte(config), c); err != nil {
		t.Fatal(err)
	}
	if err := c.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// get asks for a target, such as "http://mirror.test/clients/", at a site.
func get(t testing.TB, c *Clients, mounts mirror.Server, method, target string, fields ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if r.Header.Add(name, value); name == "Host" {
			r.Host = value
		}
	}
	srv := &caddyhttp.Server{Routes: caddyhttp.RouteList{
		{Handlers: []caddyhttp.MiddlewareHandler{c, mounts.(caddyhttp.MiddlewareHandler)}},
	}}
	w := httptest.NewRecorder()
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, srv)
	caddyhttp.SetVar(r.Context(), caddyhttp.TrustedProxyVarKey, slices.Contains(fields, "X-Trusted: yes"))
	err := c.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusTeapot)
		return nil
	}))
	if err != nil {
		w.WriteHeader(err.(caddyhttp.HandlerError).StatusCode)
	}
	return w
}

// body is the body of a good answer, without the line that says where it is from.
func body(t testing.TB, c *Clients, mounts mirror.Server, target string, fields ...string) string {
	t.Helper()
	w := get(t, c, mounts, "GET", target, fields...)
	if w.Code != http.StatusOK {
		t.Errorf("%s: status %d: %s", target, w.Code, w.Body)
		return ""
	}
	head, rest, _ := strings.Cut(w.Body.String(), "\n")
	if clean, _, _ := strings.Cut(target, "?"); len(fields) == 0 && head != "# "+clean {
		t.Errorf("%s begins with %q", target, head)
	}
	return rest
}

const full = `{
	"wheels": [{"path": "/wheel", "platforms": ["ubuntu-22.04-x86_64", "debian-12-x86_64"]}],
	"apt": [
		{"file": "ubuntu-jammy", "path": "/ubuntu", "suites": ["jammy", "jammy-updates"], "components": ["main", "universe"],
			"signed_by": "/usr/share/keyrings/ubuntu-archive-keyring.gpg"},
		{"file": "ubuntu-jammy", "path": "/ubuntu-cloud-archive", "suites": ["jammy-updates/caracal"], "types": ["deb", "deb-src"],
			"architectures": ["amd64", "arm64"], "trusted": true},
		{"file": "flat", "path": "/ubuntu/extra/", "suites": ["./"]},
		{"file": "debian", "path": "/debian", "suites": ["trixie"]}
	],
	"rpm": [
		{"file": "epel", "id": "epel", "path": "/epel/$releasever/Everything/${basearch}", "name": "EPEL $releasever",
			"gpgkeys": ["file:///etc/pki/rpm-gpg/RPM-GPG-KEY-EPEL-$releasever"]},
		{"file": "epel", "id": "epel-testing", "path": "/epel/testing", "unsigned": true},
		{"file": "fedora", "id": "fedora", "path": "/fedora"}
	],
	"variables": {"NODEPOOL_CEPH_MIRROR": "/ceph-deb-nautilus", "NODEPOOL_RDO_PROXY": "/rdo"}
}`

func TestFiles(t *testing.T) {
	c := newClients(t, full)
	for target, want := range map[string]string{
		"http://mirror.test/clients/pip.conf?platform=debian-12-x86_64": `[global]
timeout = 60
index-url = http://mirror.test/pypi/simple/
extra-index-url = http://mirror.test/wheel/debian-12-x86_64/
trusted-host = mirror.test
`,
		"http://mirror.test/clients/pip.conf": `# for wheels add ?platform=ubuntu-22.04-x86_64 or debian-12-x86_64
[global]
timeout = 60
index-url = http://mirror.test/pypi/simple/
trusted-host = mirror.test
`,
		"https://mirror.test/clients/pip.conf?platform=debian-12-x86_64": `[global]
timeout = 60
index-url = https://mirror.test/pypi/simple/
extra-index-url = https://mirror.test/wheel/debian-12-x86_64/
`,
		"http://mirror.test:8080/clients/uv.toml?platform=debian-12-x86_64": `index-strategy = "unsafe-best-match" # all versions of all indexes, as for pip

[[index]]
url = "http://mirror.test:8080/wheel/debian-12-x86_64/"

[[index]]
url = "http://mirror.test:8080/pypi/simple/"
default = true
`,
		"http://mirror.test/clients/ubuntu-jammy.sources": `Types: deb
URIs: http://mirror.test/ubuntu
Suites: jammy jammy-updates
Components: main universe
Signed-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg

Types: deb deb-src
URIs: http://mirror.test/ubuntu-cloud-archive
Suites: jammy-updates/caracal
Components: main
Architectures: amd64 arm64
Trusted: yes
`,
		"http://mirror.test/clients/flat.sources": `Types: deb
URIs: http://mirror.test/ubuntu/extra
Suites: ./
`,
		"http://mirror.test/clients/epel.repo": `[epel]
name=EPEL $releasever
baseurl=http://mirror.test/epel/$releasever/Everything/${basearch}/
enabled=1
gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-EPEL-$releasever

[epel-testing]
name=epel-testing
baseurl=http://mirror.test/epel/testing/
enabled=1
gpgcheck=0
`,
		"http://mirror.test/clients/mirror_info.sh": `export NODEPOOL_MIRROR_HOST="${NODEPOOL_MIRROR_HOST:-mirror.test}"
export NODEPOOL_CEPH_MIRROR="${NODEPOOL_CEPH_MIRROR:-http://$NODEPOOL_MIRROR_HOST/ceph-deb-nautilus}"
export NODEPOOL_PYPI_MIRROR="${NODEPOOL_PYPI_MIRROR:-http://$NODEPOOL_MIRROR_HOST/pypi/simple}"
` + slug + `export NODEPOOL_WHEEL_MIRROR="${NODEPOOL_WHEEL_MIRROR:-http://$NODEPOOL_MIRROR_HOST/wheel/$AFS_SLUG}"
export NODEPOOL_UBUNTU_MIRROR="${NODEPOOL_UBUNTU_MIRROR:-http://$NODEPOOL_MIRROR_HOST/ubuntu}"
export NODEPOOL_UCA_MIRROR="${NODEPOOL_UCA_MIRROR:-http://$NODEPOOL_MIRROR_HOST/ubuntu-cloud-archive}"
export NODEPOOL_DEBIAN_SECURITY_MIRROR="${NODEPOOL_DEBIAN_SECURITY_MIRROR:-http://$NODEPOOL_MIRROR_HOST/debian-security}"
export NODEPOOL_EPEL_MIRROR="${NODEPOOL_EPEL_MIRROR:-http://$NODEPOOL_MIRROR_HOST/epel}"
export NODEPOOL_CEPH_DEB_NAUTILUS_MIRROR="${NODEPOOL_CEPH_DEB_NAUTILUS_MIRROR:-http://$NODEPOOL_MIRROR_HOST/ceph-deb-nautilus}"
`,
	} {
		if got := body(t, c, everything, target); got != want {
			t.Errorf("%s is\n%s\nwant\n%s", target, got, want)
		}
	}
	index := get(t, c, everything, "GET", "http://mirror.test/clients/").Body.String()
	var listed []string
	for line := range strings.Lines(index) {
		if _, rest, ok := strings.Cut(line, `href="`); ok {
			name, _, _ := strings.Cut(rest, `"`)
			listed = append(listed, name)
			if w := get(t, c, everything, "GET", "http://mirror.test/clients/"+name); w.Code != http.StatusOK {
				t.Errorf("%s is listed, and %d", name, w.Code)
			}
		}
	}
	// debian and fedora are not mirrored.
	if want := []string{"pip.conf", "uv.toml", "mirror_info.sh", "ubuntu-jammy.sources", "flat.sources", "epel.repo"}; !slices.Equal(listed, want) {
		t.Errorf("listed are %v, want %v", listed, want)
	}
	for _, name := range []string{
		"debian.sources", "fedora.repo", "x", "pip.conf/", "a/pip.conf", "../clients/pip.conf",
		"pip.conf?platform=fedora-40-x86_64",
	} {
		if w := get(t, c, everything, "GET", "http://mirror.test/clients/"+name); w.Code != http.StatusNotFound || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
}

// TestFormats: mounts are found by their format; those named come first.
func TestFormats(t *testing.T) {
	mounts := fake{
		{Prefix: "/pypi", Format: "pypi"},
		{Prefix: "/local/x y", Format: "plain"},
		{Prefix: "/wheel", Format: "wheel"},
		{Prefix: "/w2", Format: "plain"},
	}
	c := newClients(t, `{"pypi": ["/local/x y/"], "wheels": [{"path": "/w2", "flat": true}]}`)
	const target = "http://mirror.test/clients/"
	want := `[global]
timeout = 60
index-url = http://mirror.test/local/x%20y/simple/
extra-index-url = http://mirror.test/w2/
	http://mirror.test/wheel/any-1-thing/
	http://mirror.test/pypi/simple/
trusted-host = mirror.test
`
	if got := body(t, c, mounts, target+"pip.conf?platform=any-1-thing"); got != want {
		t.Errorf("pip.conf is\n%s\nwant\n%s", got, want)
	}
	sh := body(t, c, mounts, target+"mirror_info.sh")
	for _, want := range []string{"HOST/local/x%20y/simple}\"", "WHEEL_MIRROR:-http://$NODEPOOL_MIRROR_HOST/w2}\""} {
		if !strings.Contains(sh, want) {
			t.Errorf("mirror_info.sh has no %s:\n%s", want, sh)
		}
	}
	// A plain mount with that name may not be an index.
	sh = body(t, newClients(t, `{}`), fake{{Prefix: "/pypi", Format: "plain"}, {Prefix: "", Format: "plain"}}, target+"mirror_info.sh")
	if strings.Contains(sh, "PYPI") {
		t.Errorf("a plain mount is taken for an index:\n%s", sh)
	}
	// One platform that is the only one is meant; nothing, if there is nothing.
	c = newClients(t, `{"wheels": [{"path": "/wheel", "platforms": ["debian-12-x86_64"]}]}`)
	if got := body(t, c, fake{{Prefix: "/wheel"}}, target+"pip.conf"); got != "[global]\ntimeout = 60\nextra-index-url = http://mirror.test/wheel/debian-12-x86_64/\ntrusted-host = mirror.test\n" {
		t.Errorf("pip.conf with wheels only:\n%s", got)
	}
	// Where wheels have no platforms, one that is named does not matter.
	c = newClients(t, `{"wheels": [{"path": "/w2", "flat": true}]}`)
	flat := fake{{Prefix: "/w2", Format: "wheel"}}
	if got, want := body(t, c, flat, target+"pip.conf?platform=x"), body(t, c, flat, target+"pip.conf"); got != want || !strings.Contains(got, "extra-index-url = http://mirror.test/w2/\n") {
		t.Errorf("pip.conf with flat wheels, with a platform:\n%s\nwithout:\n%s", got, want)
	}
	// A path is a mount's by whole elements.
	if w := get(t, c, fake{{Prefix: "/w"}}, "GET", target+"pip.conf"); w.Code != http.StatusNotFound {
		t.Errorf("/w2 is taken for /w: %d\n%s", w.Code, w.Body)
	}
	for _, name := range []string{"pip.conf", "uv.toml", "mirror_info.sh"} {
		if w := get(t, c, fake{}, "GET", target+name); w.Code != http.StatusNotFound {
			t.Errorf("%s where nothing is mirrored: %d", name, w.Code)
		}
	}
}

// TestOldNames: at an old name of a mount there is that mount, at the root, and nothing
// else.
func TestOldNames(t *testing.T) {
	c := newClients(t, full)
	for _, host := range []string{"pypi.test", "PyPI.test."} {
		got := body(t, c, everything, "http://x/clients/pip.conf", "Host: "+host)
		if want := "[global]\ntimeout = 60\nindex-url = http://" + strings.ToLower(host) + "/simple/\ntrusted-host = " + strings.ToLower(host) + "\n"; got != want {
			t.Errorf("pip.conf is\n%s\nwant\n%s", got, want)
		}
	}
	if w := get(t, c, everything, "GET", "http://pypi.test/clients/ubuntu-jammy.sources"); w.Code != http.StatusNotFound {
		t.Errorf("ubuntu at the old name of pypi: %d\n%s", w.Code, w.Body)
	}
	sh := body(t, c, everything, "http://pypi.test/clients/mirror_info.sh")
	if n := strings.Count(sh, "export "); n != 2 || !strings.Contains(sh, "-http://$NODEPOOL_MIRROR_HOST/simple}\"") {
		t.Errorf("mirror_info.sh at an old name:\n%s", sh)
	}
}

// TestHosts: what clients say they have asked for is only taken if it is the name of a
// host, whatever Go's server lets through.
func TestHosts(t *testing.T) {
	c := newClients(t, full)
	for host, want := range map[string]string{
		"mirror.test":                   "http://mirror.test",
		"MIRROR.test:80":                "http://mirror.test",
		"mirror.test:8080":              "http://mirror.test:8080",
		"mirror_1.test":                 "http://mirror_1.test",
		"192.0.2.1:8080":                "http://192.0.2.1:8080",
		"[2001:DB8::1]":                 "http://[2001:db8::1]",
		"[2001:db8::1]:443":             "http://[2001:db8::1]:443",
		"":                              "",
		"$(reboot)":                     "",
		"a;reboot":                      "",
		"a'b":                           "",
		"a&b":                           "",
		"a b":                           "",
		"a\nindex-url=x":                "",
		"a\r\nX-Y: z":                   "",
		"a]":                            "",
		"[a]":                           "",
		"[fe80::1%25eth0]":              "",
		"[::1":                          "",
		"::1":                           "",
		"a:0":                           "",
		"a:http":                        "",
		"a:+80":                         "",
		"a:":                            "",
		"user@a":                        "",
		"a/b":                           "",
		"a..b":                          "",
		"-a":                            "",
		`a"b`:                           "",
		"a`b":                           "",
		"\u017fervice.test":             "",
		strings.Repeat("a.", 200) + "a": "",
	} {
		for _, field := range []string{"Host: ", "X-Forwarded-Host: "} {
			fields := []string{field + host}
			if field != "Host: " {
				if host == "" || strings.ContainsAny(host, " \r\n") {
					continue
				}
				fields = append(fields, "X-Trusted: yes")
			}
			w := get(t, c, everything, "GET", "http://x.test/clients/pip.conf", fields...)
			if want == "" {
				if w.Code != http.StatusBadRequest || host != "" && strings.Contains(w.Body.String(), host) {
					t.Errorf("%s%q: %d\n%s", field, host, w.Code, w.Body)
				}
				continue
			}
			if !strings.Contains(w.Body.String(), "index-url = "+want+"/pypi/simple/\n") {
				t.Errorf("%s%q: %d\n%s", field, host, w.Code, w.Body)
			}
		}
	}
	for _, platform := range []string{"", "..", "a/b", "a%0Ab", "$(reboot)", "A", "a&platform=b", strings.Repeat("a", 101)} {
		if w := get(t, c, everything, "GET", "http://x.test/clients/pip.conf?platform="+platform); w.Code != http.StatusBadRequest {
			t.Errorf("platform %q: %d", platform, w.Code)
		}
	}
}

// TestForwarded: a proxy says what the client asked for, if the server trusts it.
func TestForwarded(t *testing.T) {
	c := newClients(t, full)
	for _, tc := range []struct {
		fields []string
		want   string
		vary   string
	}{
		{[]string{"X-Forwarded-Host: evil.test", "X-Forwarded-Proto: https"}, "http://x.test", ""},
		{[]string{"X-Trusted: yes"}, "http://x.test", "X-Forwarded-Host, X-Forwarded-Proto"},
		{[]string{"X-Forwarded-Host: m.test", "X-Forwarded-Proto: https", "X-Trusted: yes"}, "https://m.test", "X-Forwarded-Host, X-Forwarded-Proto"},
		{[]string{"X-Forwarded-Host: evil.test, m.test:8443", "X-Forwarded-Proto: HTTPS", "X-Trusted: yes"}, "https://m.test:8443", "X-Forwarded-Host, X-Forwarded-Proto"},
		{[]string{"X-Forwarded-Host: evil.test", "X-Forwarded-Host: m.test", "X-Trusted: yes"}, "http://m.test", "X-Forwarded-Host, X-Forwarded-Proto"},
		{[]string{"X-Forwarded-Proto: javascript", "X-Trusted: yes"}, "http://x.test", "X-Forwarded-Host, X-Forwarded-Proto"},
	} {
		w := get(t, c, everything, "GET", "http://x.test/clients/pip.conf", tc.fields...)
		if !strings.Contains(w.Body.String(), "index-url = "+tc.want+"/pypi/simple/\n") || w.Header().Get("Vary") != tc.vary {
			t.Errorf("%q: Vary %q, want %q\n%s", tc.fields, w.Header().Get("Vary"), tc.vary, w.Body)
		}
	}
	// A configured address is the only one.
	c = newClients(t, `{"url": "https://M.test:443/base/"}`)
	if got := body(t, c, everything, "http://$(x)/clients/pip.conf", "Host: $(x)"); !strings.Contains(got, "index-url = https://m.test/base/pypi/simple/\n") {
		t.Errorf("pip.conf is\n%s", got)
	}
}

func TestHTTP(t *testing.T) {
	c := newClients(t, full)
	const target = "http://mirror.test/clients/pip.conf"
	w := get(t, c, everything, "GET", target)
	etag := w.Header().Get("ETag")
	if etag == "" || w.Header().Get("Cache-Control") != "public, max-age=0, must-revalidate" || w.Header().Get("X-Content-Type-Options") != "nosniff" ||
		w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("fields are %v", w.Header())
	}
	head := get(t, c, everything, "HEAD", target)
	if head.Code != http.StatusOK || head.Body.Len() != 0 || head.Header().Get("Content-Length") != w.Header().Get("Content-Length") {
		t.Errorf("HEAD: %d %v", head.Code, head.Header())
	}
	if w := get(t, c, everything, "GET", target, "If-None-Match: "+etag); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("a condition that does not hold: %d", w.Code)
	}
	if w := get(t, c, everything, "GET", target+"?platform=debian-12-x86_64", "If-None-Match: "+etag); w.Code != http.StatusOK || w.Header().Get("ETag") == etag {
		t.Errorf("two files have one ETag: %d", w.Code)
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		if w := get(t, c, everything, method, target); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
	if w := get(t, c, everything, "GET", "http://mirror.test/clients"); w.Code != http.StatusPermanentRedirect || w.Header().Get("Location") != "clients/" {
		t.Errorf("without the slash: %d %v", w.Code, w.Header())
	}
	// A slash at the end of the path that is configured means nothing.
	slash := newClients(t, `{"path": "/clients/"}`)
	if w := get(t, slash, everything, "GET", target); w.Code != http.StatusOK || !strings.HasPrefix(w.Body.String(), "# "+target+"\n") {
		t.Errorf("a path with a slash at its end: %d\n%s", w.Code, w.Body)
	}
	for _, p := range []string{"/", "/clientsx", "/x/clients/pip.conf"} {
		if w := get(t, c, everything, "POST", "http://mirror.test"+p); w.Code != http.StatusTeapot {
			t.Errorf("%s is not the next handler's: %d", p, w.Code)
		}
	}
}

// TestValidate refuses what could not be written into the files without changing what
// they say.
func TestValidate(t *testing.T) {
	for config, want := range map[string]string{
		`{"path": "/"}`:                                      "is not a URL path below the root",
		`{"path": "clients"}`:                                "is not a URL path below the root",
		`{"url": "mirror.test"}`:                             "is not of the form",
		`{"url": "ftp://mirror.test"}`:                       "is not of the form",
		`{"url": "http://a b"}`:                              "invalid character",
		`{"url": "http://mirror.test?x"}`:                    "is not of the form",
		`{"url": "http://"}`:                                 "no valid host",
		`{"pypi": ["pypi"]}`:                                 "is not a plain URL path",
		`{"pypi": ["/a\nb"]}`:                                "is not a plain URL path",
		`{"pypi": ["/a/../b"]}`:                              "is not a plain URL path",
		`{"wheels": [{"path": "/w", "platforms": ["a b"]}]}`: "platform",
		`{"wheels": [{"path": "/w", "platforms": ["a"], "flat": true}]}`:                                "flat",
		`{"apt": [{"file": "a.b", "path": "/u", "suites": ["s"]}]}`:                                     "name \"a.b\"",
		`{"apt": [{"file": "a", "path": "/u"}]}`:                                                        "there are no suites",
		`{"apt": [{"file": "a", "path": "/u", "suites": ["s\nTrusted: yes"]}]}`:                         "suites",
		`{"apt": [{"file": "a", "path": "/u", "suites": ["s/"], "components": ["main"]}]}`:              "no components",
		`{"apt": [{"file": "a", "path": "/u", "suites": ["s/", "s"]}]}`:                                 "no components",
		`{"apt": [{"file": "a", "path": "/u", "suites": ["s"], "components": ["a b"]}]}`:                "components",
		`{"apt": [{"file": "a", "path": "/u", "suites": ["s"], "architectures": [""]}]}`:                "architectures",
		`{"apt": [{"file": "a", "path": "/u", "suites": ["s"], "types": ["rpm"]}]}`:                     "types",
		`{"apt": [{"file": "a", "path": "/u", "suites": ["s"], "signed_by": "key.gpg"}]}`:               "signed_by",
		`{"apt": [{"file": "a", "path": "/u", "suites": ["s"], "signed_by": "/k", "trusted": true}]}`:   "trusted",
		`{"rpm": [{"file": "a", "id": "x]", "path": "/u"}]}`:                                            "id \"x]\"",
		`{"rpm": [{"file": "a", "id": "main", "path": "/u"}]}`:                                          "id \"main\"",
		`{"rpm": [{"file": "a", "id": "x", "path": "/u", "name": "a\nb"}]}`:                             "control characters",
		`{"rpm": [{"file": "a", "id": "x", "path": "/u", "gpgkeys": ["/key"]}]}`:                        "gpgkey",
		`{"rpm": [{"file": "a", "id": "x", "path": "/u", "gpgkeys": ["file:///a"], "unsigned": true}]}`: "unsigned",
		`{"rpm": [{"file": "a", "id": "x", "path": "/u"}, {"file": "a", "id": "x", "path": "/v"}]}`:     "there twice",
		`{"variables": {"A B": "/x"}}`:                                                                  "not a name",
		`{"variables": {"A": "x"}}`:                                                                     "is not a plain URL path",
	} {
		c := new(Clients)
		if err := json.Unmarshal([]byte(config), c); err != nil {
			t.Fatal(err)
		}
		if c.Path == "" {
			c.Path = defaultPath
		}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", config, err, want)
		}
	}
}
