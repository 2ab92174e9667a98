package openstack

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// region is the region's mirror of the example, with trees on local disk in place of
// AFS, and the port that is its server's.
type region struct {
	*testcaddy.Server
	caddy, trees, logs string
	mirror, old        string // hosts
}

// put writes a file that has been there for a while: young ones have no validators.
func put(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(name, then, then); err != nil {
		t.Fatal(err)
	}
}

func newRegion(t *testing.T) region {
	t.Helper()
	r := region{caddy: testcaddy.Binary(t), trees: t.TempDir(), logs: t.TempDir(), mirror: "mirror.dfw.rax.example.org", old: "pypi.dfw.example.org"}
	for _, name := range []string{"pypi/web", "ubuntu", "ubuntu-cloud-archive", "debian", "centos-stream", "epel"} {
		put(t, filepath.Join(r.trees, name, "timestamp.txt"), []byte("now\n"))
	}
	built := wheel.Wheel{Name: "systemd-python", Version: "235", Files: map[string]string{"systemd.py": ""}}
	var file bytes.Buffer
	if _, err := built.WriteTo(&file); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(r.trees, "wheel/ubuntu-22.04-x86_64/s/systemd-python", built.Filename()), file.Bytes())
	if err := wheel.WriteIndex(filepath.Join(r.trees, "pypi/web"),
		wheel.Wheel{Name: "oslo.config", Version: "1.0", Files: map[string]string{"oslo.py": ""}},
	); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	config := example(t, "mirror.caddyfile")
	for old, with := range map[string]string{
		"\n{\n": fmt.Sprintf("\n{\n\thttp_port %d\n\tdefault_bind 127.0.0.1\n", port),
		"\n\tafs {\n\t\t# File servers call back, from their port 7000: the firewall has to let them.\n\t\taddress :7001\n\t\tcell {$CELL} {$CELL_SERVERS}\n\t}\n": "\n",
	} {
		if n := strings.Count(config, old); n != 1 {
			t.Fatalf("the configuration has %q %d times", old, n)
		}
		config = strings.Replace(config, old, with, 1)
	}
	config = strings.ReplaceAll(config, "afs://{$CELL}/mirror/", r.trees+"/")
	env := append(variables(t, "mirror.env"),
		// The commands come from here, and ask for the host by its address.
		"MIRROR_HOST=127.0.0.1", "MONITORING=127.0.0.2", "MIRROR_CACHE="+filepath.Join(t.TempDir(), "cache"), "MIRROR_LOGS="+r.logs)
	r.Server = testcaddy.Start(t, config, testcaddy.Env(env...))
	r.Addr = fmt.Sprintf("127.0.0.1:%d", port)
	r.URL = "http://" + r.Addr
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, _, err := r.Get("/robots.txt"); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	r.WaitReady(t)
	return r
}

// ask asks for a path of a host.
func (r region) ask(t *testing.T, host, path string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	resp, err := r.Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	if err := resp.Write(&b); err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(b.String(), "\r\n\r\n")
	return resp, body
}

// TestRegion: the region's mirror answers under its names, and says what it has.
func TestRegion(t *testing.T) {
	r := newRegion(t)
	for _, tc := range []struct {
		host, path string
		status     int
		body       string
	}{
		{r.mirror, "/robots.txt", 200, "User-agent: *\nDisallow: /"},
		{r.mirror, "/pypi/simple/oslo-config/", 200, "oslo_config-1.0"},
		{r.mirror, "/pypi/simple/Oslo.Config", 301, ""},
		{r.mirror, "/ubuntu/timestamp.txt", 200, "now"},
		{r.mirror, "/wheel/", 200, "ubuntu-22.04-x86_64"},
		{r.mirror, "/wheel/ubuntu-22.04-x86_64/systemd-python/", 200, "systemd_python-235"},
		{r.mirror, "/metrics", 404, "No mirror is here."},
		{r.mirror, "/", 404, "No mirror is here."},
		{"mirror01.test", "/ubuntu/timestamp.txt", 421, "No mirror has this name."},
		{r.old, "/simple/oslo-config/", 200, "oslo_config-1.0"},
		{r.old, "/robots.txt", 200, "Disallow"},
		{r.old, "/ubuntu/timestamp.txt", 404, ""},
		{r.mirror, "/clients/pip.conf?platform=ubuntu-22.04-x86_64", 200, "extra-index-url = http://" + r.mirror + "/wheel/ubuntu-22.04-x86_64/\n"},
		{r.mirror, "/clients/ubuntu-jammy.sources", 200, "Components: main universe\nTrusted: yes\n"},
		{r.mirror, "/clients/uca-caracal.sources", 200, "Suites: jammy-updates/caracal\n"},
		{r.mirror, "/clients/debian-bookworm.sources", 200, "URIs: http://" + r.mirror + "/debian\n"},
		{r.mirror, "/clients/centos-stream-9.repo", 200, "baseurl=http://" + r.mirror + "/centos-stream/9-stream/CRB/$basearch/os/\n"},
		{r.mirror, "/clients/epel-9.repo", 200, "gpgcheck=1\n"},
		{r.mirror, "/clients/mirror_info.sh", 200, "NODEPOOL_UCA_MIRROR"},
	} {
		resp, body := r.ask(t, tc.host, tc.path)
		if resp.StatusCode != tc.status || !strings.Contains(body, tc.body) {
			t.Errorf("http://%s%s: %s\n%s", tc.host, tc.path, resp.Status, body)
		}
	}
	if logs := r.Logs(); strings.Contains(logs, "left out of the configuration") {
		t.Errorf("clients are told of what is not mirrored:\n%s", logs)
	}
}

