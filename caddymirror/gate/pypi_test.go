package gate

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pypiFile is where bandersnatch puts a file.
const pypiFiles = "../../packages/aa/bb/cc/"

// newPypi makes a mirror with the projects foo and bar, as bandersnatch does.
func newPypi(t testing.TB, hashed bool) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"foo", "bar"} {
		file := name + "-1.0.tar.gz"
		put(t, dir, "web/packages/aa/bb/cc/"+file, "file of "+name)
		at := "web/simple/" + name
		if hashed {
			at = "web/simple/" + name[:1] + "/" + name
		}
		page := pypiHTML(name, fmt.Sprintf(`<a href="%s%s#sha256=%s">%s</a>`, pypiFiles, file, sum256("file of "+name), file))
		put(t, dir, at+"/index.html", page)
		put(t, dir, at+"/index.v1_html", page)
		put(t, dir, at+"/index.v1_json", pypiJSON(name, pypiFiles+file, "file of "+name))
	}
	put(t, dir, "web/simple/index.html", pypiHTML("Simple Index", "<a href=\"foo/\">foo</a><br/>\n<a href=\"bar/\">bar</a>"))
	put(t, dir, "web/simple/index.v1_json", `{"meta":{"api-version":"1.1"},"projects":[{"name":"Foo","_last-serial":1},{"name":"bar"}]}`)
	put(t, dir, "status", "1")
	return dir
}

func pypiHTML(title, links string) string {
	return "<!DOCTYPE html>\n<html>\n<head><title>Links for " + title + "</title></head>\n<body>\n" + links + "<br/>\n</body>\n</html>\n<!--SERIAL 1-->"
}

func pypiJSON(name, url, text string) string {
	return fmt.Sprintf(`{"files":[{"filename":"x","hashes":{"sha256":"%s","blake2b":"0"},"requires-python":"","size":%d,"url":"%s","yanked":false}],"meta":{"api-version":"1.1"},"name":"%s","versions":["1.0"]}`,
		sum256(text), len(text), url, name)
}

