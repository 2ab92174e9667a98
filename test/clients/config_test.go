package clients

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/testclients"
)

// configured is a site with configuration for its clients, and what is in it.
type configured struct {
	*testcaddy.Server
	host, port string
	lib, local wheel.Wheel // in the index, and among the wheels of debian-12-x86_64
}

// newConfigured serves the trees of a directory.
func newConfigured(t *testing.T, trees, more string) configured {
	t.Helper()
	c := configured{
		lib:   wheel.Wheel{Name: "mirror-lib", Version: "1.0", Files: map[string]string{"mirror_lib.py": "answer = 42\n"}},
		local: wheel.Wheel{Name: "mirror-local", Version: "1.0", Requires: []string{"mirror-lib"}, Files: map[string]string{"mirror_local.py": "import mirror_lib\n"}},
	}
	if err := wheel.WriteIndex(filepath.Join(trees, "pypi"), c.lib); err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if _, err := c.local.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(trees, "wheel", "debian-12-x86_64", "m", "mirror-local", c.local.Filename())
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	c.Server = testcaddy.Start(t, fmt.Sprintf(`http://{$ADDR} {
	bind 127.0.0.1
	route {
		mirror_clients {
			%s
		}
		mirror_cache {
			mount /pypi %s/pypi {
				format pypi
			}
			mount /wheel %[2]s/wheel {
				format wheel
			}
			mount /apt %[2]s/apt
			mount /epel %[2]s/rpm
		}
		respond 404
	}
}
`, more, trees))
	c.host, c.port, _ = strings.Cut(c.Addr, ":")
	return c
}

// fetch saves a file of the site's configuration for clients.
func (c configured) fetch(t *testing.T, name, to string) {
	t.Helper()
	resp, body, err := c.Get("/clients/" + name)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v, %v\n%s", name, resp, err, body)
	}
	if err := os.WriteFile(to, body, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestPipConfigured: pip installs from both mirrors by the file that the site has for
// it, and by nothing else.
func TestPipConfigured(t *testing.T) {
	needPip(t)
	c := newConfigured(t, t.TempDir(), "")
	dir := t.TempDir()
	config := filepath.Join(dir, "pip.conf")
	c.fetch(t, "pip.conf?platform=debian-12-x86_64", config)
	env := []string{"PIP_CONFIG_FILE=" + config}
	pip := func(args ...string) string {
		return testclients.Command(t, dir, env, "python3", append([]string{"-m", "pip", "--no-cache-dir", "--disable-pip-version-check"}, args...)...)
	}
	list := pip("config", "list")
	for _, want := range []string{
		"global.index-url='" + c.URL + "/pypi/simple/'", "global.extra-index-url='" + c.URL + "/wheel/debian-12-x86_64/'",
		"global.timeout='60'", "global.trusted-host='" + c.host + "'",
	} {
		if !strings.Contains(list, want+"\n") {
			t.Errorf("pip has not %s, but\n%s", want, list)
		}
	}
	out := pip("install", "--target", "site", "mirror-local")
	if !strings.Contains(out, "Looking in indexes: "+c.URL+"/pypi/simple/, "+c.URL+"/wheel/debian-12-x86_64/\n") {
		t.Errorf("pip looked elsewhere:\n%s", out)
	}
	testclients.Command(t, dir, []string{"PYTHONPATH=" + filepath.Join(dir, "site")}, "python3", "-c", "import mirror_local")

	// Without a platform there is the index alone.
	c.fetch(t, "pip.conf", config)
	if list := pip("config", "list"); strings.Contains(list, "/wheel/") {
		t.Errorf("wheels for no platform:\n%s", list)
	}
}

// TestUvConfigured: the file is TOML, and has what uv reads.
func TestUvConfigured(t *testing.T) {
	testcaddy.Need(t, "python3")
	c := newConfigured(t, t.TempDir(), "")
	dir := t.TempDir()
	c.fetch(t, "uv.toml?platform=debian-12-x86_64", filepath.Join(dir, "uv.toml"))
	if exec.Command("python3", "-c", "import tomllib").Run() != nil {
		testcaddy.Missing(t, "python3 has no tomllib")
	}
	out := testclients.Command(t, dir, nil, "python3", "-c", "import json, tomllib; print(json.dumps(tomllib.load(open('uv.toml', 'rb'))))")
	type index struct {
		URL     string `json:"url"`
		Default bool   `json:"default"`
	}
	var got struct {
		Strategy string  `json:"index-strategy"`
		Index    []index `json:"index"`
	}
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&got); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	want := []index{{c.URL + "/wheel/debian-12-x86_64/", false}, {c.URL + "/pypi/simple/", true}}
	if got.Strategy != "unsafe-best-match" || !slices.Equal(got.Index, want) {
		t.Errorf("uv.toml has %+v, want %+v", got, want)
	}
	uv, err := exec.LookPath("uv")
	if err != nil {
		t.Log("uv is not installed, and not asked")
		return
	}
	testclients.Command(t, dir, []string{"UV_CONFIG_FILE=" + filepath.Join(dir, "uv.toml")}, uv, "pip", "install", "--target", "site", "mirror-local")
}

