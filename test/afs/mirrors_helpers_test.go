package afs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
	sample "github.com/unifiedmirrors/mirror/examples/sample/wheel"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// fakeBandersnatch is a script in the place of bandersnatch. PyPI is the directory `pypi`
// beside its configuration, in the layout of a mirror, and `changed` names the projects
// that are new in it. As bandersnatch does, it writes all files before the pages that list
// them, each under a name of its own first, and `last-modified`, `generation` and `.lock`
// in each run. To set times of files takes more than this AFS client can do.
const fakeBandersnatch = `#!/bin/sh
set -e
test "$1" = --config && test "$3" = mirror || exit 2
dir=$(sed -n 's/^directory = //p' "$2")
pypi=$(dirname "$2")/pypi
changed=$(cat "$(dirname "$2")/changed")
now() { echo "2026-01-01 00:00:00,000 $*" >&2; }
rewrite() { mkdir -p "$(dirname "$1")"; cat >"$1.tmp"; mv "$1.tmp" "$1"; }
copy() { for f; do rewrite "$dir/$f" <"$pypi/$f"; done; }

now "INFO: Syncing with https://pypi.example.org/. (mirror.py:50)"
began=$(date -u +%Y%m%dT%H:%M:%S)
: >"$dir/.lock"
printf 5 >"$dir/generation"
serial=$(cat "$pypi/status")
test "$serial" = "$(cat "$dir/status" 2>/dev/null)" && changed=
now "INFO: $(echo $changed | wc -w) packages to sync. (mirror.py:80)"
for p in $changed; do
	for f in $(sed -n 's,.*href="../../\([^#"]*\).*,web/\1,p' "$pypi/web/simple/$p/index.html"); do
		test -e "$dir/$f" || copy "$f"
		test ! -e "$pypi/$f.metadata" || test -e "$dir/$f.metadata" || copy "$f.metadata"
	done
	now "INFO: Storing index page(s): $p - in $dir/web/simple/$p (simple.py:10)"
	copy "web/simple/$p/index.html" "web/simple/$p/index.v1_html" "web/simple/$p/index.v1_json" "web/json/$p"
	mkdir -p "$dir/web/pypi/$p"
	test -L "$dir/web/pypi/$p/json" || ln -s "../../json/$p" "$dir/web/pypi/$p/json"
done
test -z "$changed" || copy web/simple/index.html web/simple/index.v1_html web/simple/index.v1_json
now "INFO: New mirror serial: $serial (mirror.py:110)"
echo $began | rewrite "$dir/web/last-modified"
printf %s "$serial" >"$dir/status"
`

// fakePyPI is what bandersnatch mirrors: a directory with its configuration, its program,
// and what PyPI has.
type fakePyPI struct {
	dir    string
	serial int
	dists  []sample.Distribution
}

func newPyPI(t *testing.T, directory string) *fakePyPI {
	t.Helper()
	p := &fakePyPI{dir: t.TempDir()}
	try(t, os.WriteFile(p.program(), []byte(fakeBandersnatch), 0o755))
	try(t, os.WriteFile(p.config(), []byte("[mirror]\ndirectory = "+directory+"\nmaster = https://pypi.example.org/\n"), 0o644))
	return p
}

func (p *fakePyPI) program() string { return filepath.Join(p.dir, "bandersnatch") }
func (p *fakePyPI) config() string  { return filepath.Join(p.dir, "bandersnatch.conf") }

// add adds distributions.
func (p *fakePyPI) add(t *testing.T, dists ...sample.Dist) {
	t.Helper()
	changed := map[string]bool{}
	for _, d := range dists {
		p.dists = append(p.dists, d)
		changed[d.Project()] = true
	}
	p.serial += len(dists)
	try(t, sample.Bandersnatch{Dir: filepath.Join(p.dir, "pypi"), Serial: p.serial}.Write(p.dists...))
	try(t, os.WriteFile(filepath.Join(p.dir, "changed"), []byte(strings.Join(slices.Sorted(maps.Keys(changed)), "\n")), 0o644))
}

