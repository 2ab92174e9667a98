// Package wheelstest has an index of packages, and packages to build, for tests of the
// wheel build.
package wheelstest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
)

// Index is an index of packages, over HTTP on this machine.
type Index struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string][]byte
	pages map[string]int // how often each was asked for
	slow  func(file string)

	// Down has it answer nothing but errors, and HTML only in HTML.
	Down atomic.Bool
	HTML atomic.Bool
}

// New starts an index without a file.
func New(t testing.TB) *Index {
	x := &Index{files: map[string][]byte{}, pages: map[string]int{}}
	x.Server = httptest.NewServer(x)
	t.Cleanup(x.Close)
	return x
}

// Sdist adds a source distribution, with a backend of its own that needs nothing else.
func (x *Index) Sdist(name, version string, files map[string]string) {
	all := map[string]string{
		"PKG-INFO":       "Metadata-Version: 2.1\nName: " + name + "\nVersion: " + version + "\n",
		"pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n",
		"backend.py":     strings.NewReplacer("@NAME@", name, "@VERSION@", version).Replace(Backend),
	}
	maps.Copy(all, files)
	base := name + "-" + version
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, file := range slices.Sorted(maps.Keys(all)) {
		_ = w.WriteHeader(&tar.Header{Name: base + "/" + file, Size: int64(len(all[file])), Mode: 0o644})
		_, _ = io.WriteString(w, all[file])
	}
	_ = w.Close()
	_ = z.Close()
	x.Add(base+".tar.gz", b.Bytes())
}

// Add adds a file.
func (x *Index) Add(file string, body []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.files[file] = body
}

// Asked is how often the page of a project was asked for.
func (x *Index) Asked(project string) int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.pages[project]
}

// Slow has f called before a file, or the page of a project ("name/"), is sent.
func (x *Index) Slow(f func(file string)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.slow = f
}

// File is a file of the index.
func (x *Index) File(name string) []byte {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.files[name]
}

// ServeHTTP answers.
func (x *Index) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if x.Down.Load() {
		http.Error(w, "down", http.StatusBadGateway)
		return
	}
	if file, ok := strings.CutPrefix(r.URL.Path, "/files/"); ok {
		x.mu.Lock()
		body, ok := x.files[file]
		slow := x.slow
		x.mu.Unlock()
		if slow != nil {
			slow(file)
		}
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(body)
		return
	}
	project := strings.Trim(strings.TrimPrefix(r.URL.Path, "/simple/"), "/")
	x.mu.Lock()
	slow := x.slow
	x.mu.Unlock()
	if slow != nil {
		slow(project + "/")
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pages[project]++
	type entry struct {
		Filename string            `json:"filename"`
		URL      string            `json:"url"`
		Hashes   map[string]string `json:"hashes"`
	}
	var all []entry
	for _, file := range slices.Sorted(maps.Keys(x.files)) {
		stem := strings.TrimSuffix(strings.TrimSuffix(file, ".tar.gz"), ".whl")
		name, _, _ := strings.Cut(stem, "-")
		if !strings.HasSuffix(file, ".whl") {
			name = stem[:strings.LastIndex(stem, "-")]
		}
		if pypi.Normalize(name) == project {
			sum := sha256.Sum256(x.files[file])
			all = append(all, entry{file, "../../files/" + file, map[string]string{"sha256": hex.EncodeToString(sum[:])}})
		}
	}
	if len(all) == 0 {
		http.NotFound(w, r)
		return
	}
	if x.HTML.Load() || !strings.Contains(r.Header.Get("Accept"), "json") {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintln(w, "<!DOCTYPE html><html><body>")
		for _, e := range all {
			fmt.Fprintf(w, "<a href=\"%s#sha256=%s\">%s</a>\n", e.URL, e.Hashes["sha256"], e.Filename)
		}
		fmt.Fprintln(w, "</body></html>")
		return
	}
	w.Header().Set("Content-Type", "application/vnd.pypi.simple.v1+json")
	_ = json.NewEncoder(w).Encode(map[string]any{"meta": map[string]string{"api-version": "1.0"}, "name": project, "files": all})
}

// Backend builds a wheel (PEP 517). It runs evil.py first, if there is one, and compiles
// ext.c.
const Backend = `
import base64, hashlib, os, subprocess, sys, sysconfig, zipfile
NAME, VERSION = "@NAME@", "@VERSION@"
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    if os.path.exists("evil.py"):
        exec(open("evil.py").read(), globals())
    module = NAME.replace("-", "_").replace(".", "_")
    tag, files = "py3-none-any", {module + ".py": b"name = %r\n" % NAME.encode()}
    if os.path.exists("tag"):
        tag = open("tag").read().strip()
    if os.path.exists("ext.c"):
        so = module + "_ext" + sysconfig.get_config_var("EXT_SUFFIX")
        subprocess.run(["gcc", "-shared", "-fPIC", "-I" + sysconfig.get_paths()["include"], "ext.c", "-o", so], check=True)
        files[so] = open(so, "rb").read()
        py = "cp%d%d" % sys.version_info[:2]
        tag = "%s-%s-%s" % (py, py, sysconfig.get_platform().replace("-", "_"))
    info = "%s-%s.dist-info/" % (module, VERSION)
    files[info + "METADATA"] = b"Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (NAME.encode(), VERSION.encode())
    files[info + "WHEEL"] = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n" + b"".join(b"Tag: %s\n" % t.encode() for t in [tag])
    record = ""
    for name, body in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        record += "%s,sha256=%s,%d\n" % (name, digest, len(body))
    files[info + "RECORD"] = (record + info + "RECORD,,\n").encode()
    if os.path.exists("broken"):
        files[module + ".py"] = b"something else\n"
    wheel = "%s-%s-%s.whl" % (module, VERSION, tag)
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w") as z:
        for name, body in files.items():
            z.writestr(name, body)
    return wheel
`

// Ext is ext.c of a module in C.
const Ext = `#include <Python.h>
static struct PyModuleDef m = {PyModuleDef_HEAD_INIT, "x", NULL, -1, NULL};
PyMODINIT_FUNC PyInit_x(void) { return PyModule_Create(&m); }
`
