package pypi

import (
	"io"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/repotest"
)

// TestPageBounds checks that no piece of a page is read into memory without an end.
func TestPageBounds(t *testing.T) {
	const file = `{"files":[{"url":"x.zip",`
	for name, test := range map[string]struct {
		in   io.Reader
		read func(Reader, io.Reader) error
	}{
		"tag":            {repotest.Endless("<html><a href='", "x"), Reader.HTML},
		"attributes":     {repotest.Endless("<html><a", " a=b"), Reader.HTML},
		"text":           {repotest.Endless("<html>", "x"), Reader.HTML},
		"comment":        {repotest.Endless("<html><!--", "x"), Reader.HTML},
		"script":         {repotest.Endless("<html><script>", "x"), Reader.HTML},
		"string":         {repotest.Endless(`{"x":"`, "x"), readFiles},
		"name":           {repotest.Endless(`{"`, "x"), readFiles},
		"number":         {repotest.Endless(`{"x":`, "1"), readFiles},
		"blanks":         {repotest.Endless(`{"x":1`, " "), readFiles},
		"depth":          {repotest.Endless(`{"x":`, "["), readFiles},
		"depth of names": {repotest.Endless(``, `{"x":`), readFiles},
		"address":        {repotest.Endless(`{"files":[{"url":"`, "x"), readFiles},
		"size":           {repotest.Endless(file+`"size":`, "["), readFiles},
		"hash":           {repotest.Endless(file+`"hashes":{"sha256":"`, "0"), readFiles},
		"metadata":       {repotest.Endless(file+`"core-metadata":`, "["), readFiles},
		"yanked":         {repotest.Endless(file+`"yanked":"`, "x"), readFiles},
	} {
		t.Run(name, func(t *testing.T) {
			p := Reader{See: func(File) error { return nil }, Remark: func(string) {}}
			err := fault.Of(test.read(p, test.in))
			if !fault.Is(err) || !strings.Contains(err.Error(), "longer than 1 MiB") && !strings.Contains(err.Error(), "deeper") {
				t.Error(err)
			}
		})
	}
}

func readFiles(p Reader, r io.Reader) error { return p.JSON(r, "files") }

// TestUnknownJSON checks that values nobody wants take no memory, however many they are.
func TestUnknownJSON(t *testing.T) {
	const size = 64 << 20
	item := `{"x":[1,2,"` + strings.Repeat("x", 1000) + `"]},`
	in := io.MultiReader(strings.NewReader(`{"other":[`), io.LimitReader(repotest.Endless("", item), int64(size/len(item)*len(item))),
		strings.NewReader(`{}],"files":[{"url":"x.zip","more":{"a":[[{}]]}}]}`))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	peak, n := uint64(0), 0
	watch := bounded.Func(func(p []byte) (int, error) {
		if n++; n%10000 == 0 {
			runtime.ReadMemStats(&after)
			peak = max(peak, after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc))
		}
		return in.Read(p[:min(len(p), 512)])
	})
	seen := 0
	p := Reader{See: func(File) error { seen++; return nil }, Remark: func(string) {}}
	if err := p.JSON(watch, "files"); err != nil || seen != 1 {
		t.Errorf("%d files, %v", seen, err)
	}
	if peak > 16<<20 {
		t.Errorf("%d MiB of memory for a page of %d MiB", peak>>20, size>>20)
	}
}

func FuzzPage(f *testing.F) {
	f.Add(`<!DOCTYPE html><html><body><a href="../../packages/x#sha256=` + strings.Repeat("0", 64) + `" data-core-metadata="true">x</a></body></html>`)
	f.Add(`{"meta":{"api-version":"1.0"},"name":"x","files":[{"filename":"x","url":"../../packages/x","hashes":{"sha256":"` + strings.Repeat("0", 64) + `"},"size":1}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		see := func(k File) error {
			for _, root := range []string{"", "https://example.org/"} {
				name, err := Resolve("simple/x", k.URL, root, true)
				if err == nil && name != "" && !filepath.IsLocal(name) {
					t.Errorf("%q leads to %q", k.URL, name)
				}
			}
			return nil
		}
		p := Reader{See: see, Remark: func(string) {}}
		_ = p.HTML(strings.NewReader(text))
		_ = p.JSON(strings.NewReader(text), "files")
		_ = p.JSON(strings.NewReader(text), "projects")
	})
}
