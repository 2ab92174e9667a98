package pypi

import (
	"testing"
	"time"
)

// TestBookkeeping goes through what bandersnatch writes, and what only looks like it.
func TestBookkeeping(t *testing.T) {
	for name, want := range map[string]bool{
		".lock": true, "status": true, "generation": true, "todo": true,
		"web/last-modified": true, "web/local-stats/days/2026": true,
		"web/simple/status/index.html": false, "web/simple/todo/index.html": false,
		"web/simple/index.html": false, "web/json/status": false, "web/packages/aa/bb/x/last-modified": false,
		"last-modified": false, "web/status": false, "web/local-stats": false,
	} {
		if got := Bookkeeping(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestParseLastModified(t *testing.T) {
	at, err := ParseLastModified("20260301T12:34:56\n")
	if want := time.Date(2026, 3, 1, 12, 34, 56, 0, time.UTC); err != nil || !at.Equal(want) {
		t.Errorf("%v, %v", at, err)
	}
	for _, text := range []string{"", "2026-03-01", "20261301T12:34:56"} {
		if at, err := ParseLastModified(text); err == nil {
			t.Errorf("%q is %v", text, at)
		}
	}
}

func TestProjectOf(t *testing.T) {
	for name, want := range map[string]string{
		"web/simple/Foo.Bar/index.html": "foo-bar",
		"simple/f/foo/index.v1_json":    "foo",
		"simple/f/index.html":           "f", // a project, and no directory of first characters
		"simple/index.html":             "",
		"index.html":                    "",
		"simple/simple/index.html":      "simple",
		"web/packages/aa/bb/cc/x.whl":   "",
		"web/simple/foo/versions/x":     "foo",
	} {
		if got := ProjectOf(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
