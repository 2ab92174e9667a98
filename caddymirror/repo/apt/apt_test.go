package apt

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// sum is a checksum that is all of one digit.
func sum(digit string) string { return strings.Repeat(digit, 64) }

// TestRelease checks what is read of a Release: gates and checks have tests of their own
// of what follows from it.
func TestRelease(t *testing.T) {
	text := "Origin: x\nDate: Sat, 14 Nov 2026 10:00:00 UTC\nValid-Until: Sat, 21 Nov 2026 10:00:00 UTC\nAcquire-By-Hash: yes\n" +
		"MD5Sum:\n " + strings.Repeat("0", 32) + " 1 main/binary-amd64/Packages\n" +
		"SHA256:\n " + sum("b") + " 20 main/binary-amd64/Packages.gz\n " + sum("a") + " 300 main/binary-amd64/Packages\n" +
		" " + sum("c") + " 7 main/i18n/Translation-en.xz\n " + sum("c") + " 7 ../x\n " + sum("d") + " 8 main/i18n/Translation-en.xz\n " + sum("e") + " x main/none\n"
	var odd []string
	r, err := ParseRelease([]byte(text), func(what string) { odd = append(odd, what) })
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2026, 11, 14, 10, 0, 0, 0, time.UTC); !r.Date.Equal(want) || !r.Until.Equal(want.AddDate(0, 0, 7)) || !r.ByHash || r.Kind != "sha256" {
		t.Errorf("%+v", r)
	}
	if !slices.Equal(odd, []string{oddIndex, oddListed}) {
		t.Errorf("%q", odd)
	}
	var got []string
	for _, g := range r.Groups() {
		line := fmt.Sprintf("%s, lists packages %t, plain %t:", g.Name, g.Lists(), g.Plain)
		for _, x := range g.Forms {
			line += fmt.Sprintf(" %s %d %x %t", x.Name, x.Size, x.Digest.Sum[:1], x.Fault != nil)
		}
		got = append(got, line)
	}
	want := []string{
		"main/binary-amd64/Packages, lists packages true, plain true: main/binary-amd64/Packages 300 aa false main/binary-amd64/Packages.gz 20 bb false",
		"main/i18n/Translation-en, lists packages false, plain false: main/i18n/Translation-en.xz 7 cc false",
		"main/none, lists packages false, plain true: main/none 0 ee true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := r.Index[0].ByHash(), "main/binary-amd64/by-hash/SHA256/"+sum("a"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for name, text := range map[string]string{
		"empty": "", "no indexes": "Origin: x\n", "no field": "x\n", "no such date": "Valid-Until: tomorrow\nSHA256:\n " + sum("a") + " 1 x\n",
		"no size": "SHA256:\n " + sum("a") + " x\n",
	} {
		if r, err := ParseRelease([]byte(text), nil); !fault.Is(err) || r != nil {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
}

// TestReader checks what is read of Packages and Sources.
func TestReader(t *testing.T) {
	var got []string
	r := Reader{See: func(f File) error {
		got = append(got, fmt.Sprintf("%s %d %s %x", f.Name, f.Size, f.Digest.Kind, f.Digest.Sum[:1]))
		return nil
	}}
	packages := "Package: a\nFilename: pool/a.deb\nSize: 1\nMD5sum: " + strings.Repeat("0", 32) + "\nSHA256: " + sum("a") + "\n\n" +
		"package: b\nfilename: pool/b.deb\nsize: 22 \nSHA512: " + sum("b") + sum("b") + "\nDescription: x\n Size: 9\n\n"
	if err := r.Packages(strings.NewReader(packages)); err != nil {
		t.Fatal(err)
	}
	sources := "Package: s\nDirectory: pool/s\nFiles:\n " + strings.Repeat("0", 32) + " 3 s.dsc\nChecksums-Sha256:\n " + sum("c") + " 3 s.dsc\n " + sum("d") + " 4 s.tar.gz\n"
	if err := r.Sources(strings.NewReader(sources)); err != nil {
		t.Fatal(err)
	}
	want := []string{"pool/a.deb 1 sha256 aa", "pool/b.deb 22 sha512 bb", "pool/s/s.dsc 3 sha256 cc", "pool/s/s.tar.gz 4 sha256 dd"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	weak := "Package: a\nFilename: a\nSize: 1\nMD5sum: " + strings.Repeat("0", 32) + "\n"
	if err := r.Packages(strings.NewReader(weak)); !fault.Is(err) {
		t.Error("a package with nothing but MD5:", err)
	}
	r.Weak = true
	if err := r.Packages(strings.NewReader(weak)); err != nil {
		t.Error(err)
	}
}
