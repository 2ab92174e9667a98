package upstreams

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/testclients"
)

// registryWorld is docker-registry with one image, test/image:1. With redirect, it sends
// clients to an nginx for blobs, as registries do that keep them in an object store.
func registryWorld(t *testing.T, redirect bool) world {
	t.Helper()
	testcaddy.Need(t, "docker-registry", "skopeo")
	dir, addr := t.TempDir(), testcaddy.FreeAddr(t)
	storage := filepath.Join(dir, "storage")
	if err := os.Mkdir(storage, 0o755); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\n", storage, addr)
	stop, start, options := func() {}, func() {}, ""
	if redirect {
		blobs := startNginx(t, storage)
		stop, start = blobs.stop, blobs.start
		options = "follow " + strings.TrimPrefix(blobs.url, "http://")
		config += "middleware:\n  storage:\n    - name: redirect\n      options:\n        baseurl: " + blobs.url + "/\n"
	}
	file := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startProcess(t, dir, addr, []string{"OTEL_TRACES_EXPORTER=none"}, "docker-registry", "serve", file)
	skopeo(t, "--dest-tls-verify=false", "oci:"+makeImage(t)+":1", "docker://"+addr+"/test/image:1")
	redirects(t, "http://"+addr, redirect)
	u := upstream{
		"http://" + addr,
		func() { p.stop(); stop() },
		func() { start(); p.start() },
	}
	return world{u, "/v2", true, options, pull}
}

// redirects fails the test unless blobs are redirected, or are not.
func redirects(t *testing.T, url string, want bool) {
	t.Helper()
	get := func(path, accept string) (*http.Response, []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v2/test/image/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, data
	}
	_, data := get("manifests/1", "application/vnd.oci.image.manifest.v1+json")
	var manifest struct {
		Config struct{ Digest string } `json:"config"`
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		t.Fatal(err)
	}
	if resp, _ := get("blobs/"+manifest.Config.Digest, "*/*"); (resp.StatusCode == http.StatusTemporaryRedirect) != want {
		t.Fatalf("a blob is answered with status %d, redirects: %v", resp.StatusCode, want)
	}
}

func skopeo(t *testing.T, args ...string) {
	t.Helper()
	testclients.Command(t, t.TempDir(), []string{"XDG_RUNTIME_DIR=" + t.TempDir()}, "skopeo", append([]string{"--insecure-policy", "copy", "--quiet"}, args...)...)
}

// pull fetches test/image:1 from a registry, and compares its parts with their digests.
func pull(t *testing.T, url string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image")
	skopeo(t, "--src-tls-verify=false", "docker://"+strings.TrimPrefix(url, "http://")+"/test/image:1", "dir:"+out)
	parts := 0
	for _, name := range testclients.Names(t, out, "*") {
		if len(name) != 64 { // manifest.json, version
			continue
		}
		data, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || digest(data) != name {
			t.Errorf("%s: %d bytes of digest %s, %v", name, len(data), digest(data), err)
		}
		parts++
	}
	if parts != 3 { // the configuration, and two layers
		t.Errorf("the image has %d parts, want 3", parts)
	}
}

func digest(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

// makeImage makes an OCI layout with an image of two layers, tagged 1.
func makeImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, data []byte) {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	type object = map[string]any
	blob := func(mediaType string, data []byte) object {
		write("blobs/sha256/"+digest(data), data)
		return object{"mediaType": mediaType, "digest": "sha256:" + digest(data), "size": len(data)}
	}
	asJSON := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var layers []object
	var ids []string
	for i := range uint64(2) {
		content := make([]byte, 3<<20)
		rand.NewChaCha8([32]byte{byte(i)}).Read(content)
		var raw, packed bytes.Buffer
		w := tar.NewWriter(&raw)
		w.WriteHeader(&tar.Header{Name: fmt.Sprintf("file%d", i), Mode: 0o644, Size: int64(len(content))})
		w.Write(content)
		w.Close()
		z := gzip.NewWriter(&packed)
		z.Write(raw.Bytes())
		z.Close()
		ids = append(ids, "sha256:"+digest(raw.Bytes()))
		layers = append(layers, blob("application/vnd.oci.image.layer.v1.tar+gzip", packed.Bytes()))
	}
	config := blob("application/vnd.oci.image.config.v1+json", asJSON(object{
		"architecture": "amd64", "os": "linux", "rootfs": object{"type": "layers", "diff_ids": ids},
	}))
	manifest := blob("application/vnd.oci.image.manifest.v1+json", asJSON(object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers,
	}))
	manifest["annotations"] = object{"org.opencontainers.image.ref.name": "1"}
	write("index.json", asJSON(object{"schemaVersion": 2, "manifests": []object{manifest}}))
	write("oci-layout", []byte(`{"imageLayoutVersion": "1.0.0"}`))
	return dir
}
