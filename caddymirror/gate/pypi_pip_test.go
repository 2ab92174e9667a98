package gate

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
)

// pipClient is a process of pip, which is asked by the address of an index.
type pipClient struct {
	in      io.Writer
	out     *bufio.Reader
	version string // "23.2"
}

// pipsDiffer are the pips that were asked, beside 23.2, and what they say otherwise. The
// older does not read metadata that are beside a file.
var pipsDiffer = map[string][]string{
	"23.2": nil,
	"23.0": {
		"sum two, first right", "sum glued", "sum in query", "metadata true, none", "metadata empty, none", "metadata false, none",
		"metadata TRUE, none", "metadata x, none", "metadata sum differs", "metadata sum bad", "metadata sum upper", "metadata with query",
		"json metadata true, none", "json metadata {}, none", "json metadata sum, none", "json metadata sum differs", "json metadata sum bad",
		"json metadata sum null", "json metadata string, none", "json metadata number, none", "json metadata list, none",
		"json metadata false, old true, none",
	},
	"24.2": {"sum upper", "metadata sum upper", "legacy version", "bad version", "json hash upper", "json deep 5000"},
}

// compare fails the test if pip says otherwise than it should, and is one that was asked
// when the table was written.
func (p *pipClient) compare(t *testing.T, name string, err error, ok bool) {
	t.Helper()
	differ, known := pipsDiffer[p.version]
	switch {
	case (err == nil) == ok:
	case known && !slices.Contains(differ, name):
		t.Errorf("pip says %v", err)
	default:
		t.Logf("pip %s says %v", p.version, err)
	}
}

// newPip starts pip. It returns nil if that is not installed.
func newPip(t testing.TB) *pipClient {
	if exec.Command("python3", "-m", "pip", "--version").Run() != nil {
		t.Log("pip is not installed, and not asked")
		return nil
	}
	cmd := exec.Command("python3", "testdata/ask_pip.py")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	p := &pipClient{in: in, out: bufio.NewReader(out)}
	version, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatalf("pip does not start: %v", err)
	}
	t.Log(strings.TrimSpace(version))
	if words := strings.Fields(version); len(words) > 1 { // "pip 23.2.1 of Python 3.11.7"
		parts := strings.SplitN(words[1], ".", 3)
		p.version = strings.Join(parts[:min(len(parts), 2)], ".")
	}
	return p
}

