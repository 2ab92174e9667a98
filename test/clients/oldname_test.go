package clients

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/testclients"
)

// TestPipOldName: pip installs from the old name of a mount, and from the new one,
// and the requests at the old one are counted.
func TestPipOldName(t *testing.T) {
	needPip(t)
	lib := wheel.Wheel{Name: "mirror-lib", Version: "1.0", Files: map[string]string{"mirror_lib.py": "answer = 42\n"}}
	index := filepath.Join(t.TempDir(), "index")
	if err := wheel.WriteIndex(index, lib); err != nil {
		t.Fatal(err)
	}
	srv := testcaddy.Start(t, "http://{$ADDR} {\n\tbind 127.0.0.1\n}\n")
	_, port, _ := strings.Cut(srv.Addr, ":")
	if err := srv.Reload(fmt.Sprintf(`http://{$ADDR}, http://localhost:%s {
	bind 127.0.0.1
	mirror_cache {
		mount /pypi %s {
			old_name localhost
			format pypi
		}
	}
}
`, port, index)); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{srv.URL + "/pypi/simple/", "http://localhost:" + port + "/simple"} {
		dir := t.TempDir()
		pip(t, dir, "download", "--no-deps", "--index-url", url, "--dest", "wheels", "mirror-lib")
		testclients.SameFile(t, filepath.Join(dir, "wheels", lib.Filename()), filepath.Join(index, "packages", lib.Filename()))
	}
	resp, err := http.Get("http://" + srv.Admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	metrics, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`(?m)^caddy_mirror_old_name_requests_total\{host="localhost",mount="/pypi"\} [1-9]`)
	if !want.Match(metrics) {
		t.Errorf("metrics have no %s:\n%.2000s", want, metrics)
	}
}