// TestCommands has MIGRATION.md's commands for the region's mirror do what it says.
func TestCommands(t *testing.T) {
	testcaddy.Need(t, "sh", "curl", "jq", "pip3")
	r := newRegion(t)
	home := t.TempDir()
	for _, dir := range []string{"ci", "bin"} {
		if err := os.Mkdir(filepath.Join(home, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(r.caddy, filepath.Join(home, "bin", "caddy")); err != nil {
		t.Fatal(err)
	}
	if resp, _ := r.ask(t, r.old, "/simple/oslo-config/"); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	// Nothing of mirror.env: operators do not have it in their shells.
	env := []string{
		"PATH=" + filepath.Join(home, "bin") + ":" + os.Getenv("PATH"), "HOME=" + home, "PIP_CONFIG_FILE=" + filepath.Join(home, "pip.conf"),
		"MIRROR=" + r.Addr, "OLD=" + r.old, "CADDY_ADMIN=" + r.Admin, "PIP_DISABLE_PIP_VERSION_CHECK=1",
	}
	want := map[string]string{
		"1": "Disallow", "3": "mirror; ", "4": r.trees + "/pypi/web", "5": "1", "6": "Saved ./oslo_config-1.0-py3-none-any.whl",
		"7": "http://127.0.0.1:" + strings.Split(r.Addr, ":")[1] + "/pypi/simple", "8": r.Addr, "9": `host="` + r.old + `",mount="/pypi"} 1`,
		"11": "ubuntu-22.04-x86_64", "14": "good",
	}
	replace := strings.NewReplacer(
		"/etc/", home+"/", "/var/log/caddy", r.logs, "localhost:2019", r.Admin,
		// Here there are no names, and no repositories of apt and dnf.
		`host "$MIRROR" && `, "", "check \"http://$MIRROR\" --max-age 30h", "check \"http://$MIRROR\" --pypi /pypi --files /ubuntu/timestamp.txt",
		"--rpm /centos-stream/9-stream/BaseOS/x86_64/os --rpm /epel/9/Everything/x86_64", "--files /centos-stream/timestamp.txt --files /epel/timestamp.txt",
	)
	for _, s := range sections(t) {
		n, _, _ := strings.Cut(s.title, ".")
		var out string
		for _, command := range s.commands {
			shell := replace.Replace(command)
			word, _, _ := strings.Cut(shell, " ")
			switch {
			case word == "systemctl", word == "host", word == "!":
				continue
			case strings.HasPrefix(command, "caddy afs"), strings.HasPrefix(command, "caddy mirror run"), strings.HasPrefix(command, "caddy mirror status pypi"), strings.HasPrefix(command, "caddy mirror status wheel"):
				continue // an update host's
			case strings.Contains(shell, "https://"):
				continue // elsewhere
			}
			o, err := run(t, env, "sh", "-c", "cd "+home+"; "+shell)
			if err != nil {
				t.Errorf("%s: %s: %v\n%s", s.title, command, err, o)
			}
			out += o
		}
		if !strings.Contains(out, want[n]) {
			t.Errorf("%s: %q has no %q", s.title, out, want[n])
		}
	}
}
