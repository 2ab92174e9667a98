package cells

import (
	"strings"
	"testing"
)

func TestValidName(t *testing.T) {
	label := strings.Repeat("x", 63)
	long := strings.Join([]string{label, label, label, strings.Repeat("x", 41)}, ".")
	for _, name := range []string{"example.org", "a", "my_cell-2.Example.ORG", "1.2.3.4", label, long} {
		if !ValidName(name) {
			t.Errorf("%q is no name", name)
		}
		if _, err := newQuestion(srvPrefix+name, 1); err != nil {
			t.Errorf("%q cannot be asked for: %v", name, err)
		}
	}
	for _, name := range []string{
		"", ".", ".org", "example.org.", "a..b", "a b", "a/b", "a:b", "ä.org", "a\x00", "*", label + "x", long + "x",
	} {
		if ValidName(name) {
			t.Errorf("%q is a name", name)
		}
	}
}
