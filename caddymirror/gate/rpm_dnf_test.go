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
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/repotest"
)

// buildRpm returns a package.
func buildRpm(t testing.TB) string {
	home := t.TempDir()
	put(t, home, "one.spec", "Name: one\nVersion: 1\nRelease: 1\nSummary: x\nLicense: MIT\nBuildArch: noarch\n%description\nx\n%files\n")
	run(t, home, nil, "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+home, "--define", "_rpmdir "+home, "--define", "_build_name_fmt one.rpm", "one.spec")
	return get(t, home, "one.rpm")
}

// oddRpm is a repository below sub, with one package, as createrepo_c makes it but for
// what a test changes.
type oddRpm struct {
	dir, rpm   string
	href, base string // of the location
	count      string // attribute packages="1"
	decl       string // of XML
	at         string // where the package is, in the tree
	sum, kind  string
	size       string
	summary    string
	ext        string
	edit       func(string) string // primary.xml
	editMD     func(string) string // repomd.xml
	primary    string
	more       string // data of repomd.xml
	data       func(string) string
	encode     func(string) string
	encodeMD   func(string) string
	pack       func(string) string
}

func (o *oddRpm) write(t testing.TB) {
	attr := ""
	if o.count != "" {
		attr = ` packages="` + o.count + `"`
	}
	text := o.decl + `
<metadata xmlns="http://linux.duke.edu/metadata/common" xmlns:rpm="http://linux.duke.edu/metadata/rpm"` + attr + `>
<package type="rpm">
  <name>one</name>
  <arch>noarch</arch>
  <version epoch="0" ver="1" rel="1"/>
  <checksum type="` + o.kind + `" pkgid="YES">` + o.sum + `</checksum>
  <summary>` + o.summary + `</summary>
  <description>x</description>
  <packager></packager>
  <url></url>
  <time file="1795818570" build="1795818570"/>
  ` + o.size + `
  <location` + o.base + ` href="` + o.href + `"/>
  <format>
    <rpm:license>MIT</rpm:license>
    <rpm:provides>
      <rpm:entry name="one" flags="EQ" epoch="0" ver="1" rel="1"/>
    </rpm:provides>
  </format>
</package>
</metadata>
`
	if o.edit != nil {
		text = o.edit(text)
	}
	if o.encode != nil {
		text = o.encode(text)
	}
	packed := o.pack(text)
	put(t, o.dir, "sub/"+o.primary+o.ext, packed)
	put(t, o.dir, o.at, o.rpm)
	filelists := repotest.Gzip(t, `<?xml version="1.0" encoding="UTF-8"?><filelists xmlns="http://linux.duke.edu/metadata/filelists" packages="0"></filelists>`)
	put(t, o.dir, "sub/repodata/filelists.xml.gz", filelists)
	md := `<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">
<revision>1795818570</revision>
` + o.data(rpmData("primary", o.primary+o.ext, packed)) + rpmData("filelists", "repodata/filelists.xml.gz", filelists) + o.more + `
</repomd>
`
	if o.editMD != nil {
		md = o.editMD(md)
	}
	if o.encodeMD != nil {
		md = o.encodeMD(md)
	}
	put(t, o.dir, "sub/repodata/repomd.xml", md)
}

func latin1(s string) string {
	var b bytes.Buffer
	for _, r := range s {
		b.WriteByte(byte(r))
	}
	return b.String()
}

func utf16le(s string) string {
	b := []byte{0xff, 0xfe}
	for _, r := range s {
		b = append(b, byte(r), byte(r>>8))
	}
	return string(b)
}

// dnfClient is a process of dnf, which is asked by the address of a repository.
type dnfClient struct {
	t     testing.TB
	in    io.Writer
	out   *bufio.Reader
	known bool // it is the dnf that was asked when the table was written
}

// newDnf starts dnf. It returns nil if that is not installed.
func newDnf(t testing.TB) *dnfClient {
	const python = "/usr/bin/python3" // whose packages dnf is among
	if exec.Command(python, "-c", "import dnf").Run() != nil {
		t.Log("dnf is not installed, and not asked")
		return nil
	}
	if _, err := exec.LookPath("rpmbuild"); err != nil {
		t.Log("rpmbuild is not installed, and dnf not asked")
		return nil
	}
	cmd := exec.Command(python, "testdata/ask_dnf.py")
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // dnf crashes on some of what it is asked
	})
	d := &dnfClient{t: t, in: in, out: bufio.NewReader(out)}
	version, err := d.out.ReadString('\n')
	if err != nil {
		t.Fatalf("dnf does not start: %v", err)
	}
	t.Log(strings.TrimSpace(version))
	d.known = strings.HasPrefix(version, "dnf 4.14.")
	return d
}

