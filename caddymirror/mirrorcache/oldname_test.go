package mirrorcache

import (
	"cmp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// askHost is ask for a host.
func (s *site) askHost(t testing.TB, method, host, path string) answer {
	t.Helper()
	return s.ask(t, method, path, "Host: "+host)
}

// TestOldName: at an old name the mount is at the root, in place, and nothing else is
// there; elsewhere nothing has changed.
func TestOldName(t *testing.T) {
	pypi, ubuntu := t.TempDir(), t.TempDir()
	write(t, pypi, "simple/six/index.html", []byte("six"))
	write(t, pypi, "packages/aa/six.whl", []byte("wheel"))
	write(t, pypi, "pypi/six/json", []byte("{}"))
	write(t, ubuntu, "dists/x", []byte("x"))
	s := newSite(t,
		mount("/pypi", `, "old_names": ["PyPI.one.test.", "pypi.two.test"]`, pypi),
		mount("/ubuntu", "", ubuntu))
	before := testutil.ToFloat64(oldNameRequests.WithLabelValues("/pypi", "pypi.one.test"))
	for _, tc := range []struct {
		host, path string
		status     int
		more       string // Location, or else the body
	}{
		{"pypi.one.test", "/simple/six/", 200, "six"},
		{"PYPI.one.test:8080", "/simple/six/", 200, "six"},
		{"pypi.one.test.", "/packages/aa/six.whl", 200, "wheel"},
		{"pypi.one.test", "/simple/six", 308, "/simple/six/"},
		{"pypi.one.test", "/pypi/six/json", 200, "{}"},
		{"pypi.one.test", "/pypi/simple/six/", 404, ""},
		{"pypi.one.test", "/ubuntu/dists/x", 404, ""},
		{"pypi.two.test", "/simple/six/", 200, "six"},
		{"pypi.three.test", "/simple/six/", 418, ""},
		{"mirror.test", "/simple/six/", 418, ""},
		{"mirror.test", "/pypi/simple/six/", 200, "six"},
		{"mirror.test", "/pypi/simple/six", 308, "/pypi/simple/six/"},
		{"mirror.test", "/ubuntu/dists/x", 200, "x"},
	} {
		a := s.askHost(t, "GET", tc.host, tc.path)
		more := cmp.Or(a.header.Get("Location"), string(a.body))
		if a.status != tc.status || tc.status < 400 && more != tc.more {
			t.Errorf("http://%s%s: %d %q, want %d %q", tc.host, tc.path, a.status, more, tc.status, tc.more)
		}
	}
	// One entry, under whatever name it is asked for.
	if got := s.askHost(t, "GET", "pypi.two.test", "/packages/aa/six.whl").header.Get("Cache-Status"); got != "mirror; hit" {
		t.Errorf("another name of the mount: Cache-Status is %q", got)
	}
	if a := s.askHost(t, "POST", "pypi.one.test", "/simple/"); a.status != 405 {
		t.Errorf("POST: %d", a.status)
	}
	if n := testutil.ToFloat64(oldNameRequests.WithLabelValues("/pypi", "pypi.one.test")) - before; n != 8 {
		t.Errorf("%v requests are counted for pypi.one.test, want 8", n)
	}
	// What clients make up has no series.
	if n := testutil.CollectAndCount(oldNameRequests); n != 2 {
		t.Errorf("%d series, want one for each name", n)
	}
}

// TestOldNameOfFormat: what a format redirects stays at the old name.
func TestOldNameOfFormat(t *testing.T) {
	pypi := t.TempDir()
	write(t, pypi, "simple/six/index.html", []byte("six"))
	write(t, pypi, "simple/index.html", []byte("all"))
	s := newSite(t, mount("/pypi", `, "old_names": ["pypi.test"], "format": {"format": "pypi"}`, pypi))
	for _, tc := range []struct {
		host, path string
		status     int
		more       string // Location, or else the body
	}{
		{"pypi.test", "/simple/six/", 200, "six"},
		{"pypi.test", "/simple/", 200, "all"},
		{"pypi.test", "/simple/Six", 301, "/simple/six/"},
		{"pypi.test", "/simple/six?x=1", 301, "/simple/six/?x=1"},
		{"pypi.test", "/simple", 301, "/simple/"},
		{"mirror.test", "/pypi/simple/Six", 301, "/pypi/simple/six/"},
	} {
		a := s.askHost(t, "GET", tc.host, tc.path)
		if more := cmp.Or(a.header.Get("Location"), string(a.body)); a.status != tc.status || more != tc.more {
			t.Errorf("http://%s%s: %d %q, want %d %q", tc.host, tc.path, a.status, more, tc.status, tc.more)
		}
	}
}

func TestOldNameChecked(t *testing.T) {
	t.Setenv("OLD_NAME_FOR_TEST", "Pypi.dfw.test")
	for names, want := range map[string]string{
		"{env.OLD_NAME_FOR_TEST}":     "pypi.dfw.test",
		"pypi.{env.NO_SUCH_VAR}.test": "is empty",
		"pypi.dfw.test:80":            "is not a host name",
		"http://pypi.dfw.test":        "is not a host name",
		"*.test":                      "is not a host name",
		"pypi..test":                  "is not a host name", // a variable is empty
		"":                            "is not a host name",
	} {
		m := &Mount{OldNames: []string{names}}
		err := m.provisionOldNames()
		if err == nil && m.OldNames[0] != want || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, %v, want %q", names, m.OldNames, err, want)
		}
	}
	m := &Mount{Prefix: "/a", OldNames: []string{"x.test"}}
	if _, err := oldNamesOf([]*Mount{m, {Prefix: "/b", OldNames: []string{"x.test"}}}); err == nil {
		t.Error("two mounts have one old name")
	}
}