// TestAptConfigured: apt-get takes the file, and verifies the repository as it says.
func TestAptConfigured(t *testing.T) {
	testcaddy.Need(t, "apt-get", "dpkg", "reprepro", "gpg")
	debs := testclients.DownloadDebs(t, []string{"netbase"})
	home, trees := t.TempDir(), t.TempDir()
	key := testclients.SigningKey(t, home)
	testclients.MakeRepo(t, filepath.Join(trees, "apt"), home, debs)
	c := newConfigured(t, trees, fmt.Sprintf("apt test /apt test {\n\t\t\t\tcomponents main\n\t\t\t\tsigned_by %s\n\t\t\t}\n\t\t\tapt unsigned /apt test\n\t\t\tapt gone /debian test", key))
	a := testclients.NewApt(t, "")
	sources := filepath.Join(a.Dir, "etc/apt/sources.list.d/test.sources")
	c.fetch(t, "test.sources", sources)
	a.Run(t, "update")
	out := a.Run(t, "--print-uris", "download", "netbase")
	if !strings.Contains(out, c.URL+"/apt/pool/") {
		t.Errorf("apt-get would download from elsewhere:\n%s", out)
	}
	a.Run(t, "download", "netbase")
	if got := testclients.Names(t, a.Dir, "netbase_*.deb"); len(got) != 1 {
		t.Errorf("apt-get downloaded %v", got)
	}

	// Without the key apt does not take it.
	c.fetch(t, "unsigned.sources", sources)
	cmd := exec.Command("apt-get", "update")
	cmd.Env = append(os.Environ(), a.Env...)
	if out, err := cmd.CombinedOutput(); err == nil && !strings.Contains(string(out), "NO_PUBKEY") {
		t.Errorf("apt-get takes a repository without its key:\n%s", out)
	}
	if resp, _, err := c.Get("/clients/gone.sources"); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Errorf("a file for what is not mirrored: %v, %v", resp, err)
	}
}

