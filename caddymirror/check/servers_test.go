package check

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestServers checks trees that other servers serve: no fault is found with nginx and
// Apache, as they are installed, and that of Python's, which knows no ranges, is.
func TestServers(t *testing.T) {
	for _, test := range []struct {
		program string
		config  string
		args    []string
		fault   Aspect // empty: none
	}{
		{"nginx", `daemon off; worker_processes 1; pid {DIR}/pid; error_log {DIR}/error.log;
events {}
http {
	types { text/html html; }
	default_type application/octet-stream;
	access_log off;
	client_body_temp_path {DIR}/a; proxy_temp_path {DIR}/b; fastcgi_temp_path {DIR}/c; uwsgi_temp_path {DIR}/d; scgi_temp_path {DIR}/e;
	server { listen {ADDR}; root {TREE}; autoindex on; }
}
`, []string{"-c", "{CONFIG}"}, ""},
		{"apache2", `Listen {ADDR}
ServerName localhost
PidFile {DIR}/pid
ErrorLog {DIR}/error.log
DefaultRuntimeDir {DIR}
Mutex file:{DIR}
LoadModule mpm_event_module {MODULES}/mod_mpm_event.so
LoadModule authz_core_module {MODULES}/mod_authz_core.so
LoadModule dir_module {MODULES}/mod_dir.so
LoadModule autoindex_module {MODULES}/mod_autoindex.so
LoadModule mime_module {MODULES}/mod_mime.so
TypesConfig /dev/null
AddType text/html .html
AddEncoding x-gzip .gz
DocumentRoot {TREE}
<Directory {TREE}>
	Options Indexes FollowSymLinks
	Require all granted
</Directory>
`, []string{"-X", "-f", "{CONFIG}"}, ""},
		{"python3", "", []string{"-m", "http.server", "--bind", "127.0.0.1", "--directory", "{TREE}", "{PORT}"}, Range},
	} {
		t.Run(test.program, func(t *testing.T) {
			program, err := exec.LookPath(test.program)
			switch {
			case err != nil && os.Getenv("CI") != "":
				t.Fatal(err)
			case err != nil:
				t.Skip(err)
			}
			s := newSite(t)
			dir, addr := t.TempDir(), freeAddr(t)
			_, port, _ := strings.Cut(addr, ":")
			if err := os.Chmod(s.dir, 0o755); err != nil { // servers read it as somebody else
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Dir(s.dir), 0o755); err != nil {
				t.Fatal(err)
			}
			expand := strings.NewReplacer("{DIR}", dir, "{ADDR}", addr, "{PORT}", port, "{TREE}", s.dir,
				"{CONFIG}", filepath.Join(dir, "config"), "{MODULES}", "/usr/lib/apache2/modules")
			if err := os.WriteFile(filepath.Join(dir, "config"), []byte(expand.Replace(test.config)), 0o644); err != nil {
				t.Fatal(err)
			}
			args := make([]string, 0, len(test.args))
			for _, arg := range test.args {
				args = append(args, expand.Replace(arg))
			}
			start(t, addr, program, args...)
			r, found := run(t, Options{URL: "http://" + addr, Mounts: mounts, All: true, Keyring: ring(t, s.key)})
			if test.fault == "" && len(found) > 0 || test.fault != "" && len(found) == 0 {
				t.Errorf("%q\n%s", found, text(t, r))
			}
			for _, m := range r.Mounts {
				if m.Files == 0 {
					t.Errorf("%s: no files were fetched", m.Mount)
				}
				for _, f := range m.Faults {
					if f.Aspect != test.fault {
						t.Error(f)
					}
				}
			}
		})
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// start runs a server until the test ends, and waits until it answers.
func start(t *testing.T, addr, program string, args ...string) {
	t.Helper()
	var out strings.Builder
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	var err error
	for range 200 {
		var resp *http.Response
		if resp, err = http.Get(fmt.Sprintf("http://%s/", addr)); err == nil {
			resp.Body.Close()
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal(err)
}