// debianWheel is a wheel that Debian has for virtual environments.
func debianWheel(t *testing.T, project string) sample.Dist {
	t.Helper()
	found, err := filepath.Glob("/usr/share/python-wheels/" + project + "-*.whl")
	try(t, err)
	if len(found) != 1 {
		testcaddy.Missing(t, "there is no wheel of "+project+" in /usr/share/python-wheels (make deps installs it)")
	}
	data, err := os.ReadFile(found[0])
	try(t, err)
	w, err := wheel.Open(bytes.NewReader(data), int64(len(data)), filepath.Base(found[0]))
	try(t, err)
	return sample.Dist{Name: w.Name.Project, Version: w.Name.Version, Filename: filepath.Base(found[0]), Data: data, Metadata: string(w.Metadata.Bytes)}
}

// debianPython is the Python for which Debian has made its wheels.
const debianPython = "/usr/bin/python3"

// nativeSdist is a source with a module in C, which gives its version.
func nativeSdist(t *testing.T, version string) sample.Dist {
	t.Helper()
	return dist(t, sample.Sdist{Name: "mirror-native", Version: version, Files: map[string]string{
		"pyproject.toml": "[build-system]\nrequires = [\"setuptools\", \"wheel\"]\nbuild-backend = \"setuptools.build_meta\"\n",
		"setup.py": `from setuptools import Extension, setup
setup(name="mirror-native", version="` + version + `", ext_modules=[Extension("mirror_native", ["native.c"])])
`,
		"native.c": `#include <Python.h>
static PyObject *version(PyObject *self, PyObject *none) { return PyUnicode_FromString("` + version + `"); }
static PyMethodDef methods[] = {{"version", version, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "mirror_native", NULL, -1, methods};
PyMODINIT_FUNC PyInit_mirror_native(void) { return PyModule_Create(&module); }
`,
	}})
}

// pureSdist is a source in Python, whose build needs nothing else.
func pureSdist(t *testing.T, version string) sample.Dist {
	t.Helper()
	return dist(t, sample.Wheel{Name: "mirror-pure", Version: version, Files: map[string]string{
		"mirror_pure.py": "def version():\n    return \"" + version + "\"\n",
	}}.Sdist())
}

func dist(t *testing.T, d sample.Distribution) sample.Dist {
	t.Helper()
	file, err := d.Dist()
	try(t, err)
	return file
}

// region is a mirror host, and who installs from it.
type region struct {
	*testcaddy.Server
	platform string // of its wheels
}

// pinned is a requirement of a project in a version, with the checksum of the only file
// that may be installed.
func pinned(project, version string, file []byte) string {
	return fmt.Sprintf("%s==%s --hash=sha256:%x\n", project, version, sha256.Sum256(file))
}

// install has pip install requirements from the region, with their checksums, and returns
// what a program prints with them.
func (r region) install(t *testing.T, requirements, program string) string {
	t.Helper()
	start := time.Now()
	dir := t.TempDir()
	try(t, os.WriteFile(filepath.Join(dir, "requirements.txt"), []byte(requirements), 0o644))
	python(t, dir, "-m", "pip", "--isolated", "--no-cache-dir", "--disable-pip-version-check", "install",
		"--index-url", r.URL+"/pypi/simple/", "--extra-index-url", r.URL+"/wheel/"+r.platform+"/",
		"--require-hashes", "--requirement", "requirements.txt", "--target", "site")
	t.Logf("installed in %v", time.Since(start).Round(time.Millisecond))
	return strings.TrimSpace(python(t, dir, "-c", "import sys; sys.path.insert(0, 'site'); "+program))
}

// python runs it in a directory, with nothing of this machine's configuration.
func python(t *testing.T, dir string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, debianPython, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "LC_ALL=C.UTF-8", "PIP_CONFIG_FILE=/dev/null"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("python3 %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
