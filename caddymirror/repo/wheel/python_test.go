package wheel

import (
	"encoding/json"
	"os/exec"
	"testing"
)

// TestMetadataAsPython reads the METADATA of all that is installed here for Python, and
// compares with what Python reads.
func TestMetadataAsPython(t *testing.T) {
	const script = `
import email.parser, glob, json, os, sysconfig
found = []
for name in glob.glob(os.path.join(sysconfig.get_path("purelib"), "*.dist-info", "METADATA")):
    text = open(name, encoding="utf-8").read()
    m = email.parser.Parser().parsestr(text)
    found.append({"file": name, "text": text, "want": [m["Name"], m["Version"], m["Requires-Python"] or ""]})
print(json.dumps(found))
`
	out, err := exec.CommandContext(t.Context(), "python3", "-c", script).Output()
	if err != nil {
		t.Skipf("asking Python: %v", err)
	}
	var found []struct {
		File, Text string
		Want       [3]string
	}
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Skip("nothing is installed")
	}
	for _, f := range found {
		m, err := parseMetadata([]byte(f.Text))
		if got := [3]string{m.Name, m.Version, m.RequiresPython}; err != nil || got != f.Want {
			t.Errorf("%s: %q, %v, want %q", f.File, got, err, f.Want)
		}
		if v, err := ParseVersion(m.Version); err != nil || v.String() == "" {
			t.Errorf("%s: version %s: %v", f.File, m.Version, err)
		}
	}
	t.Logf("%d distributions", len(found))
}