func TestPypi(t *testing.T) {
	const foo = "web/packages/aa/bb/cc/foo-1.0.tar.gz"
	const html, html1, json = "web/simple/foo/index.html", "web/simple/foo/index.v1_html", "web/simple/foo/index.v1_json"
	// link adds a link to the page of foo.
	link := func(href, attrs string) func(string) {
		return func(dir string) {
			put(t, dir, html, pypiHTML("foo", fmt.Sprintf(`<a %s href="%s">x</a>`, attrs, href)))
		}
	}
	base := func(tags, href string) func(string) {
		return func(dir string) { put(t, dir, html, pypiHTML("foo", tags+`<a href="`+href+`">x</a>`)) }
	}
	org := &Pypi{RootURI: "https://example.org/"}
	for _, test := range []struct {
		name         string
		gate         *Pypi
		harm         func(dir string)
		file, reason string // empty: it passes
	}{
		{"whole", nil, nil, "", ""},
		{"hash", &Pypi{Hash: true}, nil, "", ""},
		{"dir", &Pypi{Dir: "web"}, nil, "", ""},
		{"no such dir", &Pypi{Dir: "www"}, nil, "www/simple", "is missing"},
		{"no projects", nil, func(dir string) { rm(t, dir, "web/simple/foo"); rm(t, dir, "web/simple/bar") }, "web/simple", "has no projects"},
		{"file missing", nil, func(dir string) { rm(t, dir, foo) }, foo, "is missing, " + json + " lists it"},
		{"file short", nil, func(dir string) { put(t, dir, foo, "x") }, foo, "its size is 1, " + json + " says 11"},
		{"file differs", nil, func(dir string) { put(t, dir, foo, "FILE of foo") }, "", ""},
		{"file differs, hash", &Pypi{Hash: true}, func(dir string) { put(t, dir, foo, "FILE of foo") }, foo, "its sha256 is"},
		{"file is a link", &Pypi{Hash: true}, func(dir string) {
			put(t, dir, "web/store/foo", "file of foo")
			rm(t, dir, foo)
			symlink(t, dir, "../../../../store/foo", foo)
		}, "", ""},
		{"file is a link out", nil, func(dir string) { rm(t, dir, foo); symlink(t, dir, "/etc/passwd", foo) }, foo, "leads out of the tree"},
		{"only HTML", nil, func(dir string) { rm(t, dir, html1); rm(t, dir, json) }, "", ""},
		{"only JSON", &Pypi{Hash: true}, func(dir string) { rm(t, dir, html1); rm(t, dir, html); put(t, dir, foo, "FILE of foo") }, foo, "its sha256"},
		{"pages are links", nil, func(dir string) { rm(t, dir, html); symlink(t, dir, "index.v1_html", html); rm(t, dir, foo) }, foo, "is missing"},
		{"pages differ", nil, func(dir string) {
			put(t, dir, json, strings.Replace(get(t, dir, json), sum256("file of foo"), sum256("x"), 1))
		}, foo, "has different checksums in " + html + " and " + json},
		{"root page lists more", nil, func(dir string) { rm(t, dir, "web/simple/bar") }, "web/simple/index.html", "lists project bar, which has no page"},
		{"root JSON lists more", nil, func(dir string) {
			rm(t, dir, "web/simple/index.html")
			rm(t, dir, "web/simple/bar/index.html")
			rm(t, dir, "web/simple/bar/index.v1_html")
			rm(t, dir, "web/simple/bar/index.v1_json")
		}, "web/simple/index.v1_json", "lists project bar"},

		{"escapes", nil, link("../../../../etc/x.zip", ""), html, "leads out of the web directory"},
		{"escapes, encoded", nil, link("%2e%2e/%2e%2e/%2E./x.zip", ""), html, "leads out of the web directory"},
		{"out of the web directory", nil, link("../../../status.zip", ""), html, "leads out of the web directory"},
		{"absolute", nil, link("/packages/aa/bb/cc/foo-1.0.tar.gz", ""), html, "not relative to the page"},
		{"elsewhere", nil, link("https://example.org/packages/aa/bb/cc/foo-1.0.tar.gz", ""), html, "not relative to the page"},
		{"elsewhere, too", nil, link("//example.org/packages/aa/bb/cc/foo-1.0.tar.gz", ""), html, "not relative to the page"},
		{"no address", nil, link("%ff.zip", ""), html, "not an address"},
		{"NUL", nil, link("x%00.zip", ""), html, "not an address"},
		{"empty", nil, link("#x", ""), "", ""},
		{"a directory", nil, link("../../packages/", ""), "", ""},
		{"a directory for a file", nil, func(dir string) {
			put(t, dir, "web/packages/x.zip/y", "y")
			link("../../packages/x.zip", "")(dir)
		}, "web/packages/x.zip", "is not a file"},
		{"encoded", nil, link("..&#x2f;../packages/aa/bb/cc/f%6fo-1.0.tar.gz?x=y#egg=x", ""), "", ""},
		{"root", &Pypi{RootURI: "https://example.org/pypi/"}, link("https://example.org/pypi/packages/aa/bb/cc/none.zip", ""), "web/packages/aa/bb/cc/none.zip", "is missing"},
		{"root of no name", &Pypi{RootURI: "/"}, link("/packages/aa/bb/cc/foo-1.0.tar.gz", ""), "", ""},
		{"metadata", nil, link(pypiFiles+"foo-1.0.tar.gz", `data-core-metadata="true"`), foo + ".metadata", "is missing"},
		{"metadata differ", &Pypi{Hash: true}, func(dir string) {
			put(t, dir, foo+".metadata", "Name: foo")
			link(pypiFiles+"foo-1.0.tar.gz", `data-dist-info-metadata="sha256=`+sum256("x")+`"`)(dir)
		}, foo + ".metadata", "its sha256"},
		{"metadata in JSON", nil, func(dir string) {
			put(t, dir, json, strings.Replace(get(t, dir, json), `"size"`, `"core-metadata":{"sha256":"`+sum256("x")+`"},"size"`, 1))
		}, foo + ".metadata", "is missing, " + json},
		{"no metadata in JSON", nil, func(dir string) {
			put(t, dir, json, strings.Replace(get(t, dir, json), `"size"`, `"core-metadata":false,"size"`, 1))
		}, "", ""},

		{"bad checksum", nil, link(pypiFiles+"foo-1.0.tar.gz#sha256=zz", ""), html, "has zz for a checksum"},
		{"bad checksum after others", nil, link(pypiFiles+"foo-1.0.tar.gz#egg=x&amp;sha256=00", ""), html, "for a checksum, which is not a sha256"},
		{"unknown checksum", &Pypi{Hash: true}, link(pypiFiles+"foo-1.0.tar.gz#blake2b=zz&amp;x", ""), "", ""},
		{"bad checksum of metadata", nil, func(dir string) {
			put(t, dir, foo+".metadata", "Name: foo")
			link(pypiFiles+"foo-1.0.tar.gz", `data-core-metadata="sha256=zz"`)(dir)
		}, html, "has zz for a checksum"},
		{"bad checksum of metadata in JSON", nil, func(dir string) {
			put(t, dir, json, strings.Replace(get(t, dir, json), `"size"`, `"core-metadata":{"sha256":"zz"},"size"`, 1))
		}, json, "has zz for a checksum"},
		{"tag without an end", nil, func(dir string) { put(t, dir, html, pypiHTML("foo", `<a href="none.zip"/>`)) }, "web/simple/foo/none.zip", "is missing"},

		{"base", org, base(`<base href="https://example.org/packages/">`, "aa/bb/cc/foo-1.0.tar.gz"), "", ""},
		{"base of a file", org, base(`<base href="https://example.org/packages/index.html?x/y#z/">`, "aa/bb/cc/foo-1.0.tar.gz"), "", ""},
		{"base without a path", org, base(`<base href="https://example.org">`, "packages/aa/bb/cc/foo-1.0.tar.gz"), "", ""},
		{"base, up", org, base(`<base href="https://example.org/x/y/z"/>`, "../../packages/aa/bb/cc/foo-1.0.tar.gz"), "", ""},
		{"base, file missing", org, base(`<base href="https://example.org/packages/">`, "aa/none.zip"), "web/packages/aa/none.zip", "is missing"},
		{"base elsewhere", nil, base(`<base href="https://example.org/x/">`, pypiFiles+"foo-1.0.tar.gz"), html, "links https://example.org/x/" + pypiFiles + "foo-1.0.tar.gz, which is not relative"},
		{"base out", org, base(`<base href="https://example.org/">`, "../x.zip"), html, "leads out of the web directory"},
		{"base, absolute link", org, base(`<base href="https://example.org/none/">`, "/packages/aa/bb/cc/foo-1.0.tar.gz"), "", ""},
		{"base, link to nothing", org, base(`<base href="https://example.org/none/">`, "#x"), "", ""},
		{"base that is relative", nil, base(`<base href="../../packages/">`, "aa/bb/cc/foo-1.0.tar.gz"), html, "pip takes none but whole addresses"},
		{"two bases", org, base(`<base target="x"><base href="https://example.org/packages/"><base href="../none/">`, "aa/bb/cc/foo-1.0.tar.gz"), "", ""},
		{"late base", nil, func(dir string) {
			put(t, dir, html, pypiHTML("foo", `<a href="`+pypiFiles+`foo-1.0.tar.gz">x</a><base href="../">`))
		}, html, "has a base after a link"},
		{"base of all projects", org, func(dir string) {
			put(t, dir, "web/simple/index.html", pypiHTML("all", `<base href="https://example.org/simple/"><a href="foo/">foo</a><a href="bar/">bar</a>`))
		}, "", ""},

		{"project without a page", nil, func(dir string) {
			put(t, dir, "web/simple/left/x", "x") // which nobody lists
		}, "", ""},
		{"project without a page, no list", nil, func(dir string) {
			rm(t, dir, "web/simple/index.html")
			rm(t, dir, "web/simple/index.v1_json")
			rm(t, dir, html)
			rm(t, dir, html1)
			rm(t, dir, json)
		}, "web/simple/foo", "has no page"},

		{"HTML cut off", nil, func(dir string) { put(t, dir, html, get(t, dir, html)[:120]) }, html, "is cut off"},
		{"HTML empty", nil, func(dir string) { put(t, dir, html, "") }, html, "is not a page of HTML"},
		{"HTML garbage", nil, func(dir string) { put(t, dir, html, "\x00\x01\x02") }, html, "is not a page of HTML"},
		{"endless tag", nil, func(dir string) { put(t, dir, html, "<a href='"+strings.Repeat("x", 2<<20)+"'>") }, html, "can not be read"},
		{"JSON cut off", nil, func(dir string) { put(t, dir, json, get(t, dir, json)[:100]) }, json, "is cut off"},
		{"JSON cut off late", nil, func(dir string) { put(t, dir, json, strings.TrimSuffix(get(t, dir, json), "}")) }, json, "is cut off"},
		{"JSON empty", nil, func(dir string) { put(t, dir, json, "") }, json, "is cut off"},
		{"JSON garbage", nil, func(dir string) { put(t, dir, json, "<html>") }, json, "can not be read"},
		{"JSON of something else", nil, func(dir string) { put(t, dir, json, `{"info":{}}`) }, json, "has no files"},
		{"JSON array", nil, func(dir string) { put(t, dir, json, `[]`) }, json, "has no {"},
		{"JSON type", nil, func(dir string) { put(t, dir, json, `{"files":[{"url":1}]}`) }, json, "has something else than a string"},
		{"JSON twice", nil, func(dir string) { put(t, dir, json, get(t, dir, json)+"{}") }, json, "more than one value"},
		{"JSON checksum", nil, func(dir string) {
			put(t, dir, json, strings.Replace(get(t, dir, json), sum256("file of foo"), "xyz", 1))
		}, json, "has xyz for a checksum"},
		{"page is a directory", nil, func(dir string) { rm(t, dir, html); put(t, dir, html+"/x", "x") }, html, "is not a file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := newPypi(t, false)
			if test.harm != nil {
				test.harm(dir)
			}
			g := test.gate
			if g == nil {
				g = new(Pypi)
			}
			if test.file == "" && test.reason == "" {
				passes(t, g, newRun(t, dir))
			} else {
				fails(t, g, newRun(t, dir), test.file, test.reason)
			}
		})
	}
}

