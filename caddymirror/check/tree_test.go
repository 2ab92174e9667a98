package check

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	pgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/openpgp"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/repotest"
)

// A site is a tree of all kinds of mounts, as a mirror has them on disk.
type site struct {
	t    testing.TB
	dir  string
	key  *pgp.Entity
	date time.Time // of the indexes
	last time.Time // Valid-Until
}

// seen is when all files were last written: long before they are looked at.
var seen = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newSite(t testing.TB) *site {
	s := &site{t: t, dir: t.TempDir(), key: newKey(t), date: time.Now().Add(-time.Hour), last: time.Now().Add(time.Hour)}
	s.pypi()
	s.wheel()
	s.apt()
	s.rpm()
	s.put("tarballs/README", "read me\n")
	s.put("tarballs/x/one-1.0.tar.gz", random("one", 5000))
	s.put("tarballs/x/y/two-1.0.tar.gz", random("two", 300000))
	return s
}

// mounts are all that the site has.
var mounts = []Mount{
	{Kind: PyPI, Path: "/pypi"},
	{Kind: Wheel, Path: "/wheel"},
	{Kind: Apt, Path: "/ubuntu", Names: []string{"jammy"}},
	{Kind: RPM, Path: "/epel/9/Everything/x86_64"},
	{Kind: Files, Path: "/tarballs"},
}

