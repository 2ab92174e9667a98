package format

import (
	"errors"
	"path"
	"strings"
	"testing"
)

// TestPypiPlan: which files answer, in which order.
func TestPypiPlan(t *testing.T) {
	const json, html = "application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.v1+html"
	const text = "text/html; charset=utf-8"
	for _, tc := range []struct {
		path, query, accept string
		want                string // candidates, | and what is not acceptable
	}{
		{"simple/foo/", "", json, "simple/foo/index.v1_json " + json + ", simple/f/foo/index.v1_json " + json +
			" | simple/foo/index.v1_html " + html + ", simple/f/foo/index.v1_html " + html + ", simple/foo/index.html " + html + ", simple/f/foo/index.html " + html +
			", simple/foo/index.html " + text + ", simple/f/foo/index.html " + text + ", simple/foo/index.v1_html " + text + ", simple/f/foo/index.v1_html " + text},
		{"simple/", "", "text/html, " + json + ";q=0.5", "simple/index.html " + text + ", simple/index.v1_html " + text + ", simple/index.v1_json " + json +
			" | simple/index.v1_html " + html + ", simple/index.html " + html},
		{"simple/index.v1_json", "", "text/html", "simple/index.v1_json " + json + " | "},
		{"simple/f/foo/index.html", "", "", "simple/f/foo/index.html " + text + " | "},
		{"json/foo", "", "", "json/foo application/json, pypi/foo/json application/json | "},
		{"pypi/foo/json", "", "text/html", "pypi/foo/json application/json, json/foo application/json | "},
		{"pypi/foo/1.0/json", "", "", "pypi/foo/1.0/json application/json | "},
	} {
		p, ok := new(Pypi).Plan(Request{Path: tc.path, Query: tc.query, Accept: tc.accept})
		var lists [2][]string
		for i, list := range [][]Candidate{p.Candidates, p.Others} {
			for _, c := range list {
				lists[i] = append(lists[i], c.Name+" "+c.MediaType)
			}
		}
		if got := strings.Join(lists[0], ", ") + " | " + strings.Join(lists[1], ", "); !ok || got != tc.want {
			t.Errorf("%s, Accept: %s:\ngot  %s\nwant %s", tc.path, tc.accept, got, tc.want)
		}
	}
}

// TestPypiPlain: these are files and directories like any other.
func TestPypiPlain(t *testing.T) {
	for _, p := range []string{
		"", "packages/aa/bb/cc/f.whl", "packages/aa/bb/cc/f.whl.metadata", "packages/", "last-modified", "simple.html",
		"simple/foo/versions/", "simple/v/versions/", "simple/foo/bar/", "simple/foo/f.html", "simple/.../", "simple/a b/", "simple/é",
		"json/", "json", "pypi", "pypi/foo", "pypi/foo/bar", "pypi/foo/1/2/json", "local-stats/days",
	} {
		if plan, ok := new(Pypi).Plan(Request{Path: p}); ok {
			t.Errorf("%q has the plan %+v", p, plan)
		}
	}
}

func TestPypiClass(t *testing.T) {
	for name, want := range map[string]Class{
		"packages/aa/bb/cc/f.whl": Immutable, "packages/aa/bb/cc/f.whl.metadata": Immutable,
		"simple/foo/index.html": Volatile, "json/foo": Volatile, "last-modified": Volatile, "packages": Volatile, "x/packages/f": Volatile,
	} {
		if got := new(Pypi).Class(name); got != want {
			t.Errorf("%s is %s", name, got)
		}
	}
}

