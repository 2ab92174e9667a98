package wheel

import (
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

func TestParseName(t *testing.T) {
	for file, want := range map[string]Name{
		"foo-1.0-py3-none-any.whl":                                       {"foo", "1.0", "", "py3", "none", "any"},
		"Foo.Bar-1.0-1abc-cp311-abi3-manylinux1_x86_64.linux_x86_64.whl": {"Foo.Bar", "1.0", "1abc", "cp311", "abi3", "manylinux1_x86_64.linux_x86_64"},
		"a-1!2.0rc1.post2.dev3+ubuntu_1-py2.py3-none-any.whl":            {"a", "1!2.0rc1.post2.dev3+ubuntu-1", "", "py2.py3", "none", "any"},
		"foo-1.0_1-py3-none-any.whl":                                     {"foo", "1.0-1", "", "py3", "none", "any"},
	} {
		if got, err := ParseName(file); err != nil || got != want {
			t.Errorf("%s: %+v, %v", file, got, err)
		}
	}
	for _, file := range []string{
		"", ".whl", "foo.whl", "foo-1.0.whl", "foo-1.0-py3-none-any.zip", "foo-1.0-py3-none-any.WHL", "-1.0-py3-none-any.whl",
		"foo__bar-1.0-py3-none-any.whl", "foo-one-py3-none-any.whl", "foo-1.0-x1-py3-none-any.whl", "foo-1.0--py3-none-any.whl",
		"foo-1.0-1-2-py3-none-any.whl", "foo-1.0-py3-none-.whl", "foo-1.0-py3..py2-none-any.whl", "foo-1.0-py/3-none-any.whl",
		"föö-1.0-py3-none-any.whl", "foo-1.0+-py3-none-any.whl", "_foo-1.0-py3-none-any.whl", "foo-1.0-1\n-py3-none-any.whl",
	} {
		if got, err := ParseName(file); !fault.Is(err) {
			t.Errorf("%q: %+v, %v", file, got, err)
		}
	}
}

func TestParseSource(t *testing.T) {
	for file, want := range map[string]SourceName{
		"foo-1.0.tar.gz":             {"foo", "1.0"},
		"python-dateutil-2.8.tar.gz": {"python-dateutil", "2.8"},
		"Foo.Bar-1.0.zip":            {"Foo.Bar", "1.0"},
	} {
		if got, err := ParseSource(file); err != nil || got != want {
			t.Errorf("%s: %+v, %v", file, got, err)
		}
	}
	for _, file := range []string{"foo.tar.gz", "-1.0.tar.gz", "foo-.tar.gz", "foo-bar.zip", "foo-1.0.tar.bz2", "foo-1.0.TAR.GZ"} {
		if got, err := ParseSource(file); !fault.Is(err) {
			t.Errorf("%q: %+v, %v", file, got, err)
		}
	}
}

func TestVersions(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"1.0", "1", 0},
		{"1", "1.0.0", 0},
		{"1.0.1", "1", 1},
		{"1", "1.0.1", -1},
		{"1.0+ubuntu_1", "1.0+ubuntu.1", 0},
		{"1.0+Ubuntu-1", "1.0+ubuntu.1", 0},
		{"1.0-1", "1.0.post1", 0},
		{"1.0alpha", "1.0a0", 0},
		{"v1.0", "1.0", 0},
		{"1.0.dev1", "1.0a1", -1},
		{"1.0rc1", "1.0", -1},
		{"1!1", "2", 1},
		{"1.0+2", "1.0", 1},
		{"1.10", "1.9", 1},
	} {
		a, err := ParseVersion(tt.a)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ParseVersion(tt.b)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Compare(b); got != tt.want {
			t.Errorf("%s to %s: %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := b.Compare(a); got != -tt.want {
			t.Errorf("%s to %s: %d, want %d", tt.b, tt.a, got, -tt.want)
		}
	}
	for _, s := range []string{"", "one", "1.", "1+", "1+a+b", "1..2", "1.0-", "1_1"} {
		if v, err := ParseVersion(s); !fault.Is(err) {
			t.Errorf("%s: %s, %v", s, v, err)
		}
	}
}
