package gate

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

// endless reads start, and then again and again more.
func endless(start, more string) io.Reader {
	next := strings.NewReader(start)
	return readerFunc(func(p []byte) (int, error) {
		n, err := next.Read(p)
		if err == io.EOF {
			next = strings.NewReader(more)
			n, err = next.Read(p)
		}
		return n, err
	})
}

// TestXMLBounds checks that no piece of an XML file is read into memory without an end.
func TestXMLBounds(t *testing.T) {
	const start = `<?xml version="1.0"?><metadata packages="1">`
	for name, in := range map[string]io.Reader{
		"name":        endless(start+"<", "x"),
		"attribute":   endless(start+`<package a="`, "xxxxxxxxxxxxxxxx"),
		"attributes":  endless(start+`<package`, ` a="b"`),
		"text":        endless(start+`<package><checksum type="sha256">`, "0"),
		"pieces":      endless(start+`<package><checksum type="sha256">`, strings.Repeat("0", 1000)+"<!-- -->"),
		"comment":     endless(start+`<!--`, "x"),
		"instruction": endless(start+`<?x `, "x"),
		"CDATA":       endless(start+`<![CDATA[`, "x"),
		"doctype":     endless(`<!DOCTYPE metadata [`, `<!ENTITY x "x">`),
		"blanks":      endless("", " "),
		"depth":       endless(start, "<package>"),
		"declaration": endless(`<?xml version="1.0" `, "x"),
		"UTF-16":      endless("\xff\xfe<\x00", "x\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			err := spoilt(readPrimary(in, func(string) {}, func(rpmFile) error { return nil }))
			if !errors.As(err, new(*fileError)) || !strings.Contains(err.Error(), "longer than 1 MiB") && !strings.Contains(err.Error(), "deeper") {
				t.Error(err)
			}
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

// TestRpmRemarks checks that an operator can read what is off.
func TestRpmRemarks(t *testing.T) {
	repo := newRpmRepo(t)
	repo.count = 9
	repo.add("/Packages/a/../b/b-1.rpm", "package b")
	repo.write(repo.whole())
	r := newRun(t, repo.dir)
	var out bytes.Buffer
	r.Out = &out
	passes(t, new(Rpm), r)
	for _, want := range []string{
		"gate rpm: note: 9/BaseOS/repodata/primary.xml.gz: does not say rightly",
		"names that begin with a slash",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	out.Reset()
	repo = newRpmRepo(t)
	repo.write(repo.whole())
	r = newRun(t, repo.dir)
	r.Out = &out
	passes(t, new(Rpm), r)
	if out.Len() > 0 {
		t.Errorf("noted of a repository that is as it should be:\n%s", out.String())
	}
}
