package wire

import (
	"strings"
	"testing"
)

func TestParseMount(t *testing.T) {
	long := strings.Repeat("v", 1022)
	for text, want := range map[string]Mount{
		"#root.cell.":               {'#', "", "root.cell"},
		"%root.cell.":               {'%', "", "root.cell"},
		"#cell.org:vol.":            {'#', "cell.org", "vol"},
		"%cell.org:vol.readonly.":   {'%', "cell.org", "vol.readonly"},
		"#vol.backup.":              {'#', "", "vol.backup"},
		"%536870919.":               {'%', "", "536870919"},
		"#a.":                       {'#', "", "a"},
		"#" + long + ".":            {'#', "", long},
		"#my_cell-2:mirror.ubuntu.": {'#', "my_cell-2", "mirror.ubuntu"},
	} {
		got, err := ParseMount([]byte(text))
		if err != nil || got != want {
			t.Errorf("%q is %+v, %v, want %+v", text, got, err, want)
		}
		if got.String() != text {
			t.Errorf("%q reads %q again", text, got)
		}
	}
	for text, says := range map[string]string{
		"":                         "neither",
		"#":                        "dot",
		"#.":                       "volume name",
		"#vol":                     "dot",
		"#vol\n":                   "dot",
		"vol.":                     "neither",
		"../x.":                    "neither",
		"$vol.":                    "neither",
		"#:vol.":                   "cell name",
		"#cell:.":                  "volume name",
		"#cell:vol:4:5.":           "volume name",
		"#vol:4:5.":                "volume name",
		"#a/b.":                    "volume name",
		"#a/b:vol.":                "cell name",
		"#.cell:vol.":              "cell name",
		"#a b.":                    "volume name",
		"#a\x00b.":                 "volume name",
		"#vol\x00.":                "volume name",
		"#" + long + "v.":          "too long",
		"#" + long[:256] + ":vol.": "cell name",
	} {
		m, err := ParseMount([]byte(text))
		malformed(t, err, "mount point", says)
		if m != (Mount{}) {
			t.Errorf("%q is %+v", text, m)
		}
		if err != nil && len(err.Error()) > 350 {
			t.Errorf("error is %d bytes long", len(err.Error()))
		}
	}
}

func FuzzParseMount(f *testing.F) {
	for _, s := range []string{"", "#root.cell.", "%cell.org:vol.readonly.", "#vol:1:1.", "#536870919."} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := ParseMount(text)
		if err != nil {
			return
		}
		if m.String() != string(text) || m.Volume == "" || strings.ContainsAny(m.Cell+m.Volume, "/:\x00\n") {
			t.Errorf("%q is %+v", text, m)
		}
	})
}