func TestPypiFields(t *testing.T) {
	filler := strings.Repeat("x", 300<<10)
	for _, tc := range []struct{ name, page, want string }{
		{"simple/p/index.html", "<html></html>\n<!--SERIAL 12-->", "12"},
		{"simple/p/index.v1_html", "<html></html>\n<!-- SERIAL 12 -->\n", "12"},
		{"simple/p/index.html", "<!--SERIAL 12--><html></html>", ""}, // anybody may have written that
		{"simple/p/index.html", "<!--SERIAL 1x--><html></html>", ""},
		{"simple/p/index.html", filler + "<!--SERIAL 12-->", "12"},
		{"simple/p/index.html", "", ""},
		{"simple/p/index.v1_json", `{"files": [], "meta": {"_last-serial": "12", "api-version": "1.1"}}`, "12"},
		{"simple/p/index.v1_json", `{"meta":{"api-version":"1.1","_last-serial":12},"files":[]}`, "12"},
		{"simple/p/index.v1_json", `{"files": [{"yanked": "\"meta\": {\"_last-serial\": 13}"}], "meta": {"_last-serial": 12}}`, "12"},
		{"simple/p/index.v1_json", `{"meta": {"api-version": "1.1"}, "x": {"_last-serial": 12}}`, ""},
		{"simple/p/index.v1_json", `{"meta": {"_last-serial": -1}}`, ""},
		{"simple/p/index.v1_json", `{"meta": {"_last-serial": 12}, "x": "` + filler + `"}`, "12"},
		{"simple/p/index.v1_json", `{"x": "` + filler + `", "meta": {"_last-serial": 12}}`, "12"},
		{"json/p", `{"info": {"description": "\"last_serial\": 13,"}, "last_serial": 12, "releases": {}}`, "12"},
		{"pypi/p/json", `{"last_serial": 12}`, "12"},
	} {
		if !new(Pypi).Inspects(tc.name) {
			t.Fatalf("%s is not looked into", tc.name)
		}
		found, err := new(Pypi).Fields(tc.name, strings.NewReader(tc.page), int64(len(tc.page)))
		if err != nil || found[serialField] != tc.want {
			t.Errorf("%s, %.60q: got %v, %v", tc.name, tc.page, found, err)
		}
	}
	for _, name := range []string{"packages/aa/bb/cc/index.html", "simple/p/f.html", "last-modified", "pypi/p"} {
		if new(Pypi).Inspects(name) {
			t.Errorf("%s is looked into", name)
		}
	}
	broken := errors.New("broken")
	if _, err := new(Pypi).Fields("json/p", failingAt{broken}, 10); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

type failingAt struct{ err error }

func (f failingAt) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// FuzzPypiPlan: whatever is asked for, a redirect leads to where there is none, and what
// may answer is in the tree, and not among what never changes.
func FuzzPypiPlan(f *testing.F) {
	for _, p := range []string{
		"simple", "simple/", "simple/Foo.Bar", "simple/f/foo", "simple/f/F_o", "simple/-", "simple/f-/", "simple/_foo_/", "json/A--b/", "pypi/X.Y/json/",
		"pypi/X/1.0/json", "simple/index.html/", "simple/i/index.html", "simple/v/v/", "simple/f/f/f", "simple/\xff", "pypi//json", "json//",
	} {
		f.Add(p, "format=text/html", "*/*")
	}
	f.Fuzz(func(t *testing.T, asked, query, accept string) {
		slash := strings.HasSuffix(asked, "/")
		if asked = strings.TrimPrefix(path.Clean("/"+asked), "/"); slash && asked != "" {
			asked += "/" // as the server gives it
		}
		plan, ok := new(Pypi).Plan(Request{Path: asked, Query: query, Accept: accept})
		if !ok {
			return
		}
		if plan.Redirect != "" {
			again, ok := new(Pypi).Plan(Request{Path: plan.Redirect, Query: query, Accept: accept})
			if !ok || again.Redirect != "" {
				t.Errorf("%q is redirected to %q, and that to %q", asked, plan.Redirect, again.Redirect)
			}
			return
		}
		if len(plan.Candidates)+len(plan.Others) == 0 {
			t.Errorf("%q has an empty plan", asked)
		}
		for _, c := range append(plan.Candidates, plan.Others...) {
			if path.Clean("/"+c.Name) != "/"+c.Name || new(Pypi).Class(c.Name) != Volatile || c.MediaType == "" {
				t.Errorf("%q: %+v", asked, c)
			}
		}
	})
}
