package gate

import (
	"bytes"
	"compress/gzip"
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

// TestUnpackedBound checks that what is small when packed is not unpacked without an end.
func TestUnpackedBound(t *testing.T) {
	for name, test := range map[string]struct {
		size int64
		ok   bool
	}{"as much": {100, true}, "more": {101, false}, "endless": {1 << 62, false}} {
		t.Run(name, func(t *testing.T) {
			n, err := io.Copy(io.Discard, bounded(io.LimitReader(endless("", "x"), test.size), 100))
			if (err == nil) != test.ok || n > 101 {
				t.Errorf("%d bytes, %v", n, err)
			}
			if err = spoilt(err); err != nil && (!errors.As(err, new(*fileError)) || !strings.Contains(err.Error(), "more than 100 B in it when it is unpacked")) {
				t.Error(err)
			}
		})
	}
	// A bomb in primary.xml.gz.
	bomb := func(w io.Writer, start string) {
		z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.WriteString(z, start)
		blanks := bytes.Repeat([]byte(" "), 1<<20)
		for n := 0; n < 64 && err == nil; n++ {
			_, err = z.Write(blanks)
		}
		if err := errors.Join(err, z.Close()); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	bomb(&b, `<metadata packages="0">`)
	repo := newRpmRepo(t)
	repo.write(b.String())
	start := time.Now()
	fails(t, new(Rpm), newRun(t, repo.dir), "9/BaseOS/repodata/primary.xml.gz", "a piece of it is longer than 1 MiB")
	t.Logf("%v", time.Since(start))
}

// TestListedBound checks that indexes can not list files until memory is full.
func TestListedBound(t *testing.T) {
	for _, most := range []int{2, 5} {
		repo := newRpmRepo(t)
		repo.write(repo.whole())
		r := newRun(t, repo.dir)
		root, err := openTree(r)
		if err != nil {
			t.Fatal(err)
		}
		defer root.close()
		c := rpmCheck{Rpm: new(Rpm), repositories: repositories{gate: "rpm", ctx: t.Context(), t: root, last: new(record), now: newRecord(r), progress: newProgress(t.Context(), r, "rpm")}}
		c.files = newListed(t.Context(), root, false, &c.found)
		c.files.most = most
		if err := c.files.end(c.run()); err != nil {
			t.Fatal(err)
		}
		err = c.found.err("rpm")
		if most == 5 && err != nil || most == 2 && (err == nil || !strings.Contains(err.Error(), "lists more files than a tree may have in its indexes together, 2")) {
			t.Errorf("%d: %v", most, err)
		}
	}
}

// TestLinksBound checks that pages can not list files until memory is full.
func TestLinksBound(t *testing.T) {
	dir := t.TempDir()
	pypiProject(t, dir, "simple/foo", "foo-1.zip", "foo-2.zip", "foo-3.zip")
	root, err := openTree(newRun(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	defer root.close()
	for _, most := range []int{2, 3} {
		c := &pypiCheck{Pypi: new(Pypi), t: root, web: "."}
		cur := cursor{t: root}
		defer cur.close()
		l := pypiLook{pypiCheck: c, cur: &cur, p: &project{name: "foo", key: "foo"}, refs: map[string]int{}, most: most}
		l.has.files = map[string]projectFile{}
		if err := l.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := c.found.err("pypi")
		if most == 3 && err != nil || most == 2 && (err == nil || !strings.Contains(err.Error(), "simple/foo/index.html: lists more files than a project may have, 2")) {
			t.Errorf("%d: %v", most, err)
		}
	}
}