// ask returns nil if dnf downloads all that is in a repository.
func (d *dnfClient) ask(url string) error {
	if _, err := fmt.Fprintln(d.in, url); err != nil {
		return err
	}
	line, err := d.out.ReadString('\n')
	if err != nil {
		*d = *newDnf(d.t)
		return errors.New("it crashed")
	}
	if line = strings.TrimSpace(line); line != "ok" {
		return errors.New(line)
	}
	return nil
}

// TestRpmAsDnf asks dnf and the gate of odd repositories. Where there is no dnf, what it
// said (4.14.0 of Debian 12) stands in the table.
func TestRpmAsDnf(t *testing.T) {
	need(t, "xz", "bzip2")
	client, rpm := newDnf(t), "package one"
	if client != nil {
		rpm = buildRpm(t)
	}
	rep := func(from, to string) func(string) string {
		return func(s string) string {
			if !strings.Contains(s, from) {
				panic(from + " is not in " + s)
			}
			return strings.Replace(s, from, to, 1)
		}
	}
	packed := func(ext string, pack func(string) string) func(*oddRpm) {
		return func(o *oddRpm) { o.ext, o.pack = ext, pack }
	}
	zip := func(s string) string { return repotest.Gzip(t, s) }
	xz := func(s string) string { return repotest.Pipe(t, s, "xz") }
	bz := func(s string) string { return repotest.Pipe(t, s, "bzip2") }
	zs := func(s string) string { return repotest.Zstd(t, s) }
	half := func(pack func(string) string) func(string) string {
		return func(s string) string { return pack(s[:200]) + pack(s[200:]) }
	}
	and := func(pack func(string) string, more string) func(string) string {
		return func(s string) string { return pack(s) + more }
	}
	cut := func(pack func(string) string, n int) func(string) string {
		return func(s string) string { s = pack(s); return s[:len(s)-n] }
	}
	zeros, garbage := strings.Repeat("\x00", 512), "garbage, and more of it"
	href := func(h, at string) func(*oddRpm) { return func(o *oddRpm) { o.href, o.at = h, at } }
	for _, test := range []struct {
		name string
		make func(*oddRpm)
		ok   bool   // what dnf says
		why  string // the gate says otherwise
	}{
		{"whole", func(o *oddRpm) {}, true, ""},
		{"href ../", href("../Packages/one.rpm", "Packages/one.rpm"), true, ""},
		{"href x/../", href("Packages/../Packages/one.rpm", "sub/Packages/one.rpm"), true, ""},
		{"href none/../", href("none/../Packages/one.rpm", "sub/Packages/one.rpm"), true, ""},
		{"href out", href("../../one.rpm", "one.rpm"), false, ""},
		{"href out and in", href("../../sub/Packages/one.rpm", "sub/Packages/one.rpm"), false, ""},
		{"href /", href("/Packages/one.rpm", "sub/Packages/one.rpm"), true, ""},
		{"href / root", href("/Packages/one.rpm", "Packages/one.rpm"), false, ""},
		{"href //", href("//Packages/one.rpm", "sub/Packages/one.rpm"), true, ""},
		{"href ./", href("./Packages/./one.rpm", "sub/Packages/one.rpm"), true, ""},
		{"href a//b", href("Packages//one.rpm", "sub/Packages/one.rpm"), true, ""},
		{"href encoded, decoded file", href("Packages/o%6ee.rpm", "sub/Packages/one.rpm"), false, ""},
		{"href encoded, literal file", href("Packages/o%6ee.rpm", "sub/Packages/o%6ee.rpm"), true, ""},
		{"href bad percent", href("Packages/o%zze.rpm", "sub/Packages/o%zze.rpm"), true, ""},
		{"href plus", href("Packages/o+e.rpm", "sub/Packages/o+e.rpm"), true, ""},
		{"href tilde caret", href("Packages/o~^e.rpm", "sub/Packages/o~^e.rpm"), true, ""},
		{"href colon", href("Packages/1:one.rpm", "sub/Packages/1:one.rpm"), true, ""},
		{"href space", href("Packages/o e.rpm", "sub/Packages/o e.rpm"), true, ""},
		{"href space encoded", href("Packages/o%20e.rpm", "sub/Packages/o e.rpm"), false, ""},
		{"href hash", href("Packages/o#e.rpm", "sub/Packages/o#e.rpm"), true, ""},
		{"href hash cut", href("Packages/one.rpm#e.rpm", "sub/Packages/one.rpm"), false, ""},
		{"href query", href("Packages/o?e.rpm", "sub/Packages/o?e.rpm"), true, ""},
		{"href query cut", href("Packages/one.rpm?x=y", "sub/Packages/one.rpm"), false, ""},
		{"href entity", href("Packages/o&amp;e.rpm", "sub/Packages/o&e.rpm"), true, ""},
		{"href charref", href("Packages/o&#x6e;e.rpm", "sub/Packages/one.rpm"), true, ""},
		{"href utf8", href("Packages/öne.rpm", "sub/Packages/öne.rpm"), true, ""},
		{"href backslash", href(`Packages\one.rpm`, "sub/Packages\\one.rpm"), true, ""},
		{"href blank around", href(" Packages/one.rpm ", "sub/Packages/one.rpm"), false, ""},
		{"href empty", href("", "sub/Packages/one.rpm"), false, ""},
		{"href dir", href("Packages/", "sub/Packages/one.rpm"), false, ""},
		{"href absolute url elsewhere", href("http://127.0.0.1:1/one.rpm", "sub/Packages/one.rpm"), false, "the gate does not look there"},
		{"href file url", href("file:///none/one.rpm", "sub/Packages/one.rpm"), false, ""},
		{"base away", func(o *oddRpm) { o.base = ` xml:base="http://127.0.0.1:1/"` }, false, "the gate does not look there"},
		{"base empty", func(o *oddRpm) { o.base = ` xml:base=""` }, false, ""},
		{"base relative", func(o *oddRpm) { o.base = ` xml:base="Packages/"`; o.href = "one.rpm" }, false, ""},
		{"base dot", func(o *oddRpm) { o.base = ` xml:base="."` }, false, ""},
		{"no location", func(o *oddRpm) { o.edit = rep(`<location href="Packages/one.rpm"/>`, "") }, false, ""},
		{"two locations", func(o *oddRpm) { o.edit = rep(`<location `, `<location href="none"/><location `) }, true, ""},
		{"location without href", func(o *oddRpm) { o.edit = rep(`href="Packages/one.rpm"`, "") }, false, ""},
		{"packages 5", func(o *oddRpm) { o.count = "5" }, true, ""},
		{"packages 0", func(o *oddRpm) { o.count = "0" }, true, ""},
		{"packages -1", func(o *oddRpm) { o.count = "-1" }, true, ""},
		{"packages x", func(o *oddRpm) { o.count = "x" }, true, ""},
		{"packages missing", func(o *oddRpm) { o.count = "" }, true, ""},
		{"decl latin1", func(o *oddRpm) {
			o.decl = `<?xml version="1.0" encoding="ISO-8859-1"?>`
			o.summary = "café"
			o.encode = latin1
		}, true, ""},
		{"decl latin1, href", func(o *oddRpm) {
			o.decl = `<?xml version="1.0" encoding="iso-8859-1"?>`
			o.href = "Packages/öne.rpm"
			o.at = "sub/Packages/öne.rpm"
			o.encode = latin1
		}, true, ""},
		{"decl us-ascii", func(o *oddRpm) { o.decl = `<?xml version="1.0" encoding="US-ASCII"?>` }, true, ""},
		{"decl us-ascii lies", func(o *oddRpm) { o.decl = `<?xml version="1.0" encoding="US-ASCII"?>`; o.summary = "café" }, false, ""},
		{"decl windows", func(o *oddRpm) {
			o.decl = `<?xml version="1.0" encoding="windows-1252"?>`
			o.summary = "café"
			o.encode = latin1
		}, false, ""},
		{"decl 8859-15", func(o *oddRpm) {
			o.decl = `<?xml version="1.0" encoding="ISO-8859-15"?>`
			o.summary = "café"
			o.encode = latin1
		}, false, ""},
		{"decl koi8", func(o *oddRpm) {
			o.decl = `<?xml version="1.0" encoding="KOI8-R"?>`
			o.summary = "café"
			o.encode = latin1
		}, false, ""},
		{"decl unknown", func(o *oddRpm) { o.decl = `<?xml version="1.0" encoding="x-none"?>` }, false, ""},
		{"decl utf8 lower", func(o *oddRpm) { o.decl = `<?xml version="1.0" encoding="utf8"?>` }, false, ""},
		{"decl utf-8 lies", func(o *oddRpm) { o.summary = "café"; o.encode = latin1 }, false, ""},
		{"decl utf16", func(o *oddRpm) { o.decl = `<?xml version="1.0" encoding="UTF-16"?>`; o.encode = utf16le }, true, ""},
		{"decl none", func(o *oddRpm) { o.decl = `` }, true, ""},
		{"decl version 1.1", func(o *oddRpm) { o.decl = `<?xml version="1.1" encoding="UTF-8"?>` }, true, ""},
		{"BOM", func(o *oddRpm) { o.decl = "\ufeff" + o.decl }, true, ""},
		{"leading blank", func(o *oddRpm) { o.edit = func(s string) string { return "\n" + s } }, false, ""},
		{"leading blank no decl", func(o *oddRpm) { o.decl = "\n\n" }, true, ""},
		{"doctype", func(o *oddRpm) { o.decl += `<!DOCTYPE metadata>` }, true, ""},
		{"doctype entity", func(o *oddRpm) {
			o.decl += `<!DOCTYPE metadata [<!ENTITY x "one">]>`
			o.href = "Packages/&x;.rpm"
		}, true, "entities are not read: a few lines of them make gigabytes"},
		{"undefined entity", func(o *oddRpm) { o.summary = "&nbsp;" }, false, ""},
		{"control char", func(o *oddRpm) { o.summary = "\x01" }, false, ""},
		{"charref control", func(o *oddRpm) { o.summary = "&#1;" }, false, ""},
		{"bare ampersand", func(o *oddRpm) { o.summary = "a & b" }, false, ""},
		{"cdata", func(o *oddRpm) { o.summary = "<![CDATA[a & b]]>" }, true, ""},
		{"cdata checksum", func(o *oddRpm) { o.sum = "<![CDATA[" + o.sum + "]]>" }, true, ""},
		{"comment", func(o *oddRpm) { o.edit = rep("<package ", "<!-- <package> --><package ") }, true, ""},
		{"comment in checksum", func(o *oddRpm) { o.sum = o.sum[:10] + "<!-- x -->" + o.sum[10:] }, true, ""},
		{"unquoted attr", func(o *oddRpm) { o.count = ""; o.edit = rep("<metadata ", "<metadata packages=1 ") }, false, ""},
		{"single quotes", func(o *oddRpm) { o.edit = rep(`href="Packages/one.rpm"`, `href='Packages/one.rpm'`) }, true, ""},
		{"duplicate attr", func(o *oddRpm) { o.edit = rep(`href="Packages/one.rpm"`, `href="none" href="Packages/one.rpm"`) }, false, ""},
		{"end tag mismatch", func(o *oddRpm) { o.edit = rep(`<description>x</description>`, `<description>x</summary>`) }, false, ""},
		{"end tag missing", func(o *oddRpm) { o.edit = rep("<description>x</description>", "<description>x") }, false, ""},
		{"end of metadata missing", func(o *oddRpm) { o.edit = rep("</metadata>", "") }, false, ""},
		{"end of package missing", func(o *oddRpm) { o.edit = rep("</package>", "") }, false, ""},
		{"garbage after", func(o *oddRpm) { o.edit = func(s string) string { return s + "garbage" } }, false, ""},
		{"element after", func(o *oddRpm) { o.edit = func(s string) string { return s + "<x/>" } }, false, ""},
		{"comment after", func(o *oddRpm) { o.edit = func(s string) string { return s + "<!-- x -->\n" } }, true, ""},
		{"NUL after", func(o *oddRpm) { o.edit = func(s string) string { return s + "\x00" } }, false, ""},
		{"unbound prefix", func(o *oddRpm) { o.edit = rep("rpm:license>", "foo:license>") }, false, ""},
		{"prefix unbound both", func(o *oddRpm) { o.edit = rep("<rpm:license>MIT</rpm:license>", "<foo:license>MIT</foo:license>") }, true, ""},
		{"no namespaces", func(o *oddRpm) { o.edit = rep(` xmlns="http://linux.duke.edu/metadata/common"`, "") }, true, ""},
		{"prefixed namespaces", func(o *oddRpm) {
			o.edit = func(s string) string {
				s = strings.ReplaceAll(s, "<", "<c:")
				s = strings.ReplaceAll(s, "<c:/", "</c:")
				s = strings.ReplaceAll(s, "<c:?", "<?")
				s = strings.ReplaceAll(s, "c:rpm:", "rpm:")
				return strings.Replace(s, "xmlns=", "xmlns:c=", 1)
			}
		}, false, ""},
		{"other root", func(o *oddRpm) {
			o.edit = func(s string) string {
				return strings.ReplaceAll(strings.ReplaceAll(s, "<metadata", "<repository"), "</metadata", "</repository")
			}
		}, false, ""},
		{"no size", func(o *oddRpm) { o.size = "" }, true, ""},
		{"no package size", func(o *oddRpm) { o.size = `<size installed="0"/>` }, true, ""},
		{"size 0", func(o *oddRpm) { o.size = `<size package="0"/>` }, true, ""},
		{"size x", func(o *oddRpm) { o.size = `<size package="x"/>` }, true, ""},
		{"size -1", func(o *oddRpm) { o.size = `<size package="-1"/>` }, false, ""},
		{"size less", func(o *oddRpm) { o.size = `<size package="7"/>` }, false, ""},
		{"size more", func(o *oddRpm) { o.size = `<size package="70000"/>` }, false, ""},
		{"size plus", func(o *oddRpm) { o.size = fmt.Sprintf(`<size package="+%d"/>`, len(o.rpm)) }, true, ""},
		{"size blank", func(o *oddRpm) { o.size = fmt.Sprintf(`<size package=" %d "/>`, len(o.rpm)) }, true, ""},
		{"sum differs", func(o *oddRpm) { o.sum = sum256("x") }, false, ""},
		{"sum upper", func(o *oddRpm) { o.sum = strings.ToUpper(o.sum) }, true, ""},
		{"sum blank around", func(o *oddRpm) { o.sum = "\n " + o.sum + " \n" }, false, ""},
		{"sum kind upper", func(o *oddRpm) { o.kind = "SHA256" }, true, ""},
		{"sum kind unknown", func(o *oddRpm) { o.kind = "crc" }, false, ""},
		{"sum kind none", func(o *oddRpm) { o.edit = rep(` type="sha256" pkgid`, ` pkgid`) }, false, ""},
		{"sum short", func(o *oddRpm) { o.sum = o.sum[:20] }, false, ""},
		{"sum empty", func(o *oddRpm) { o.sum = "" }, false, ""},
		{"no sum", func(o *oddRpm) { o.edit = rep(`<checksum type="sha256" pkgid="YES">`+o.sum+`</checksum>`, "") }, false, ""},
		{"package without type", func(o *oddRpm) { o.edit = rep(`<package type="rpm">`, "<package>") }, true, ""},
		{"md sum upper", func(o *oddRpm) {
			o.data = func(s string) string {
				i := strings.Index(s, `sha256">`) + 8
				return s[:i] + strings.ToUpper(s[i:i+64]) + s[i+64:]
			}
		}, false, ""},
		{"md sum kind upper", func(o *oddRpm) { o.data = rep("sha256", "SHA256") }, true, ""},
		{"md sum blank", func(o *oddRpm) { o.data = rep("</checksum>", "\n</checksum>") }, false, ""},
		{"md sum blank before", func(o *oddRpm) { o.data = rep(`sha256">`, "sha256\">\n ") }, false, ""},
		{"md sum unknown", func(o *oddRpm) { o.data = rep("sha256", "crc") }, false, ""},
		{"md sum differs", func(o *oddRpm) { o.data = rep(`sha256">`, `sha256">0`) }, false, ""},
		{"md no sum", func(o *oddRpm) {
			o.data = func(s string) string { return s[:strings.Index(s, "<checksum")] + s[strings.Index(s, "<location"):] }
		}, true, ""},
		{"md size differs", func(o *oddRpm) { o.data = rep("<size>", "<size>1") }, true, ""},
		{"md size less", func(o *oddRpm) {
			o.data = func(s string) string { return s[:strings.Index(s, "<size")] + "<size>12</size></data>" }
		}, true, ""},
		{"md size none", func(o *oddRpm) { o.data = func(s string) string { return s[:strings.Index(s, "<size")] + "</data>" } }, true, ""},
		{"md size x", func(o *oddRpm) {
			o.data = func(s string) string { return s[:strings.Index(s, "<size")] + "<size>x</size></data>" }
		}, true, ""},
		{"md size blank", func(o *oddRpm) {
			o.data = func(s string) string {
				return strings.Replace(strings.Replace(s, "<size>", "<size>\n ", 1), "</size>", "\n</size>", 1)
			}
		}, true, ""},
		{"md size negative", func(o *oddRpm) {
			o.data = func(s string) string { return s[:strings.Index(s, "<size")] + "<size>-1</size></data>" }
		}, true, ""},
		{"md href /", func(o *oddRpm) { o.data = rep(`href="`, `href="/`) }, true, ""},
		{"md href ../", func(o *oddRpm) { o.data = rep(`href="`, `href="../sub/`) }, false, ""},
		{"md href x/..", func(o *oddRpm) { o.data = rep(`href="`, `href="none/../`) }, false, ""},
		{"md unwanted other dir", func(o *oddRpm) {
			put(t, o.dir, "sub/meta/x", "x")
			o.more = rpmData("x", "meta/x", "x")
		}, true, ""},
		{"md unwanted out and in", func(o *oddRpm) {
			put(t, o.dir, "sub/meta/x", "x")
			o.more = rpmData("x", "../sub/meta/x", "x")
		}, true, ""},
		{"md updateinfo other dir", func(o *oddRpm) {
			put(t, o.dir, "sub/meta/x", "<updates/>")
			o.more = rpmData("updateinfo", "meta/x", "<updates/>")
		}, false, ""},
		{"md updateinfo", func(o *oddRpm) {
			put(t, o.dir, "sub/repodata/x", "<updates/>")
			o.more = rpmData("updateinfo", "repodata/x", "<updates/>")
		}, true, ""},
		{"md other dir", func(o *oddRpm) { o.primary = "meta/primary.xml" }, false, ""},
		{"md top dir", func(o *oddRpm) { o.primary = "primary.xml" }, true, ""},
		{"md sub dir", func(o *oddRpm) { o.primary = "repodata/x/primary.xml" }, false, ""},
		{"md ./", func(o *oddRpm) { o.data = rep(`href="`, `href="./`) }, true, ""},
		{"md //", func(o *oddRpm) { o.data = rep(`repodata/`, `repodata//`) }, true, ""},
		{"md inner ..", func(o *oddRpm) { o.data = rep(`repodata/`, `repodata/../repodata/`) }, true, "it goes well by chance: the client makes no directories"},
		{"md base empty", func(o *oddRpm) { o.data = rep(`<location `, `<location xml:base="" `) }, false, ""},
		{"md base away", func(o *oddRpm) { o.data = rep(`<location `, `<location xml:base="http://127.0.0.1:1/" `) }, false, ""},
		{"md group unknown sum", func(o *oddRpm) {
			put(t, o.dir, "sub/repodata/x", "x")
			o.more = strings.Replace(rpmData("x", "repodata/x", "x"), "sha256", "crc", 1)
		}, false, ""},
		{"md group no sum", func(o *oddRpm) {
			put(t, o.dir, "sub/repodata/x", "x")
			o.more = `<data type="x"><location href="repodata/x"/></data>`
		}, true, ""},
		{"md unwanted missing", func(o *oddRpm) { o.more = rpmData("x", "repodata/x", "x") }, true, "other clients and mirrors fetch it"},
		{"md updateinfo missing", func(o *oddRpm) { o.more = rpmData("updateinfo", "repodata/x", "x") }, false, ""},
		{"md group missing", func(o *oddRpm) { o.more = rpmData("group", "repodata/x", "x") }, false, ""},
		{"md unwanted differs", func(o *oddRpm) { put(t, o.dir, "sub/repodata/x", "x"); o.more = rpmData("x", "repodata/x", "y") }, true, "other clients and mirrors fetch it"},
		{"md unwanted no location", func(o *oddRpm) { o.more = `<data type="x"></data>` }, false, ""},
		{"md data without type", func(o *oddRpm) {
			put(t, o.dir, "sub/repodata/x", "x")
			o.more = strings.Replace(rpmData("x", "repodata/x", "x"), ` type="x"`, "", 1)
		}, true, ""},
		{"md two primaries, first good", func(o *oddRpm) {
			o.data = func(s string) string { return s + rpmData("primary", "repodata/none", "x") }
		}, false, ""},
		{"md two primaries, last good", func(o *oddRpm) {
			o.data = func(s string) string { return rpmData("primary", "repodata/none", "x") + s }
		}, false, ""},
		{"md no filelists", func(o *oddRpm) {
			o.editMD = func(s string) string {
				i, j := strings.Index(s, `<data type="filelists"`), strings.Index(s, "</repomd>")
				return s[:i] + s[j:]
			}
		}, true, ""},
		{"md no revision", func(o *oddRpm) { o.editMD = rep("<revision>1795818570</revision>", "") }, true, ""},
		{"md revision x", func(o *oddRpm) { o.editMD = rep("1795818570", "x") }, true, ""},
		{"md revision future", func(o *oddRpm) { o.editMD = rep("1795818570", "99999999999") }, true, ""},
		{"md timestamp future", func(o *oddRpm) { o.data = rep("<size>", "<timestamp>99999999999</timestamp><size>") }, true, "see repositories.date"},
		{"md timestamp x", func(o *oddRpm) { o.data = rep("<size>", "<timestamp>x</timestamp><size>") }, true, ""},
		{"md latin1", func(o *oddRpm) {
			o.encodeMD = latin1
			o.editMD = func(s string) string {
				return strings.Replace(strings.Replace(s, "UTF-8", "ISO-8859-1", 1), "</repomd>", "<!-- ö --><tags><distro>ö</distro></tags></repomd>", 1)
			}
		}, true, ""},
		{"md windows", func(o *oddRpm) {
			o.encodeMD = latin1
			o.editMD = func(s string) string {
				return strings.Replace(strings.Replace(s, "UTF-8", "windows-1252", 1), "</repomd>", "<tags><distro>ö</distro></tags></repomd>", 1)
			}
		}, false, ""},
		{"md utf16", func(o *oddRpm) { o.encodeMD = utf16le; o.editMD = rep("UTF-8", "UTF-16") }, true, ""},
		{"md unknown encoding", func(o *oddRpm) { o.editMD = rep("UTF-8", "x-none") }, false, ""},
		{"md no decl", func(o *oddRpm) { o.editMD = func(s string) string { return s[strings.Index(s, "<repomd"):] } }, true, ""},
		{"md no namespace", func(o *oddRpm) { o.editMD = rep(` xmlns="http://linux.duke.edu/metadata/repo"`, "") }, true, ""},
		{"md other root", func(o *oddRpm) { o.editMD = func(s string) string { return strings.ReplaceAll(s, "repomd", "md") } }, false, ""},
		{"md garbage after", func(o *oddRpm) { o.editMD = func(s string) string { return s + "x" } }, false, ""},
		{"md element after", func(o *oddRpm) { o.editMD = func(s string) string { return s + "<x/>" } }, false, ""},
		{"md leading blank", func(o *oddRpm) { o.editMD = func(s string) string { return "\n" + s } }, false, ""},
		{"md bare ampersand", func(o *oddRpm) { o.editMD = rep("</repomd>", "<tags><repo>a & b</repo></tags></repomd>") }, false, ""},
		{"md undefined entity", func(o *oddRpm) { o.editMD = rep("</repomd>", "<tags><repo>&nbsp;</repo></tags></repomd>") }, false, ""},
		{"md doctype", func(o *oddRpm) { o.editMD = rep("<repomd", "<!DOCTYPE repomd><repomd") }, true, ""},
		{"md cut off", func(o *oddRpm) { o.editMD = rep("</repomd>", "") }, false, ""},
		{"md unknown elements", func(o *oddRpm) { o.editMD = rep("</repomd>", "<x><y/></x></repomd>") }, true, ""},
		{"plain", func(o *oddRpm) { o.ext = ""; o.pack = func(s string) string { return s } }, true, ""},
		{"xz", func(o *oddRpm) { o.ext = ".xz"; o.pack = func(s string) string { return repotest.Pipe(t, s, "xz") } }, true, ""},
		{"bz2", func(o *oddRpm) {
			o.ext = ".bz2"
			o.pack = func(s string) string { return repotest.Pipe(t, s, "bzip2") }
		}, true, ""},
		{"zst", func(o *oddRpm) { o.ext = ".zst"; o.pack = func(s string) string { return repotest.Zstd(t, s) } }, true, ""},
		{"lzma", func(o *oddRpm) {
			o.ext = ".lzma"
			o.pack = func(s string) string { return repotest.Pipe(t, s, "xz", "--format=lzma") }
		}, true, "this gate has no reader of it"},
		{"gz members", packed(".gz", half(zip)), true, ""},
		{"gz zeros", packed(".gz", and(zip, zeros)), true, ""},
		{"gz garbage", packed(".gz", and(zip, garbage)), true, ""},
		{"gz no member", packed(".gz", and(zip, "\x1f\x8b"+garbage)), false, ""},
		{"gz cut off", packed(".gz", cut(zip, 60)), false, ""},
		{"gz no checksum", packed(".gz", cut(zip, 8)), true, "it is cut off"},
		{"gz not compressed", packed(".gz", func(s string) string { return s }), true, "its name says that it is"},
		{"xz padded", packed(".xz", and(xz, zeros)), true, ""},
		{"xz half padded", packed(".xz", and(xz, "\x00\x00\x00")), true, "xz itself refuses it"},
		{"xz garbage", packed(".xz", and(xz, garbage)), true, ""},
		{"xz streams", packed(".xz", half(xz)), false, ""},
		{"xz cut off", packed(".xz", cut(xz, 4)), false, ""},
		{"bz2 streams", packed(".bz2", half(bz)), false, ""},
		{"bz2 zeros", packed(".bz2", and(bz, zeros)), true, ""},
		{"bz2 garbage", packed(".bz2", and(bz, garbage)), true, ""},
		{"bz2 cut off", packed(".bz2", cut(bz, 4)), false, ""},
		{"zst frames", packed(".zst", half(zs)), true, ""},
		{"zst zeros", packed(".zst", and(zs, zeros)), false, ""},
		{"zst garbage", packed(".zst", and(zs, garbage)), false, ""},
		{"zst cut off", packed(".zst", cut(zs, 4)), false, ""},
		{"gz without name", func(o *oddRpm) { o.ext = ""; o.primary = "repodata/primary" }, false, ""},
		{"gz named xml", func(o *oddRpm) { o.ext = "" }, false, ""},
		{"gz named xz", func(o *oddRpm) { o.ext = ".xz" }, false, ""},
		{"gz named zst", func(o *oddRpm) { o.ext = ".zst" }, false, ""},
		{"gz named bz2", func(o *oddRpm) { o.ext = ".bz2" }, false, ""},
		{"xz named gz", func(o *oddRpm) { o.pack = func(s string) string { return repotest.Pipe(t, s, "xz") } }, false, ""},
		{"zst named gz", func(o *oddRpm) { o.pack = func(s string) string { return repotest.Zstd(t, s) } }, false, ""},
		{"gz upper", func(o *oddRpm) { o.ext = ".GZ" }, false, ""},
		{"empty primary file", func(o *oddRpm) { o.pack = func(s string) string { return "" } }, false, ""},
		{"empty xml", func(o *oddRpm) { o.edit = func(s string) string { return "" } }, false, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := &oddRpm{
				dir: t.TempDir(), rpm: rpm, href: "Packages/one.rpm", at: "sub/Packages/one.rpm", count: "1", decl: `<?xml version="1.0" encoding="UTF-8"?>`,
				kind: "sha256", sum: sum256(rpm), size: fmt.Sprintf(`<size package="%d" installed="0" archive="124"/>`, len(rpm)), summary: "x", ext: ".gz", primary: "repodata/primary.xml",
				data: func(s string) string { return s }, pack: func(s string) string { return repotest.Gzip(t, s) },
			}
			test.make(o)
			o.write(t)
			g := &Rpm{Hash: true}
			verdict := g.Check(t.Context(), newRun(t, o.dir))
			if (verdict == nil) != (test.ok == (test.why == "")) {
				t.Errorf("the gate says %v", verdict)
			}
			if client != nil {
				srv := httptest.NewServer(http.StripPrefix("/mirror/", http.FileServer(http.Dir(o.dir))))
				defer srv.Close()
				err := client.ask(srv.URL + "/mirror/sub")
				switch {
				case (err == nil) == test.ok:
				case client.known:
					t.Errorf("dnf says %v", err)
				default:
					t.Logf("this dnf says %v", err)
				}
			}
			if test.ok && verdict == nil { // it must have looked at the very package
				rm(t, o.dir, o.at)
				if verdict := g.Check(t.Context(), newRun(t, o.dir)); verdict == nil {
					t.Errorf("the gate does not miss %s", o.at)
				}
			}
		})
	}
}
