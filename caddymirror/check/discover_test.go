package check

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestDiscover checks that the mounts are found that a mirror has configuration for.
func TestDiscover(t *testing.T) {
	files := map[string]string{
		"pip.conf": "# x\n[global]\ntimeout = 60\nindex-url = {URL}/pypi/simple/\nextra-index-url =\n    {URL}/private/simple\n    {URL}/simple/\n    {URL}/wheel/debian-12-x86_64/\n",
		"mirror_info.sh": `export NODEPOOL_MIRROR_HOST="${NODEPOOL_MIRROR_HOST:-mirror.example.org}"
export NODEPOOL_PYPI_MIRROR="${NODEPOOL_PYPI_MIRROR:-http://$NODEPOOL_MIRROR_HOST/pypi/simple}"
export NODEPOOL_WHEEL_MIRROR="${NODEPOOL_WHEEL_MIRROR:-http://$NODEPOOL_MIRROR_HOST/wheel/$AFS_SLUG}"
`,
		"ubuntu.sources": "# x\nTypes: deb\nURIs: {URL}/ubuntu\nSuites: jammy jammy-updates\nComponents: main\n\nTypes: deb\nURIs: {URL}/ubuntu/\nSuites: jammy-security\n",
		"evil.sources":   "URIs: http://192.0.2.1/x\nSuites: x\n\nURIs: {URL}/y\nSuites: ../../x\n",
		"epel.repo":      "[epel]\nname=x\nbaseurl={URL}/epel/9/Everything/x86_64/\n\n[b]\nbaseurl={URL}/epel/$releasever/\n",
	}
	var base string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutPrefix(r.URL.Path, "/clients/")
		switch text := files[name]; {
		case !ok || name != "" && text == "":
			http.NotFound(w, r)
		case name == "":
			w.Header().Set("Content-Type", "text/html")
			for _, name := range []string{"pip.conf", "mirror_info.sh", "ubuntu.sources", "evil.sources", "epel.repo"} {
				fmt.Fprintf(w, `<a href="%s">x</a>`, name)
			}
		default:
			fmt.Fprint(w, strings.ReplaceAll(text, "{URL}", base))
		}
	}))
	defer srv.Close()
	base = srv.URL
	found, skipped, err := Discover(t.Context(), Options{URL: base})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]string, 0, len(found))
	for _, m := range found {
		got = append(got, string(m.Kind)+" "+m.String())
	}
	const want = "pypi /pypi; pypi /private; pypi /; wheel /wheel; apt /ubuntu,jammy,jammy-updates,jammy-security; rpm /epel/9/Everything/x86_64"
	if strings.Join(got, "; ") != want {
		t.Errorf("found %q, want %s", got, want)
	}
	if len(skipped) != 3 || skipped[0] != "http://192.0.2.1/x" {
		t.Errorf("skipped %q", skipped)
	}

	files = nil
	for _, h := range []http.HandlerFunc{
		http.NotFound,
		func(http.ResponseWriter, *http.Request) {},
		func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "No mirror is here.") },
		func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `<html><a href="x">x</a></html>`) },
	} {
		srv := httptest.NewServer(h)
		if found, _, err := Discover(t.Context(), Options{URL: srv.URL}); err == nil {
			t.Errorf("found %v", found)
		}
		srv.Close()
	}
}
