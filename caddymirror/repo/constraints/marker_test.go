package constraints

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
)

var markers = []struct {
	text string
	want bool
}{
	{"python_version=='3.11'", true},
	{"python_version >= \"3.9\"", true}, // no text: 3.11 < 3.9 there
	{"python_version<'3.9'", false},
	{"'3.9' <= python_version", true},
	{"python_version != '3.11'", false},
	{"python_version ~= '3.10'", true},
	{"python_version == '3.*'", true},
	{"python_version != '2.*'", true},
	{"python_version === '3.11'", true},
	{"python_version in '3.10 3.11'", true},
	{"python_version not in '2.7, 3.4'", true},
	{"python_full_version > '3.11.1'", true},
	{"python_full_version < '3.11.2rc1'", false},
	{"sys_platform=='win32'", false},
	{"sys.platform == 'linux'", true},
	{"sys_platform >= 'linux'", true},
	{"os_name=='posix' and platform_system!='Windows'", true},
	{"os_name=='nt' or platform_machine=='x86_64' and python_version>='3.12'", false},
	{"(os_name=='nt' or platform_machine=='x86_64') and python_version<'3.12'", true},
	{"os_name=='nt' and os_name=='nt' or os_name=='posix'", true},
	{"extra == 'test'", false},
	{"'linux' in sys_platform", true},
	{"platform_python_implementation != 'PyPy'", true},
	{"python_implementation == \"CPython\"", true},
	{"implementation_name=='cpython'and(python_version<'4')", true},
	{"'SMP' in platform_version", true},
}

func TestMarkers(t *testing.T) {
	// Pips differ here. By PEP 508 a release that is no version is compared as a text.
	if m, err := ParseMarker("platform_release >= '5'"); err != nil || !m.Holds(debian) {
		t.Errorf("a text: %v", err)
	}
	for _, c := range markers {
		m, err := ParseMarker(c.text)
		if err != nil || m.Holds(debian) != c.want {
			t.Errorf("%s: %v, %v", c.text, m.Holds(debian), err)
		}
	}
}

// TestMarkersAsPip: pip says the same of all of them.
func TestMarkersAsPip(t *testing.T) {
	const script = `
import json, sys
from pip._vendor.packaging.markers import Marker
asked = json.load(sys.stdin)
json.dump([Marker(m).evaluate(asked["environment"]) for m in asked["markers"]], sys.stdout)`
	var texts []string
	for _, c := range markers {
		texts = append(texts, c.text)
	}
	asked, err := json.Marshal(map[string]any{"environment": debian, "markers": texts})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", script)
	cmd.Stdin = bytes.NewReader(asked)
	out, err := cmd.Output()
	if err != nil {
		t.Skip("no Python with pip: ", err)
	}
	var said []bool
	if err := json.Unmarshal(out, &said); err != nil {
		t.Fatal(err)
	}
	for i, c := range markers {
		if said[i] != c.want {
			t.Errorf("%s: pip says %v", c.text, said[i])
		}
	}
}

func TestVersions(t *testing.T) {
	for line, want := range map[string]string{
		"a==1.0":          "a==1.0",
		"A.b_c===1.0":     "a-b-c==1.0",
		"a==v1.0-ALPHA_1": "a==1.0a1",
		"a==1.0-1":        "a==1.0.post1",
		"a==1!2.0+Ab_c-1": "a==1!2.0+ab.c.1",
		"a===2013-x":      "a==2013-x",
		"a==1.*":          "a==1.*",
		"a>=2,<3":         "a<3,>=2",
		"a":               "a",
	} {
		r, err := Parse(line)
		if err != nil || r.Key() != want {
			t.Errorf("%s is %s, %v", line, r.Key(), err)
		}
	}
	for line, versions := range map[string]string{ // what is allowed, and after | what is not
		"a":            "1 2.0.post1|3a1 4.dev0 x",
		"a>=1.5,<2":    "1.5 1.9|1 2 2.0a1 1.8rc1",
		"a>=2.0b1":     "2.0b1 2 3rc1|1",
		"a==1.*":       "1 1.5|1.6a1 2",
		"a!=1.5":       "1 2|1.5 2a1",
		"a===weird":    "weird|1",
		"a===1.0a1":    "1.0a1|1.0",
		"a~=1.4.2":     "1.4.2 1.4.9|1.5",
		"a==1.0":       "1.0 1|1.1",
		"a==1.0+local": "1.0+local|1.0",
	} {
		r, err := Parse(line)
		if err != nil {
			t.Fatal(err)
		}
		yes, no, _ := strings.Cut(versions, "|")
		for v := range strings.FieldsSeq(yes) {
			if !r.Allows(v) {
				t.Errorf("%s does not allow %s", line, v)
			}
		}
		for v := range strings.FieldsSeq(no) {
			if r.Allows(v) {
				t.Errorf("%s allows %s", line, v)
			}
		}
	}
}