func (s *site) put(name, text string) {
	s.t.Helper()
	file := filepath.Join(s.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chtimes(file, seen, seen); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) get(name string) string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func (s *site) rm(name string) {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

// edit replaces a part of a file, which must have it.
func (s *site) edit(name, part, by string) {
	s.t.Helper()
	text := s.get(name)
	if !strings.Contains(text, part) {
		s.t.Fatalf("%s has no %q", name, part)
	}
	s.put(name, strings.ReplaceAll(text, part, by))
}

// flip changes one byte in the middle of a file.
func (s *site) flip(name string) {
	s.t.Helper()
	b := []byte(s.get(name))
	b[len(b)/2] ^= 1
	s.put(name, string(b))
}

// random is text of n bytes that cannot be told from another of these but by its seed.
func random(seed string, n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(sum256(fmt.Sprint(seed, i)))
	}
	return b.String()[:n]
}

func sum256(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

func page(links string) string {
	return "<!DOCTYPE html>\n<html><head><title>x</title></head><body>\n" + links + "</body></html>\n"
}

// Names in the site that tests make faults of.
const (
	onePage  = "pypi/simple/one/index.html"
	oneName  = "pypi/packages/aa/one-1.0-py3-none-any.whl"
	packages = "ubuntu/dists/jammy/main/binary-amd64/Packages"
	inline   = "ubuntu/dists/jammy/InRelease"
	debName  = "ubuntu/pool/main/h/hello_1.0_amd64.deb"
	repomd   = "epel/9/Everything/x86_64/repodata/repomd.xml"
	primary  = "epel/9/Everything/x86_64/repodata/primary.xml.gz"
	rpmName  = "epel/9/Everything/x86_64/Packages/h/hello-1.0.rpm"
)

func (s *site) pypi() {
	whl, sdist := random("wheel", 20000), random("sdist", 3000)
	const meta = "Metadata-Version: 2.1\nName: one\nVersion: 1.0\n"
	s.put(oneName, whl)
	s.put(oneName+".metadata", meta)
	s.put("pypi/packages/bb/two-1.0.tar.gz", sdist)
	s.put("pypi/simple/index.html", page(`<a href="one/">One</a><br/><a href="two/">two</a>`))
	s.put(onePage, page(fmt.Sprintf(`<a href="../../packages/aa/one-1.0-py3-none-any.whl#sha256=%s" data-core-metadata="sha256=%s">one-1.0</a>`, sum256(whl), sum256(meta))))
	s.put("pypi/simple/two/index.html", page(fmt.Sprintf(`<a href="../../packages/bb/two-1.0.tar.gz#sha256=%s">two-1.0.tar.gz</a> <a href="../">up</a>`, sum256(sdist))))
	s.put("pypi/last-modified", s.date.UTC().Format("20060102T15:04:05")+"\n")
}

func (s *site) wheel() {
	for _, platform := range []string{"ubuntu-22.04-x86_64", "debian-12-aarch64"} {
		whl := random(platform, 9000)
		list := "" // in the directory itself, or in simple
		if strings.HasPrefix(platform, "debian") {
			list = "simple/"
		}
		s.put("wheel/"+platform+"/"+list+"index.html", page(`<a href="three/">three</a>`))
		s.put("wheel/"+platform+"/three/index.html", page(fmt.Sprintf(`<a href="three-1.0-cp311-cp311-linux_x86_64.whl#sha256=%s">three</a>`, sum256(whl))))
		s.put("wheel/"+platform+"/three/three-1.0-cp311-cp311-linux_x86_64.whl", whl)
	}
}

func (s *site) apt() {
	deb := random("deb", 12000)
	s.put(debName, deb)
	text := fmt.Sprintf("Package: hello\nVersion: 1.0\nArchitecture: amd64\nFilename: pool/main/h/hello_1.0_amd64.deb\nSize: %d\nSHA256: %s\nDescription: x\n\n", len(deb), sum256(deb))
	s.put(packages, text)
	s.put(packages+".gz", repotest.Gzip(s.t, text))
	s.put("ubuntu/dists/jammy/main/i18n/Translation-en", "Package: hello\nDescription-md5: x\nDescription-en: x\n\n")
	s.put("ubuntu/dists/jammy/main/binary-amd64/Release", "Archive: jammy\n")
	s.release("")
}

// release writes the InRelease of what there is, with further lines.
func (s *site) release(more string) {
	text := "Origin: Test\nSuite: jammy\nCodename: jammy\nDate: " + s.date.UTC().Format("Mon, 02 Jan 2006 15:04:05") + " UTC\n"
	if !s.last.IsZero() {
		text += "Valid-Until: " + s.last.UTC().Format("Mon, 02 Jan 2006 15:04:05") + " UTC\n"
	}
	text += "SHA256:\n"
	for _, name := range []string{"main/binary-amd64/Packages", "main/binary-amd64/Packages.gz", "main/binary-amd64/Release", "main/i18n/Translation-en"} {
		index := s.get("ubuntu/dists/jammy/" + name)
		text += fmt.Sprintf(" %s %d %s\n", sum256(index), len(index), name)
	}
	// An architecture that is not mirrored.
	text += fmt.Sprintf(" %s 9 main/binary-i386/Packages\n %s 9 main/binary-i386/Packages.gz\n", sum256("x"), sum256("y"))
	s.put(inline, s.sign(text+more))
}

func (s *site) sign(text string) string {
	s.t.Helper()
	signer, ok := s.key.SigningKey(time.Now(), nil)
	if !ok {
		s.t.Fatal("no signing key")
	}
	var b bytes.Buffer
	w, err := clearsign.Encode(&b, signer.PrivateKey, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := w.Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		s.t.Fatal(err)
	}
	return b.String() + "\n"
}

func (s *site) rpm() {
	rpm := random("rpm", 7000)
	s.put(rpmName, rpm)
	s.primary("Packages/h/hello-1.0.rpm", len(rpm), sum256(rpm))
}

// primary writes the metadata of a repository with one package.
func (s *site) primary(href string, size int, sum string) {
	text := fmt.Sprintf(`<?xml version="1.0" encoding="UTF-8"?>
<metadata xmlns="http://linux.duke.edu/metadata/common" packages="1"><package type="rpm"><name>hello</name><checksum type="sha256" pkgid="YES">%s</checksum><size package="%d"/><location href="%s"/></package></metadata>`, sum, size, href)
	s.put(primary, repotest.Gzip(s.t, text))
	s.put("epel/9/Everything/x86_64/repodata/filelists.xml.gz", repotest.Gzip(s.t, "<filelists/>"))
	md := `<?xml version="1.0" encoding="UTF-8"?><repomd xmlns="http://linux.duke.edu/metadata/repo">`
	for _, kind := range []string{"primary", "filelists"} {
		data := s.get("epel/9/Everything/x86_64/repodata/" + kind + ".xml.gz")
		md += fmt.Sprintf(`<data type="%s"><checksum type="sha256">%s</checksum><location href="repodata/%s.xml.gz"/><timestamp>%d</timestamp><size>%d</size></data>`,
			kind, sum256(data), kind, s.date.Unix(), len(data))
	}
	s.put(repomd, md+"</repomd>")
	s.put(repomd+".asc", s.detached(md+"</repomd>"))
}

func (s *site) detached(text string) string {
	s.t.Helper()
	var b bytes.Buffer
	if err := pgp.ArmoredDetachSign(&b, []*pgp.Entity{s.key}, strings.NewReader(text), nil); err != nil {
		s.t.Fatal(err)
	}
	return b.String()
}

func newKey(t testing.TB) *pgp.Entity {
	t.Helper()
	key, err := pgp.NewEntity("Test", "", "test@example.org", &packet.Config{
		Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return time.Now().Add(-time.Hour) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// ring is a keyring of the key.
func ring(t testing.TB, key *pgp.Entity) *openpgp.Keyring {
	t.Helper()
	var b bytes.Buffer
	if err := key.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	k, err := openpgp.ParseKeyring("test.gpg", b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return k
}
