package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/testclients"
)

// pip runs pip without the machine's configuration, cache and indexes.
func pip(t *testing.T, dir string, args ...string) string {
	t.Helper()
	args = append([]string{"-m", "pip", "--isolated", "--no-cache-dir", "--disable-pip-version-check"}, args...)
	return testclients.Command(t, dir, []string{"PIP_CONFIG_FILE=/dev/null"}, "python3", args...)
}

func needPip(t *testing.T) {
	t.Helper()
	testcaddy.Need(t, "python3", "pip3")
}

// TestPip downloads a wheel and the one that it depends on.
func TestPip(t *testing.T) {
	needPip(t)
	lib := wheel.Wheel{
		Name: "Mirror.Lib", Version: "2.0",
		Files: map[string]string{"mirror_lib.py": "answer = 42\n"},
	}
	app := wheel.Wheel{
		Name: "mirror-app", Version: "1.0", Requires: []string{"mirror-lib >= 2"},
		Files: map[string]string{"mirror_app.py": "import mirror_lib\n\nprint(mirror_lib.answer)\n"},
	}
	old := lib
	old.Version = "1.0"
	index := filepath.Join(t.TempDir(), "index")
	if err := wheel.WriteIndex(index, old, lib, app); err != nil {
		t.Fatal(err)
	}
	wheels := t.TempDir() // index moves away
	if err := wheel.WriteIndex(wheels, lib, app); err != nil {
		t.Fatal(err)
	}

	coldWarmAway(t, index, func(t *testing.T, url string) {
		dir := t.TempDir()
		pip(t, dir, "download", "--index-url", url+"/simple/", "--only-binary", ":all:", "--dest", "wheels", "mirror-app")

		got := testclients.Names(t, dir, "wheels/*")
		want := []string{app.Filename(), lib.Filename()}
		if slices.Sort(want); !slices.Equal(got, want) {
			t.Errorf("pip downloaded %v, want %v", got, want)
		}
		for _, name := range got {
			testclients.SameFile(t, filepath.Join(dir, "wheels", name), filepath.Join(wheels, "packages", name))
		}
	})
}

// tryPip is pip for what may fail.
func tryPip(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "python3", append([]string{"-m", "pip", "--isolated", "--no-cache-dir", "--disable-pip-version-check"}, args...)...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C.UTF-8", "PIP_CONFIG_FILE=/dev/null"}
	all, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(all), cmd.ProcessState.ExitCode()
}
