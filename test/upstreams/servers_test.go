package upstreams

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/upstreams/faulty"
)

// upstream is a real server that can be stopped and started again.
type upstream struct {
	url         string // without a slash at the end
	stop, start func()
}

const nginxConfig = `daemon off; worker_processes 1; pid {DIR}/pid; error_log {DIR}/error.log; user root;
events { worker_connections 4096; }
http {
	include /etc/nginx/mime.types;
	default_type application/octet-stream;
	access_log off; sendfile on; keepalive_requests 100000;
	client_body_temp_path {DIR}/a; proxy_temp_path {DIR}/b; fastcgi_temp_path {DIR}/c; uwsgi_temp_path {DIR}/d; scgi_temp_path {DIR}/e;
	server {
		listen {ADDR} {LISTEN};
		{SERVER}
		root {TREE};
	}
}
`

// startNginx serves a directory. server has more lines for its server block.
func startNginx(t testing.TB, tree string, server ...string) upstream {
	t.Helper()
	return nginx(t, tree, "http", "backlog=4096", server...)
}

// startNginxTLS is startNginx with HTTP/2 over TLS.
func startNginxTLS(t testing.TB, tree string, cert faulty.Certificate, server ...string) upstream {
	t.Helper()
	return nginx(t, tree, "https", "ssl http2 backlog=4096",
		append(server, "ssl_certificate "+cert.CertFile+"; ssl_certificate_key "+cert.KeyFile+";")...)
}

func nginx(t testing.TB, tree, scheme, listen string, server ...string) upstream {
	t.Helper()
	testcaddy.Need(t, "nginx")
	dir, addr := t.TempDir(), testcaddy.FreeAddr(t)
	config := strings.NewReplacer("{DIR}", dir, "{ADDR}", addr, "{TREE}", tree, "{LISTEN}", listen, "{SERVER}", strings.Join(server, "\n\t\t")).Replace(nginxConfig)
	file := filepath.Join(dir, "config")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, dir, addr, nil, "nginx", "-c", file)
	return upstream{scheme + "://" + addr, p.stop, p.start}
}

// startCaddy serves a directory with file_server.
func startCaddy(t testing.TB, tree string) upstream {
	t.Helper()
	config := fmt.Sprintf("http://{$ADDR} {\n\tbind 127.0.0.1\n\troot * %s\n\tfile_server\n}\n", tree)
	s := testcaddy.Start(t, config)
	return upstream{s.URL, s.Kill, func() { s.Restart(config) }}
}
