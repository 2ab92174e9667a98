package rpm

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/repotest"
)

// TestXMLBounds checks that no piece of an XML file is read into memory without an end.
func TestXMLBounds(t *testing.T) {
	const start = `<?xml version="1.0"?><metadata packages="1">`
	for name, in := range map[string]io.Reader{
		"name":        repotest.Endless(start+"<", "x"),
		"attribute":   repotest.Endless(start+`<package a="`, "xxxxxxxxxxxxxxxx"),
		"attributes":  repotest.Endless(start+`<package`, ` a="b"`),
		"text":        repotest.Endless(start+`<package><checksum type="sha256">`, "0"),
		"pieces":      repotest.Endless(start+`<package><checksum type="sha256">`, strings.Repeat("0", 1000)+"<!-- -->"),
		"comment":     repotest.Endless(start+`<!--`, "x"),
		"instruction": repotest.Endless(start+`<?x `, "x"),
		"CDATA":       repotest.Endless(start+`<![CDATA[`, "x"),
		"doctype":     repotest.Endless(`<!DOCTYPE metadata [`, `<!ENTITY x "x">`),
		"blanks":      repotest.Endless("", " "),
		"depth":       repotest.Endless(start, "<package>"),
		"declaration": repotest.Endless(`<?xml version="1.0" `, "x"),
		"UTF-16":      repotest.Endless("\xff\xfe<\x00", "x\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			err := fault.Of(ReadPrimary(in, func(string) {}, func(File) error { return nil }))
			if !fault.Is(err) || !strings.Contains(err.Error(), "longer than 1 MiB") && !strings.Contains(err.Error(), "deeper") {
				t.Error(err)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func FuzzRepomd(f *testing.F) {
	f.Add(`<repomd>` + rpmData("primary", "repodata/primary.xml.gz", "x") + `</repomd>`)
	f.Add(`<metadata packages="1">` + rpmPackage("a", 1, strings.Repeat("0", 64)) + `</metadata>`)
	f.Fuzz(func(t *testing.T, text string) {
		if m, err := ParseRepomd(strings.NewReader(text), func(string) {}); err == nil && len(m.Files) == 0 {
			t.Error("a repomd.xml that lists nothing")
		}
		_ = ReadPrimary(strings.NewReader(text), func(string) {}, func(p File) error {
			if p.Href == "" || p.Size < -1 {
				t.Errorf("%+v", p)
			}
			return nil
		})
	})
}

func rpmData(kind, href, text string) string {
	return fmt.Sprintf(`<data type="%s"><checksum type="sha256">%s</checksum><location href="%s"/><size>%d</size></data>`,
		kind, strings.Repeat("0", 64), href, len(text))
}

func rpmPackage(href string, size int, sum string) string {
	return fmt.Sprintf(`<package type="rpm"><name>x</name><checksum type="sha256" pkgid="YES">%s</checksum><summary>a &amp; b</summary>`+
		`<size package="%d" installed="1" archive="1"/><location href="%s"/><format><rpm:license>MIT</rpm:license>`+
		`<rpm:provides><rpm:entry name="size"/></rpm:provides><file>/usr/bin/x</file></format></package>`+"\n", sum, size, href)
}
