package gate

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"
)

// endless reads start, and then again and again more.
func endless(start, more string) io.Reader {
	next := start
	return readerFunc(func(p []byte) (n int, err error) {
		for n < len(p) {
			if next == "" {
				next = more
			}
			m := copy(p[n:], next)
			n, next = n+m, next[m:]
		}
		return n, nil
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

// TestPageBounds checks that no piece of a page is read into memory without an end.
func TestPageBounds(t *testing.T) {
	const file = `{"files":[{"url":"x.zip",`
	for name, test := range map[string]struct {
		in   io.Reader
		read func(page, io.Reader) error
	}{
		"tag":            {endless("<html><a href='", "x"), page.html},
		"attributes":     {endless("<html><a", " a=b"), page.html},
		"text":           {endless("<html>", "x"), page.html},
		"comment":        {endless("<html><!--", "x"), page.html},
		"script":         {endless("<html><script>", "x"), page.html},
		"string":         {endless(`{"x":"`, "x"), readFiles},
		"name":           {endless(`{"`, "x"), readFiles},
		"number":         {endless(`{"x":`, "1"), readFiles},
		"blanks":         {endless(`{"x":1`, " "), readFiles},
		"depth":          {endless(`{"x":`, "["), readFiles},
		"depth of names": {endless(``, `{"x":`), readFiles},
		"address":        {endless(`{"files":[{"url":"`, "x"), readFiles},
		"size":           {endless(file+`"size":`, "["), readFiles},
		"hash":           {endless(file+`"hashes":{"sha256":"`, "0"), readFiles},
		"metadata":       {endless(file+`"core-metadata":`, "["), readFiles},
		"yanked":         {endless(file+`"yanked":"`, "x"), readFiles},
	} {
		t.Run(name, func(t *testing.T) {
			p := page{see: func(link) error { return nil }, remark: func(string) {}}
			err := spoilt(test.read(p, test.in))
			if !errors.As(err, new(*fileError)) || !strings.Contains(err.Error(), "longer than 1 MiB") && !strings.Contains(err.Error(), "deeper") {
				t.Error(err)
			}
		})
	}
}

func readFiles(p page, r io.Reader) error { return p.json(r, "files") }

// TestUnknownJSON checks that values nobody wants take no memory, however many they are.
func TestUnknownJSON(t *testing.T) {
	const size = 64 << 20
	item := `{"x":[1,2,"` + strings.Repeat("x", 1000) + `"]},`
	in := io.MultiReader(strings.NewReader(`{"other":[`), io.LimitReader(endless("", item), int64(size/len(item)*len(item))),
		strings.NewReader(`{}],"files":[{"url":"x.zip","more":{"a":[[{}]]}}]}`))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	peak, n := uint64(0), 0
	watch := readerFunc(func(p []byte) (int, error) {
		if n++; n%10000 == 0 {
			runtime.ReadMemStats(&after)
			peak = max(peak, after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc))
		}
		return in.Read(p[:min(len(p), 512)])
	})
	seen := 0
	p := page{see: func(link) error { seen++; return nil }, remark: func(string) {}}
	if err := p.json(watch, "files"); err != nil || seen != 1 {
		t.Errorf("%d files, %v", seen, err)
	}
	if peak > 16<<20 {
		t.Errorf("%d MiB of memory for a page of %d MiB", peak>>20, size>>20)
	}
}