// ask returns nil if pip finds and downloads foo.
func (p *pipClient) ask(t testing.TB, what string) error {
	if _, err := fmt.Fprintln(p.in, what); err != nil {
		t.Fatal(err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if line = strings.TrimSpace(line); line != "ok" {
		return errors.New(line)
	}
	return nil
}

type oddPypi struct {
	dir      string
	file, at string // the file, and where it is
	attrs    string // of the link
	href     string
	sum      string // "#sha256=..."
	head     string
	edit     func(string) string
	json     bool
	find     bool
	extra    string
}

const fooWheel = "foo-1.0-py3-none-any.whl"

// TestPypiAsPip asks pip and the gate of odd pages. Where there is no pip, what it said
// (23.2.1) stands in the table.
func TestPypiAsPip(t *testing.T) {
	client := newPip(t)
	w := wheel.Wheel{Name: "foo", Version: "1.0", Files: map[string]string{"foo.py": "x = 1\n"}}
	var built bytes.Buffer
	if _, err := w.WriteTo(&built); err != nil {
		t.Fatal(err)
	}
	file := built.String()
	sum := sum256(file)
	rep := func(from, to string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, from) {
				panic(from + " is not in " + s)
			}
			return strings.Replace(s, from, to, 1)
		}
	}
	href := func(h, at string) func(*oddPypi) { return func(o *oddPypi) { o.href, o.at = h, at } }
	name := func(n string) func(*oddPypi) {
		return func(o *oddPypi) { o.href, o.at, o.find = "../../packages/"+n, "packages/"+n, true }
	}
	const meta = "Metadata-Version: 2.1\nName: foo\nVersion: 1.0\n"
	js := func(f func(*oddPypi)) func(*oddPypi) { return func(o *oddPypi) { o.json = true; f(o) } }
	jrep := func(from, to string) func(*oddPypi) {
		return func(o *oddPypi) { o.json = true; o.edit = rep(from, to) }
	}
	cases := []struct {
		name string
		make func(*oddPypi)
		ok   bool   // what pip says
		why  string // the gate says otherwise
	}{
		{"whole", func(o *oddPypi) {}, true, ""},
		{"upper", func(o *oddPypi) {
			o.edit = func(s string) string {
				return strings.Replace(strings.Replace(s, "<a ", "<A ", 1), "href=", "HREF=", 1)
			}
		}, true, ""},
		{"unquoted", func(o *oddPypi) {
			o.edit = func(s string) string {
				i := strings.Index(s, `href="`)
				s = s[:i] + s[i:]
				j := strings.Index(s[i+6:], `"`) + i + 6
				return s[:i] + "href=" + s[i+6:j] + s[j+1:]
			}
		}, true, ""},
		{"single quotes", func(o *oddPypi) {
			o.edit = func(s string) string {
				i := strings.Index(s, `href="`)
				j := strings.Index(s[i+6:], `"`) + i + 6
				return s[:i] + "href='" + s[i+6:j] + "'" + s[j+1:]
			}
		}, true, ""},
		{"blanks around =", func(o *oddPypi) { o.edit = rep(`href="`, "href = \n \"") }, true, ""},
		{"entities", href("..&#x2f;..&#47;packages&sol;foo-1.0-py3-none-any.whl", "packages/"+fooWheel), true, ""},
		{"entity without ;", href("../../packages/x&ampy/"+fooWheel, "packages/x&y/"+fooWheel), true, "HTML has it otherwise in attributes"},
		{"bare &", href("../../packages/x&y/"+fooWheel, "packages/x&y/"+fooWheel), true, ""},
		{"bare & of an entity", href("../../packages/x&copy/"+fooWheel, "packages/x©/"+fooWheel), true, ""},
		{"blank before", href("  ../../packages/"+fooWheel, "packages/"+fooWheel), true, ""},
		{"newline before", href("\n../../packages/"+fooWheel, "packages/"+fooWheel), true, ""},
		{"blank after", func(o *oddPypi) { o.sum += "  " }, false, ""},
		{"newline after", func(o *oddPypi) { o.sum += "\n" }, true, ""},
		{"blank after no sum", func(o *oddPypi) { o.sum = "  " }, false, ""},
		{"newline after no sum", func(o *oddPypi) { o.sum = "\n" }, true, ""},
		{"newline inside", href("../../pack\nages/"+fooWheel, "packages/"+fooWheel), true, ""},
		{"tab inside", href("../../pack\tages/"+fooWheel, "packages/"+fooWheel), true, ""},
		{"control inside", href("../../pack\x01ages/"+fooWheel, "packages/"+fooWheel), false, ""},
		{"space inside", href("../../a b/"+fooWheel, "a b/"+fooWheel), true, ""},
		{"space encoded", href("../../a%20b/"+fooWheel, "a b/"+fooWheel), true, ""},
		{"plus", href("../../a+b/"+fooWheel, "a+b/"+fooWheel), true, ""},
		{"plus encoded", href("../../a%2bb/"+fooWheel, "a+b/"+fooWheel), true, ""},
		{"percent bad", href("../../a%zz/"+fooWheel, "a%zz/"+fooWheel), true, ""},
		{"percent at end", href("../../a%/"+fooWheel, "a%/"+fooWheel), true, ""},
		{"percent encoded", href("../../a%25/"+fooWheel, "a%/"+fooWheel), true, ""},
		{"double encoded", href("../../a%252b/"+fooWheel, "a%2b/"+fooWheel), true, ""},
		{"encoded slash", href("../../packages%2f"+fooWheel, "packages/"+fooWheel), true, ""},
		{"encoded dots", href("%2e%2e/%2e%2e/packages/"+fooWheel, "packages/"+fooWheel), true, ""},
		{"encoded NUL", href("../../a%00/"+fooWheel, "a/"+fooWheel), false, ""},
		{"at sign", href("../../a@b/"+fooWheel, "a@b/"+fooWheel), true, ""},
		{"colon in path", href("../../a:b/"+fooWheel, "a:b/"+fooWheel), true, ""},
		{"colon first", href("a:b/"+fooWheel, "simple/foo/a:b/"+fooWheel), false, ""},
		{"semicolon", href("../../a;b/"+fooWheel, "a;b/"+fooWheel), true, ""},
		{"utf8", href("../../ä/"+fooWheel, "ä/"+fooWheel), true, ""},
		{"utf8 encoded", href("../../%c3%a4/"+fooWheel, "ä/"+fooWheel), true, ""},
		{"backslash", href("..\\..\\packages\\"+fooWheel, "packages/"+fooWheel), false, ""},
		{"double slash", href("../../packages//"+fooWheel, "packages/"+fooWheel), true, ""},
		{"dot", href("./../.././packages/./"+fooWheel, "packages/"+fooWheel), true, ""},
		{"none/..", href("none/../../../packages/"+fooWheel, "packages/"+fooWheel), true, ""},
		{"out", href("../../../"+fooWheel, fooWheel), false, ""},
		{"out and in", href("../../../mirror/packages/"+fooWheel, "packages/"+fooWheel), true, "it hangs on where the mirror is"},
		{"host-absolute", href("/packages/"+fooWheel, "packages/"+fooWheel), false, ""},
		{"elsewhere", href("http://127.0.0.1:1/packages/"+fooWheel, "packages/"+fooWheel), false, ""},
		{"query", href("../../packages/"+fooWheel+"?x=y", "packages/"+fooWheel), true, ""},
		{"beside page", href(fooWheel, "simple/foo/"+fooWheel), true, ""},
		{"file scheme", href("file:///packages/"+fooWheel, "packages/"+fooWheel), false, ""},
		{"no sum", func(o *oddPypi) { o.sum = "" }, true, ""},
		{"sum upper", func(o *oddPypi) { o.sum = "#sha256=" + strings.ToUpper(sum) }, false, ""},
		{"sum kind upper", func(o *oddPypi) { o.sum = "#SHA256=" + sum }, true, ""},
		{"sum kind upper wrong", func(o *oddPypi) { o.sum = "#SHA256=" + sum256("x") }, true, ""},
		{"sum differs", func(o *oddPypi) { o.sum = "#sha256=" + sum256("x") }, false, ""},
		{"sum short", func(o *oddPypi) { o.sum = "#sha256=" + sum[:20] }, false, ""},
		{"sum no hex", func(o *oddPypi) { o.sum = "#sha256=zz" }, false, ""},
		{"sum empty", func(o *oddPypi) { o.sum = "#sha256=" }, true, ""},
		{"sum unknown", func(o *oddPypi) { o.sum = "#blake2b=zz" }, true, ""},
		{"sum after egg", func(o *oddPypi) { o.sum = "#egg=foo&amp;sha256=" + sum256("x") }, false, ""},
		{"sum after other", func(o *oddPypi) { o.sum = "#x=y&amp;sha256=" + sum }, true, ""},
		{"sum two, first right", func(o *oddPypi) { o.sum = "#sha256=" + sum + "&amp;md5=" + strings.Repeat("0", 32) }, true, ""},
		{"sum two, last right", func(o *oddPypi) { o.sum = "#md5=" + strings.Repeat("0", 32) + "&amp;sha256=" + sum }, false, ""},
		{"sum glued", func(o *oddPypi) { o.sum = "#xsha256=" + sum256("x") }, true, ""},
		{"sum md5", func(o *oddPypi) { o.sum = "#md5=" + strings.Repeat("0", 32) }, false, ""},
		{"sum sha224", func(o *oddPypi) { o.sum = "#sha224=" + strings.Repeat("0", 56) }, false, ""},
		{"sum in query", func(o *oddPypi) { o.sum = "?sha256=" + sum256("x") }, true, ""},
		{"sum in query amp", func(o *oddPypi) { o.sum = "?x&amp;sha256=" + sum256("x") }, false, ""},
		{"sum in path", href("../../a&sha256=00/"+fooWheel, "a&sha256=00/"+fooWheel), true, ""},
		{"base relative", func(o *oddPypi) { o.head = `<base href="../../packages/">`; o.href = fooWheel }, false, ""},
		{"base relative, absolute link", func(o *oddPypi) { o.head = `<base href="../../none/">` }, false, ""},
		{"base host-absolute", func(o *oddPypi) { o.head = `<base href="/mirror/packages/">`; o.href = fooWheel }, false, ""},
		{"base whole", func(o *oddPypi) { o.head = `<base href="{URL}packages/">`; o.href = fooWheel }, true, ""},
		{"base whole, of a file", func(o *oddPypi) { o.head = `<base href="{URL}packages/index.html?x/y#z/">`; o.href = fooWheel }, true, ""},
		{"base whole, ..", func(o *oddPypi) { o.head = `<base href="{URL}simple/foo/">` }, true, ""},
		{"base elsewhere", func(o *oddPypi) { o.head = `<base href="http://127.0.0.1:1/">` }, false, ""},
		{"base empty", func(o *oddPypi) { o.head = `<base href="">` }, true, ""},
		{"base dot", func(o *oddPypi) { o.head = `<base href=".">` }, false, ""},
		{"base ./", func(o *oddPypi) { o.head = `<base href="./">` }, false, ""},
		{"base no href", func(o *oddPypi) { o.head = `<base target="x">` }, true, ""},
		{"base two", func(o *oddPypi) { o.head = `<base href="{URL}simple/foo/"><base href="http://127.0.0.1:1/">` }, true, ""},
		{"base two other", func(o *oddPypi) { o.head = `<base href="http://127.0.0.1:1/"><base href="{URL}simple/foo/">` }, false, ""},
		{"base empty, then whole", func(o *oddPypi) { o.head = `<base href=""><base href="http://127.0.0.1:1/">` }, true, ""},
		{"base two hrefs", func(o *oddPypi) { o.head = `<base href="{URL}simple/foo/" href="http://127.0.0.1:1/">` }, true, ""},
		{"base late", func(o *oddPypi) { o.edit = rep("</body>", `<base href="{URL}packages/"></body>`); o.href = fooWheel }, true, "nobody writes that"},
		{"base late elsewhere", func(o *oddPypi) { o.edit = rep("</body>", `<base href="http://127.0.0.1:1/"></body>`) }, false, ""},
		{"base entity", func(o *oddPypi) { o.head = `<base href="{URL}pack&#97;ges/">`; o.href = fooWheel }, true, ""},
		{"base blank", func(o *oddPypi) { o.head = `<base href=" {URL}packages/ ">`; o.href = fooWheel }, true, ""},
		{"no doctype", func(o *oddPypi) { o.edit = rep("<!DOCTYPE html>\n", "") }, true, ""},
		{"no html", func(o *oddPypi) {
			o.edit = func(s string) string { i := strings.Index(s, "<a "); return s[i:strings.Index(s, "<br/>\n</body>")] }
		}, true, ""},
		{"html not closed", func(o *oddPypi) { o.edit = rep("</html>", "") }, true, "it is taken for cut off"},
		{"cut off", func(o *oddPypi) { o.edit = func(s string) string { return s[:strings.Index(s, "</a>")] } }, true, "it has no end"},
		{"cut off in tag", func(o *oddPypi) { o.edit = func(s string) string { return s[:strings.Index(s, "sha256")] } }, false, ""},
		{"cut off in comment", func(o *oddPypi) { o.edit = rep("<body>", "<body><!-- ") }, false, ""},
		{"in title", func(o *oddPypi) {
			o.edit = func(s string) string {
				return strings.Replace(strings.Replace(s, "<a ", "<title><a ", 1), "</a>", "</a></title>", 1)
			}
		}, true, ""},
		{"in textarea", func(o *oddPypi) {
			o.edit = func(s string) string {
				return strings.Replace(strings.Replace(s, "<a ", "<textarea><a ", 1), "</a>", "</a></textarea>", 1)
			}
		}, true, ""},
		{"in noscript", func(o *oddPypi) {
			o.edit = func(s string) string {
				return strings.Replace(strings.Replace(s, "<a ", "<noscript><a ", 1), "</a>", "</a></noscript>", 1)
			}
		}, true, ""},
		{"in iframe", func(o *oddPypi) {
			o.edit = func(s string) string {
				return strings.Replace(strings.Replace(s, "<a ", "<iframe><a ", 1), "</a>", "</a></iframe>", 1)
			}
		}, true, ""},
		{"in xmp", func(o *oddPypi) {
			o.edit = func(s string) string {
				return strings.Replace(strings.Replace(s, "<a ", "<xmp><a ", 1), "</a>", "</a></xmp>", 1)
			}
		}, true, ""},
		{"after plaintext", func(o *oddPypi) { o.edit = rep("<a ", "<plaintext><a ") }, true, ""},
		{"latin1 bytes", func(o *oddPypi) { o.edit = rep("</title>", "\xe4</title>") }, false, ""},
		{"BOM", func(o *oddPypi) { o.edit = func(s string) string { return "\ufeff" + s } }, true, ""},
		{"utf16", func(o *oddPypi) { o.edit = utf16le }, false, ""},
		{"meta charset latin1", func(o *oddPypi) { o.head = `<meta charset="iso-8859-1">`; o.edit = rep("</title>", "\xe4</title>") }, false, ""},
		{"NUL", func(o *oddPypi) { o.edit = rep("</title>", "\x00</title>") }, true, ""},
		{"api version 2", func(o *oddPypi) { o.head = `<meta name="pypi:repository-version" content="2.0">` }, true, ""},
		{"api version 1.9", func(o *oddPypi) { o.head = `<meta name="pypi:repository-version" content="1.9">` }, true, ""},
		{"metadata true, none", func(o *oddPypi) { o.attrs = `data-core-metadata="true"` }, false, ""},
		{"metadata true", func(o *oddPypi) {
			o.attrs = `data-core-metadata="true"`
			put(t, o.dir, "packages/"+fooWheel+".metadata", meta)
		}, true, ""},
		{"metadata old true, none", func(o *oddPypi) { o.attrs = `data-dist-info-metadata="true"` }, false, ""},
		{"metadata no value, none", func(o *oddPypi) { o.attrs = `data-core-metadata` }, true, "HTML does not tell it from an empty value"},
		{"metadata empty, none", func(o *oddPypi) { o.attrs = `data-core-metadata=""` }, false, ""},
		{"metadata false, none", func(o *oddPypi) { o.attrs = `data-core-metadata="false"` }, false, ""},
		{"metadata TRUE, none", func(o *oddPypi) { o.attrs = `data-core-metadata="TRUE"` }, false, ""},
		{"metadata x, none", func(o *oddPypi) { o.attrs = `data-core-metadata="x"` }, false, ""},
		{"metadata sum", func(o *oddPypi) {
			o.attrs = `data-core-metadata="sha256=` + sum256(meta) + `"`
			put(t, o.dir, "packages/"+fooWheel+".metadata", meta)
		}, true, ""},
		{"metadata sum differs", func(o *oddPypi) {
			o.attrs = `data-core-metadata="sha256=` + sum256("x") + `"`
			put(t, o.dir, "packages/"+fooWheel+".metadata", meta)
		}, false, ""},
		{"metadata sum bad", func(o *oddPypi) {
			o.attrs = `data-core-metadata="sha256=zz"`
			put(t, o.dir, "packages/"+fooWheel+".metadata", meta)
		}, false, ""},
		{"metadata sum unknown", func(o *oddPypi) {
			o.attrs = `data-core-metadata="blake=zz"`
			put(t, o.dir, "packages/"+fooWheel+".metadata", meta)
		}, true, ""},
		{"metadata sum upper", func(o *oddPypi) {
			o.attrs = `data-core-metadata="sha256=` + strings.ToUpper(sum256(meta)) + `"`
			put(t, o.dir, "packages/"+fooWheel+".metadata", meta)
		}, false, ""},
		{"metadata two", func(o *oddPypi) { o.attrs = `data-core-metadata="false" data-dist-info-metadata="true"` }, false, ""},
		{"metadata empty, old true", func(o *oddPypi) { o.attrs = `data-core-metadata data-dist-info-metadata="true"` }, false, ""},
		{"metadata with query", func(o *oddPypi) {
			o.attrs = `data-core-metadata="true"`
			o.href = "../../packages/" + fooWheel + "?x=y"
			put(t, o.dir, "packages/"+fooWheel+".metadata", meta)
		}, false, ""},
		{"yanked", func(o *oddPypi) { o.attrs = `data-yanked="x"` }, false, "the file is there, though pip does not choose it"},
		{"requires-python", func(o *oddPypi) { o.attrs = `data-requires-python="&gt;=3"` }, true, ""},
		{"tar.gz", name("foo-1.0.tar.gz"), true, ""},
		{"zip", name("foo-1.0.zip"), true, ""},
		{"tar.bz2", name("foo-1.0.tar.bz2"), true, ""},
		{"tgz", name("foo-1.0.tgz"), true, ""},
		{"tar.xz", name("foo-1.0.tar.xz"), true, ""},
		{"tar.Z", name("foo-1.0.tar.Z"), false, "the file is there, though pip does not choose it"},
		{"tar", name("foo-1.0.tar"), true, ""},
		{"TAR.GZ", name("foo-1.0.TAR.GZ"), false, "the file is there, though pip does not choose it"},
		{"egg", name("foo-1.0-py3.11.egg"), false, "the file is there, though pip does not choose it"},
		{"exe", name("foo-1.0.win32.exe"), false, "the file is there, though pip does not choose it"},
		{"upper name", name("Foo-1.0.tar.gz"), true, ""},
		{"other name", name("bar-1.0.tar.gz"), false, "the file is there, though pip does not choose it"},
		{"no version", name("foo.tar.gz"), false, "the file is there, though pip does not choose it"},
		{"legacy version", name("foo-1.0-final-x.tar.gz"), true, ""},
		{"bad version", name("foo-x.y.z.tar.gz"), true, ""},
		{"wheel bad name", name("foo-1.0.whl"), false, "the file is there, though pip does not choose it"},
		{"wheel build", name("foo-1.0-1-py3-none-any.whl"), true, ""},
		{"wheel other name", name("bar-1.0-py3-none-any.whl"), false, "the file is there, though pip does not choose it"},
		{"wheel other platform", name("foo-1.0-py3-none-win32.whl"), false, "the file is there, though pip does not choose it"},
		{"asc", name("foo-1.0.tar.gz.asc"), false, "the file is there, though pip does not choose it"},
		{"and a directory", func(o *oddPypi) { o.extra = `<a href="../">..</a>` }, true, ""},
		{"and a fragment", func(o *oddPypi) { o.extra = `<a href="#x">..</a>` }, true, ""},
		{"and nothing", func(o *oddPypi) { o.extra = `<a href="">..</a>` }, true, ""},
		{"and no href", func(o *oddPypi) { o.extra = `<a name="x">..</a>` }, true, ""},
		{"and href without value", func(o *oddPypi) { o.extra = `<a href>..</a>` }, true, ""},
		{"and mail", func(o *oddPypi) { o.extra = `<a href="mailto:x@example.org">..</a>` }, true, ""},
		{"and home page", func(o *oddPypi) { o.extra = `<a href="https://example.org/" rel="homepage">..</a>` }, true, ""},
		{"and javascript", func(o *oddPypi) { o.extra = `<a href="javascript:void(0)">..</a>` }, true, ""},
		{"and host-absolute directory", func(o *oddPypi) { o.extra = `<a href="/">..</a>` }, true, ""},
		{"and a file that is none", func(o *oddPypi) { o.extra = `<a href="README.txt">..</a>` }, true, ""},
		{"and a bad address", func(o *oddPypi) { o.extra = `<a href="http://[x/foo-2.0.zip">..</a>` }, false, ""},
		{"and a bad port", func(o *oddPypi) { o.extra = `<a href="http://x:y/foo-2.0.zip">..</a>` }, false, ""},
		{"and a bad egg", func(o *oddPypi) { o.extra = `<a href="x.zip#egg=a b">..</a>` }, true, "each file must be there"},
		{"and long attr", func(o *oddPypi) { o.extra = `<i x="` + strings.Repeat("x", 100000) + `">` }, true, ""},
		{"and git", func(o *oddPypi) { o.extra = `<a href="git+https://example.org/foo.git#egg=foo">..</a>` }, true, ""},
		{"json whole", js(func(o *oddPypi) {}), true, ""},
		{"json no meta", jrep(`"meta":{"api-version":"1.1"},`, ""), true, ""},
		{"json api 2", jrep(`"1.1"`, `"2.0"`), true, ""},
		{"json no name", jrep(`"name":"foo",`, ""), true, ""},
		{"json other name", jrep(`"name":"foo"`, `"name":"bar"`), true, ""},
		{"json no hashes", jrep(`"hashes":{"sha256":"`+sum+`"},`, ""), true, ""},
		{"json hashes empty", jrep(`{"sha256":"`+sum+`"}`, "{}"), true, ""},
		{"json hashes null", jrep(`{"sha256":"`+sum+`"}`, "null"), true, ""},
		{"json hashes list", jrep(`{"sha256":"`+sum+`"}`, "[]"), false, ""},
		{"json hashes string", jrep(`{"sha256":"`+sum+`"}`, `"x"`), false, ""},
		{"json hash null", jrep(`"`+sum+`"`, "null"), true, ""},
		{"json hash number", jrep(`"`+sum+`"`, "1"), false, ""},
		{"json hash bad", jrep(`"`+sum+`"`, `"zz"`), false, ""},
		{"json hash upper", jrep(sum, strings.ToUpper(sum)), false, ""},
		{"json hash differs", jrep(sum, sum256("x")), false, ""},
		{"json hash unknown", jrep(`"sha256"`, `"blake2b"`), false, "the gate does not know the kind, and pip does"},
		{"json hash unknown and list", jrep(`"sha256":`, `"blake2b":[1],"sha256":`), false, ""},
		{"json hash kind upper", jrep(`"sha256"`, `"SHA256"`), true, ""},
		{"json hash two, one wrong", jrep(`"sha256":`, `"md5":"`+strings.Repeat("0", 32)+`","sha256":`), false, ""},
		{"json hash in url", jrep(fooWheel+`"`, fooWheel+`#sha256=`+sum256("x")+`"`), true, ""},
		{"json hash only in url", func(o *oddPypi) {
			o.json = true
			o.edit = func(s string) string {
				return rep(`"hashes":{"sha256":"`+sum+`"},`, "")(rep(fooWheel+`","hashes`, fooWheel+`#sha256=`+sum256("x")+`","hashes`)(s))
			}
		}, false, ""},
		{"json no size", jrep(fmt.Sprintf(`"size":%d,`, len(file)), ""), true, ""},
		{"json size wrong", jrep(`"size":`, `"size":1`), true, ""},
		{"json size null", jrep(fmt.Sprintf(`"size":%d`, len(file)), `"size":null`), true, ""},
		{"json size string", jrep(fmt.Sprintf(`"size":%d`, len(file)), `"size":"x"`), true, ""},
		{"json size float", jrep(fmt.Sprintf(`"size":%d`, len(file)), fmt.Sprintf(`"size":%d.0`, len(file))), true, ""},
		{"json size huge", jrep(fmt.Sprintf(`"size":%d`, len(file)), `"size":1e400`), true, ""},
		{"json size negative", jrep(fmt.Sprintf(`"size":%d`, len(file)), `"size":-1`), true, ""},
		{"json no url", jrep(`"url":"../../packages/`+fooWheel+`",`, ""), false, "it is no link to pip, nor to the gate"},
		{"json url null", jrep(`"url":"../../packages/`+fooWheel+`"`, `"url":null`), false, "it is no link to pip, nor to the gate"},
		{"json url number", jrep(`"url":"../../packages/`+fooWheel+`"`, `"url":1`), false, ""},
		{"json URL", jrep(`"url":`, `"URL":`), false, "it is no link to pip, nor to the gate"},
		{"json Files", jrep(`"files":`, `"Files":`), false, ""},
		{"json url blank before", jrep(`"url":"`, `"url":" `), true, ""},
		{"json url newline", jrep(`"url":"`, `"url":"\n`), true, ""},
		{"json url escape", jrep(`packages`, `pack\u0061ges`), true, ""},
		{"json url entity", jrep(`packages`, `pack&#97;ges`), false, "it is no link to pip, nor to the gate"},
		{"json url surrogate", jrep(`"url":"`, `"url":"\ud800`), false, ""},
		{"json url out", jrep(`../../packages`, `../../../packages`), false, ""},
		{"json no filename", jrep(`"filename":"`+fooWheel+`",`, ""), true, ""},
		{"json filename other", jrep(`"filename":"`+fooWheel+`",`, `"filename":"x",`), true, ""},
		{"json files missing", jrep(`"files":`, `"file":`), false, ""},
		{"json files null", func(o *oddPypi) {
			o.json = true
			o.edit = func(s string) string { s, _, _ = strings.Cut(s, `"files":`); return s + `"files":null}` }
		}, false, ""},
		{"json files object", func(o *oddPypi) {
			o.json = true
			o.edit = func(s string) string { s, _, _ = strings.Cut(s, `"files":`); return s + `"files":{}}` }
		}, false, ""},
		{"json files twice", jrep(`"files":`, `"files":[],"files":`), true, "which of both counts is not said"},
		{"json files twice, last empty", jrep(`"versions":`, `"files":[],"versions":`), false, ""},
		{"json file null", jrep(`"files":[`, `"files":[null,`), false, ""},
		{"json file number", jrep(`"files":[`, `"files":[1,`), false, ""},
		{"json file empty", jrep(`"files":[`, `"files":[{},`), true, ""},
		{"json key twice", jrep(`"url":"`, `"url":"none.zip","url":"`), true, ""},
		{"json hash key twice", jrep(`"sha256":"`, `"sha256":"zz","sha256":"`), true, "which of both counts is not said"},
		{"json metadata true, none", jrep(`"size"`, `"core-metadata":true,"size"`), false, ""},
		{"json metadata {}, none", jrep(`"size"`, `"core-metadata":{},"size"`), false, ""},
		{"json metadata sum, none", jrep(`"size"`, `"core-metadata":{"sha256":"`+sum256(meta)+`"},"size"`), false, ""},
		{"json metadata sum", func(o *oddPypi) {
			jrep(`"size"`, `"core-metadata":{"sha256":"`+sum256(meta)+`"},"size"`)(o)
			put(t, o.dir, "packages/"+fooWheel+".metadata", meta)
		}, true, ""},
		{"json metadata sum differs", func(o *oddPypi) {
			jrep(`"size"`, `"core-metadata":{"sha256":"`+sum256("x")+`"},"size"`)(o)
			put(t, o.dir, "packages/"+fooWheel+".metadata", meta)
		}, false, ""},
		{"json metadata sum bad", func(o *oddPypi) {
			jrep(`"size"`, `"core-metadata":{"sha256":"zz"},"size"`)(o)
			put(t, o.dir, "packages/"+fooWheel+".metadata", meta)
		}, false, ""},
		{"json metadata sum null", func(o *oddPypi) {
			jrep(`"size"`, `"core-metadata":{"sha256":null},"size"`)(o)
			put(t, o.dir, "packages/"+fooWheel+".metadata", meta)
		}, false, ""},
		{"json metadata unknown sum", func(o *oddPypi) {
			jrep(`"size"`, `"core-metadata":{"x":"y"},"size"`)(o)
			put(t, o.dir, "packages/"+fooWheel+".metadata", meta)
		}, true, ""},
		{"json metadata string, none", jrep(`"size"`, `"core-metadata":"x","size"`), false, ""},
		{"json metadata false string, none", jrep(`"size"`, `"core-metadata":"","size"`), true, ""},
		{"json metadata number, none", jrep(`"size"`, `"core-metadata":1,"size"`), false, ""},
		{"json metadata 0, none", jrep(`"size"`, `"core-metadata":0,"size"`), true, ""},
		{"json metadata list, none", jrep(`"size"`, `"core-metadata":[1],"size"`), false, ""},
		{"json metadata empty list, none", jrep(`"size"`, `"core-metadata":[],"size"`), true, ""},
		{"json metadata null, old true, none", jrep(`"size"`, `"core-metadata":null,"dist-info-metadata":true,"size"`), false, ""},
		{"json metadata false, old true, none", jrep(`"size"`, `"core-metadata":false,"dist-info-metadata":true,"size"`), true, ""},
		{"json metadata old, none", jrep(`"size"`, `"dist-info-metadata":true,"size"`), false, ""},
		{"json data-dist-info-metadata, none", jrep(`"size"`, `"data-dist-info-metadata":true,"size"`), true, ""},
		{"json BOM", js(func(o *oddPypi) { o.edit = func(s string) string { return "\ufeff" + s } }), true, ""},
		{"json utf16", js(func(o *oddPypi) { o.edit = utf16le }), true, "RFC 8259 has UTF-8 only"},
		{"json latin1", jrep(`"name":"foo"`, "\"name\":\"f\xe4\""), false, ""},
		{"json control", jrep(`"name":"foo"`, "\"name\":\"f\n\""), false, ""},
		{"json NaN", jrep(`"versions"`, `"x":NaN,"versions"`), true, "it is no JSON"},
		{"json Infinity", jrep(`"versions"`, `"x":-Infinity,"versions"`), true, "it is no JSON"},
		{"json comma", jrep(`}]`, `},]`), false, ""},
		{"json comment", jrep(`{"meta"`, `/* x */{"meta"`), false, ""},
		{"json garbage after", js(func(o *oddPypi) { o.edit = func(s string) string { return s + "x" } }), false, ""},
		{"json NUL after", js(func(o *oddPypi) { o.edit = func(s string) string { return s + "\x00" } }), false, ""},
		{"json two", js(func(o *oddPypi) { o.edit = func(s string) string { return s + "{}" } }), false, ""},
		{"json blank after", js(func(o *oddPypi) { o.edit = func(s string) string { return s + " \n\n" } }), true, ""},
		{"json deep 5000", jrep(`"versions"`, `"x":`+strings.Repeat("[", 5000)+strings.Repeat("]", 5000)+`,"versions"`), false, ""},
		{"json deep 200", jrep(`"versions"`, `"x":`+strings.Repeat("[", 200)+strings.Repeat("]", 200)+`,"versions"`), true, ""},
		{"json long string", jrep(`"versions"`, `"x":"`+strings.Repeat("x", 3<<20)+`","versions"`), true, "see bounded.MaxToken"},
		{"json long number", jrep(`"versions"`, `"x":`+strings.Repeat("1", 4000)+`,"versions"`), true, ""},
		{"json array", js(func(o *oddPypi) { o.edit = func(s string) string { return "[" + s + "]" } }), false, ""},
		{"json lone surrogate", jrep(`"name":"foo"`, `"name":"\ud800"`), true, ""},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			o := &oddPypi{dir: t.TempDir(), file: file, at: "packages/" + fooWheel, href: "../../packages/" + fooWheel, sum: "#sha256=" + sum}
			test.make(o)
			put(t, o.dir, o.at, o.file)
			var files http.Handler
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { files.ServeHTTP(w, r) }))
			defer srv.Close()
			url := srv.URL + "/mirror/"
			var page, kind, as string
			if o.json {
				as, kind = "simple/foo/index.v1_json", "application/vnd.pypi.simple.v1+json"
				page = fmt.Sprintf(`{"meta":{"api-version":"1.1"},"name":"foo","files":[{"filename":"%s","url":"%s","hashes":{"sha256":"%s"},"size":%d,"yanked":false}],"versions":["1.0"]}`,
					fooWheel, o.href, sum, len(file))
			} else {
				as, kind = "simple/foo/index.html", "text/html"
				page = "<!DOCTYPE html>\n<html>\n<head><title>Links for foo</title>" + o.head + "</head>\n<body>\n" + o.extra + "<a " + o.attrs + ` href="` + o.href + o.sum + `">foo</a><br/>` + "\n</body>\n</html>\n"
			}
			if o.edit != nil {
				page = o.edit(page)
			}
			page = strings.ReplaceAll(page, "{URL}", url)
			put(t, o.dir, as, page)
			g := &Pypi{Hash: true, RootURI: url}
			verdict := g.Check(t.Context(), newRun(t, o.dir))
			if (verdict == nil) != (test.ok == (test.why == "")) {
				t.Errorf("the gate says %v", verdict)
			}
			if client != nil {
				files = http.StripPrefix("/mirror/", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "simple/foo/" {
						w.Header().Set("Content-Type", kind)
						_, _ = io.WriteString(w, page)
						return
					}
					http.FileServer(http.Dir(o.dir)).ServeHTTP(w, r)
				}))
				ask := url + "simple/"
				if o.find {
					ask = "find " + ask
				}
				client.compare(t, test.name, client.ask(t, ask), test.ok)
			}
			if test.ok && verdict == nil { // it must have looked at the very file
				rm(t, o.dir, o.at)
				if verdict := g.Check(t.Context(), newRun(t, o.dir)); verdict == nil {
					t.Errorf("the gate does not miss %s", o.at)
				}
			}
		})
	}
}