func TestPypiHashed(t *testing.T) {
	dir := newPypi(t, true)
	r := newRun(t, dir)
	passes(t, &Pypi{Hash: true}, r)
	const page = "web/simple/f/foo/index.html"
	// For servers that show the projects where they are.
	put(t, dir, page, pypiHTML("foo", `<a href="../`+pypiFiles+`foo-1.0.tar.gz">x</a>`))
	passes(t, &Pypi{Hash: true}, r)
	lists := map[string]string{}
	for _, list := range []string{"index.html", "index.v1_json"} { // the directories of the first characters need no page
		text := get(t, dir, "web/simple/"+list)
		rm(t, dir, "web/simple/"+list)
		lists[list] = text
	}
	passes(t, &Pypi{Hash: true}, r)
	put(t, dir, "web/simple/e/versions/x", "x")
	fails(t, new(Pypi), r, "web/simple/e", "has no page")
	rm(t, dir, "web/simple/e")
	for list, text := range lists {
		put(t, dir, "web/simple/"+list, text)
	}
	put(t, dir, page, pypiHTML("foo", `<a href="../../`+pypiFiles+`foo-1.0.tar.gz">x</a>`))
	fails(t, new(Pypi), r, page, "leads out of the web directory")
	put(t, dir, page, pypiHTML("foo", ""))
	rm(t, dir, "web/packages/aa/bb/cc/foo-1.0.tar.gz")
	fails(t, new(Pypi), r, "web/packages/aa/bb/cc/foo-1.0.tar.gz", "is missing, web/simple/f/foo/index.v1_json")

	// A tree that is the web directory itself, and a project of one letter.
	dir = filepath.Join(newPypi(t, false), "web")
	if err := os.Rename(filepath.Join(dir, "simple/foo"), filepath.Join(dir, "simple/f")); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "simple/f/versions/index_1.html", "old")
	put(t, dir, "simple/index.html", pypiHTML("all", `<a href="F/">f</a> <a href="./bar">bar</a>`))
	rm(t, dir, "simple/index.v1_json")
	passes(t, new(Pypi), newRun(t, dir))
}
