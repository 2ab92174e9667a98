package clients

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/testclients"
)

const wheelPlatform = "debian-12-x86_64"

// putWheel writes a wheel into a directory.
func putWheel(t *testing.T, dir string, w wheel.Wheel) {
	t.Helper()
	var b bytes.Buffer
	_, err := w.WriteTo(&b)
	if err == nil {
		err = wheel.WriteFile(filepath.Join(dir, w.Filename()), b.Bytes())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// wheelSite serves an application from /pypi, and what it depends on from /wheel, by
// platform and character, and from /flat, where all wheels are in one directory.
func wheelSite(t *testing.T) (srv *testcaddy.Server, tree string, lib wheel.Wheel) {
	t.Helper()
	lib = wheel.Wheel{Name: "Mirror.Lib", Version: "2.0", Python: ">=3.6", Files: map[string]string{"mirror_lib.py": "answer = 42\n"}}
	old, next := lib, lib
	old.Version = "1.0"
	next.Version, next.Python = "3.0", ">=99" // pip must see that in the index
	app := wheel.Wheel{
		Name: "mirror-app", Version: "1.0", Requires: []string{"mirror-lib >= 1"},
		Files: map[string]string{"mirror_app.py": "import mirror_lib\n\nprint(mirror_lib.answer)\n"},
	}
	top := t.TempDir()
	index, flat := filepath.Join(top, "index"), filepath.Join(top, "flat")
	tree = filepath.Join(top, "wheels")
	if err := wheel.WriteIndex(index, app); err != nil {
		t.Fatal(err)
	}
	for _, w := range []wheel.Wheel{old, lib, next} {
		putWheel(t, filepath.Join(tree, wheelPlatform, "m/mirror-lib"), w)
		putWheel(t, flat, w)
	}
	// A wheel that would be chosen, if it were in the index.
	bad := filepath.Join(tree, wheelPlatform, "m/mirror-lib/mirror_lib-2.5-py3-none-any.whl")
	if err := wheel.WriteFile(bad, []byte("corrupt")); err != nil {
		t.Fatal(err)
	}
	srv = testcaddy.Start(t, fmt.Sprintf(`http://{$ADDR} {
	bind 127.0.0.1
	mirror_cache {
		mount /pypi %s {
			format pypi
			ttl 1h
		}
		mount /wheel %s {
			format wheel
			browse
			ttl 1h
		}
		mount /flat %s {
			format wheel
			browse
			ttl 1h
		}
	}
}
`, index, tree, flat))
	srv.WaitReady(t)
	return srv, tree, lib
}

// awaitIndex waits until the index of a mount is complete.
func awaitIndex(t *testing.T, srv *testcaddy.Server, mount string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, _, err := srv.Get(mount + "/simple/"); err != nil {
			t.Fatal(err)
		}
		out, err := srv.Run("mirror", "status")
		if err != nil {
			t.Fatal(err)
		}
		_, of, _ := strings.Cut(out, "\n"+mount+" ")
		if first, _, _ := strings.Cut(of, "\n/"); strings.Contains(first, "index complete") {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the index of %s is not complete:\n%s", mount, out)
		}
	}
}

// TestPipWheels installs from an index that is made of wheels, in all ways that pip has
// for one.
func TestPipWheels(t *testing.T) {
	needPip(t)
	srv, tree, lib := wheelSite(t)
	awaitIndex(t, srv, "/wheel")
	awaitIndex(t, srv, "/flat")
	platform := srv.URL + "/wheel/" + wheelPlatform
	want := filepath.Join(t.TempDir(), lib.Filename())
	putWheel(t, filepath.Dir(want), lib)
	fetch := func(t *testing.T) {
		for name, args := range map[string][]string{
			"its simple":           {"--index-url", platform + "/simple/", "mirror-lib"},
			"itself":               {"--index-url", platform, "mirror-lib"},
			"itself, with a slash": {"--index-url", platform + "/", "Mirror_Lib"},
			"a flat one":           {"--index-url", srv.URL + "/flat/simple", "mirror.lib"},
			"beside another":       {"--index-url", srv.URL + "/pypi/simple/", "--extra-index-url", platform, "mirror-app"},
			"a page of links":      {"--no-index", "--find-links", platform + "/mirror-lib/", "mirror-lib"},
			"a listing of links":   {"--no-index", "--find-links", srv.URL + "/flat/", "mirror-lib==2.0"},
		} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				out := pip(t, dir, append([]string{"download", "-v", "--only-binary", ":all:", "--dest", "wheels"}, args...)...)
				got := testclients.Names(t, dir, "wheels/*")
				if !slices.Contains(got, lib.Filename()) {
					t.Fatalf("pip downloaded %v\n%s", got, out)
				}
				testclients.SameFile(t, filepath.Join(dir, "wheels", lib.Filename()), want)
			})
		}
	}
	t.Run("cold", fetch)
	cold := srv.Touches(t, "/wheel")
	t.Run("warm", fetch)
	if warm := srv.Touches(t, "/wheel"); warm != cold {
		t.Errorf("the warm run touched the origin: %d times after the cold run, %d after the warm one", cold, warm)
	}
	if err := os.Rename(tree, tree+".away"); err != nil {
		t.Fatal(err)
	}
	t.Run("away", fetch)
	if err := os.Rename(tree+".away", tree); err != nil {
		t.Fatal(err)
	}
	// pip has asked for the metadata, and found out before the download what a wheel needs.
	dir := t.TempDir()
	out := pip(t, dir, "download", "-v", "--index-url", platform, "--dest", "wheels", "mirror-lib")
	if !strings.Contains(out, lib.Filename()+".metadata") {
		t.Errorf("pip has not asked for metadata:\n%s", out)
	}
	status, err := srv.Run("mirror", "status")
	if err != nil || !strings.Contains(status, "m/mirror-lib/mirror_lib-2.5-py3-none-any.whl can not be read") {
		t.Errorf("status: %v\n%s", err, status)
	}
}

// TestPipWheelFlipped has a wheel change under its name without the index knowing: pip
// refuses it by the checksum of the index.
func TestPipWheelFlipped(t *testing.T) {
	needPip(t)
	srv, tree, lib := wheelSite(t)
	awaitIndex(t, srv, "/wheel")
	platform := srv.URL + "/wheel/" + wheelPlatform
	pip(t, t.TempDir(), "download", "--index-url", platform, "--dest", "wheels", "mirror-lib==1.0")
	if _, _, err := srv.Get("/wheel/" + wheelPlatform + "/mirror-lib/"); err != nil {
		t.Fatal(err)
	}
	pip(t, t.TempDir(), "index", "--index-url", platform, "versions", "mirror-lib") // the page is cached
	file := filepath.Join(tree, wheelPlatform, "m/mirror-lib", lib.Filename())
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := wheel.WriteFile(file, b); err != nil {
		t.Fatal(err)
	}
	out, code := tryPip(t, "download", "--index-url", platform, "--dest", "wheels", "mirror-lib==2.0")
	if code == 0 || !strings.Contains(out, "HASHES") && !strings.Contains(out, "hash") {
		t.Errorf("pip ended with %d:\n%s", code, out)
	}
}
