package upstream

import (
	"crypto/sha256"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
)

const nginxConfig = `daemon off; worker_processes 1; pid {DIR}/pid; error_log {DIR}/error.log; user root;
events {}
http {
	default_type application/octet-stream;
	access_log off;
	client_body_temp_path {DIR}/a; proxy_temp_path {DIR}/b; fastcgi_temp_path {DIR}/c; uwsgi_temp_path {DIR}/d; scgi_temp_path {DIR}/e;
	server {
		listen {ADDR};
		root {DIR}/tree;
		gzip on; gzip_proxied any; gzip_types *; gzip_min_length 1000;
		location /slow/ { alias {DIR}/tree/; limit_rate 512k; }
	}
}
`

// nginx is a real server, which can be killed and started again.
type nginx struct {
	t       *testing.T
	dir     string
	addr    string
	program string
	cmd     *exec.Cmd
}

func startNginx(t *testing.T) *nginx {
	t.Helper()
	program, err := exec.LookPath("nginx")
	switch {
	case err != nil && os.Getenv("CI") != "":
		t.Fatal(err)
	case err != nil:
		t.Skip(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	n := &nginx{t: t, dir: t.TempDir(), addr: l.Addr().String(), program: program}
	if err := os.Mkdir(filepath.Join(n.dir, "tree"), 0o755); err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer("{DIR}", n.dir, "{ADDR}", n.addr).Replace(nginxConfig)
	if err := os.WriteFile(filepath.Join(n.dir, "config"), []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.kill)
	n.start()
	return n
}

func (n *nginx) start() {
	n.cmd = exec.Command(n.program, "-c", filepath.Join(n.dir, "config"))
	n.cmd.Stderr = os.Stderr
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := n.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	eventually(n.t, "nginx answers", func() bool {
		c, err := net.Dial("tcp", n.addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// kill ends nginx and its workers, with all connections.
func (n *nginx) kill() {
	syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL)
	n.cmd.Wait()
}

func (n *nginx) write(name, content string, age time.Duration) {
	n.t.Helper()
	path := filepath.Join(n.dir, "tree", name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		n.t.Fatal(err)
	}
	at := time.Now().Add(-age)
	if err := os.Chtimes(path, at, at); err != nil {
		n.t.Fatal(err)
	}
}

func TestNginx(t *testing.T) {
	t.Parallel()
	n := startNginx(t)
	text := strings.Repeat(ten, 1000)
	n.write("a", text, time.Hour)
	u := use(t, Config{URL: "http://" + n.addr, HeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second})

	whole, body, err := get(t, u, Request{Target: "/a"})
	if err != nil || whole.Status != 200 || body != text || whole.Size != 10000 || whole.Validator == "" || whole.Unframed {
		t.Fatalf("%+v, %v", whole, err)
	}
	for _, c := range []struct {
		r      Request
		status int
		body   string
	}{
		{Request{Target: "/a", Conditions: freshness.Conditions(whole.Header)}, 304, ""},
		{Request{Target: "/a", Conditions: http.Header{"If-None-Match": {`"other"`}}}, 200, text},
		{Request{Target: "/a", Head: true}, 200, ""},
		{Request{Target: "/a", Offset: 9995, Only: whole.Validator}, 206, "56789"},
		{Request{Target: "/a", Offset: 4, Length: 3, Only: whole.Validator}, 206, "456"},
		{Request{Target: "/a", Offset: -3}, 206, "789"},
		{Request{Target: "/a", Offset: -20000}, 206, text},
		{Request{Target: "/a", Offset: 9995, Only: `"other"`}, 200, text},
		{Request{Target: "/a", Offset: 9995, Only: whole.Header.Get("Last-Modified")}, 206, "56789"},
	} {
		resp, body, err := get(t, u, c.r)
		if c.r.Only == whole.Header.Get("Last-Modified") {
			// The answer has a better validator, so that whoever holds only the date cannot
			// tell whether it is the same version.
			if classOf(t, err) != ErrLying {
				t.Errorf("%+v: %v", c.r, err)
			}
			continue
		}
		if err != nil || resp.Status != c.status || body != c.body {
			t.Errorf("%+v: %+v, %d bytes, %v", c.r, resp, len(body), err)
		}
		if resp != nil && resp.Changed != (c.r.Only == `"other"`) {
			t.Errorf("%+v: changed %v", c.r, resp.Changed)
		}
	}
	resp, _, err := get(t, u, Request{Target: "/a", Offset: 10000, Only: whole.Validator})
	if err != nil || resp.Status != 416 || resp.Size != 10000 {
		t.Errorf("%+v, %v", resp, err)
	}
	resp, _, err = get(t, u, Request{Target: "/none"})
	if err != nil || resp.Status != 404 {
		t.Errorf("%+v, %v", resp, err)
	}

	// What nginx compresses on the fly (for proxies only if it is told so: gzip_proxied) has a weak validator, and cannot be resumed.
	packed, err := u.Fetch(t.Context(), Request{Target: "/a", AcceptEncoding: Decodable})
	if err != nil || packed.Header.Get("Content-Encoding") != "gzip" || packed.Validator != "" || packed.Size != -1 {
		t.Fatalf("%+v, %v", packed, err)
	}
	defer packed.Close()
	d, err := Decode(packed.Body, packed.Header.Get("Content-Encoding"), 10000)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got, err := io.ReadAll(d); err != nil || string(got) != text {
		t.Errorf("%d bytes, %v", len(got), err)
	}

	n.write("a", "new", time.Minute)
	resp, body, err = get(t, u, Request{Target: "/a", Offset: 5000, Only: whole.Validator})
	if err != nil || !resp.Changed || resp.Start != 0 || body != "new" {
		t.Errorf("%+v, %q, %v", resp, body, err)
	}
}

// TestNginxKilled checks that a body arrives whole, though the server was killed in the
// middle of it, and not at all if the file was another one afterwards.
func TestNginxKilled(t *testing.T) {
	t.Parallel()
	n := startNginx(t)
	text := strings.Repeat(ten, 150_000)
	n.write("a", text, time.Hour)
	for _, changed := range []bool{false, true} {
		u := use(t, Config{URL: "http://" + n.addr, HeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, RateWindow: time.Minute})
		resp, err := u.Fetch(t.Context(), Request{Target: "/slow/a"})
		if err != nil || resp.Status != 200 {
			t.Fatal(resp, err)
		}
		defer resp.Close()
		sum := sha256.New()
		first, err := io.CopyN(sum, resp.Body, 100_000)
		if err != nil {
			t.Fatal(err)
		}
		n.kill()
		if changed {
			n.write("a", strings.Repeat("x", len(text)), time.Minute)
		}
		n.start()
		rest, err := io.Copy(sum, resp.Body)
		if changed {
			if classOf(t, err) != ErrChanged {
				t.Errorf("%d bytes, %v", first+rest, err)
			}
			continue
		}
		if err != nil || first+rest != int64(len(text)) || [32]byte(sum.Sum(nil)) != sha256.Sum256([]byte(text)) {
			t.Errorf("%d bytes, %v", first+rest, err)
		}
	}
}