// TestDnfConfigured: dnf takes the file, its variables are its own, and it downloads a
// package.
func TestDnfConfigured(t *testing.T) {
	testcaddy.Need(t, "dnf", "rpmbuild", "createrepo_c")
	trees := t.TempDir()
	repo := filepath.Join(trees, "rpm", "9", "Everything")
	testclients.MakeRPMRepo(t, repo, "one")
	c := newConfigured(t, trees, "rpm test epel /epel/$releasever/Everything {\n\t\t\t\tname \"EPEL $releasever\"\n\t\t\t\tunsigned\n\t\t\t}")
	dnf := testclients.NewDnf(t)
	c.fetch(t, "test.repo", filepath.Join(dnf.Dir, "repos", "test.repo"))
	if out := dnf.Run(t, "repolist", "-v"); !strings.Contains(out, "EPEL 9") || !strings.Contains(out, c.URL+"/epel/9/Everything/") {
		t.Errorf("dnf has other repositories:\n%s", out)
	}
	if out := dnf.Run(t, "repoquery", "--location", "one"); !strings.Contains(out, c.URL+"/epel/9/Everything/one.rpm") {
		t.Errorf("dnf does not find the package:\n%s", out)
	}
	dnf.Run(t, "install", "--downloadonly", "--downloaddir=got", "one")
	testclients.SameFile(t, filepath.Join(dnf.Dir, "got", "one.rpm"), filepath.Join(repo, "one.rpm"))
}

// TestShellConfigured: shells that stop at each mistake source the file, and what is
// set already stays.
func TestShellConfigured(t *testing.T) {
	c := newConfigured(t, t.TempDir(), "variable NODEPOOL_CEPH_MIRROR /apt")
	dir := t.TempDir()
	file := filepath.Join(dir, "mirror_info.sh")
	c.fetch(t, "mirror_info.sh", file)
	const show = `; echo "$AFS_SLUG"; env | grep ^NODEPOOL_ | sort`
	at := "http://" + c.Addr
	shells := 0
	for _, shell := range []string{"sh", "dash", "bash", "busybox"} {
		if _, err := exec.LookPath(shell); err != nil {
			continue
		}
		shells++
		args := []string{"-euc", ". " + file + show}
		if shell == "busybox" {
			args = append([]string{"sh"}, args...)
		}
		slug, got, _ := strings.Cut(testclients.Command(t, dir, []string{"AFS_SLUG=debian-12-x86_64"}, shell, args...), "\n")
		want := "NODEPOOL_APT_MIRROR=" + at + "/apt\nNODEPOOL_CEPH_MIRROR=" + at + "/apt\nNODEPOOL_EPEL_MIRROR=" + at + "/epel\nNODEPOOL_MIRROR_HOST=" + c.host +
			"\nNODEPOOL_PYPI_MIRROR=" + at + "/pypi/simple\nNODEPOOL_WHEEL_MIRROR=" + at + "/wheel/debian-12-x86_64\n"
		if slug != "debian-12-x86_64" || got != want {
			t.Errorf("%s has\n%s\nwant\n%s", shell, got, want)
		}
		// By itself the shell knows what it runs on, and has no variables besides.
		out := testclients.Command(t, dir, nil, shell, append(args[:len(args)-1], ". "+file+`; echo "$AFS_SLUG ${PRETTY_NAME-none}"`)...)
		if want := platform(t) + " none\n"; out != want {
			t.Errorf("%s: the platform is %q, want %q", shell, out, want)
		}
		out = testclients.Command(t, dir, []string{"NODEPOOL_MIRROR_HOST=other.test", "NODEPOOL_PYPI_MIRROR=x"}, shell, append(args[:len(args)-1], ". "+file+`; echo "$NODEPOOL_PYPI_MIRROR $NODEPOOL_EPEL_MIRROR"`)...)
		if want := "x http://other.test:" + c.port + "/epel\n"; out != want {
			t.Errorf("%s: with variables set there is %q, want %q", shell, out, want)
		}
	}
	if shells == 0 {
		testcaddy.Missing(t, "there is no shell")
	}
}

// platform is what this machine is, as wheels' directories are named.
func platform(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		testcaddy.Missing(t, err.Error())
	}
	values := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		values[name] = strings.Trim(value, `"'`)
	}
	version := values["VERSION_ID"]
	if values["ID"] != "ubuntu" {
		version, _, _ = strings.Cut(version, ".")
	}
	return values["ID"] + "-" + version + "-" + strings.TrimSpace(testclients.Command(t, t.TempDir(), nil, "uname", "-m"))
}
