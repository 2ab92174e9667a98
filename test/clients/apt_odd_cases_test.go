package clients

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// oddCase is an odd repository.
type oddCase struct {
	name string
	make func(*oddRepo)
	held bool   // apt does not take it
	note string // is in the log of the run if the gate lets it pass; empty: nothing is

	// differs says why the gate does not do as apt does.
	differs string
}

const (
	aptPasses = false
	aptHolds  = true
)

func oddCases(t *testing.T) []oddCase {
	all := []oddCase{{"whole", func(*oddRepo) {}, aptPasses, "", ""}}
	all = append(all, oddDates()...)
	all = append(all, oddReleases()...)
	all = append(all, oddNames()...)
	all = append(all, oddFields()...)
	all = append(all, oddTexts()...)
	all = append(all, oddSignatures(t)...)
	return append(all, oddPackings(t)...)
}

// oddDates are of Date and Valid-Until.
func oddDates() []oddCase {
	valid := func(text string) func(*oddRepo) {
		return func(r *oddRepo) { r.header += "Valid-Until: " + text + "\n" }
	}
	date := func(text string) func(*oddRepo) {
		return func(r *oddRepo) { r.header = r.header[:strings.Index(r.header, "Date:")] + text }
	}
	const day, form = 24 * time.Hour, "its Valid-Until is in a form"
	next := time.Now().Add(day).UTC()
	return []oddCase{
		{"valid until, Z", valid(oddTime(day) + " Z"), aptPasses, form, ""},
		{"valid until, GMT", valid(oddTime(day) + " GMT"), aptPasses, form, ""},
		{"valid until, +0000", valid(oddTime(day) + " +0000"), aptPasses, form, ""},
		{"valid until, +0", valid(oddTime(day) + " +0"), aptPasses, form, ""},
		{"valid until, utc", valid(oddTime(day) + " utc"), aptHolds, "", ""},
		{"valid until, UT", valid(oddTime(day) + " UT"), aptHolds, "", ""},
		{"valid until, +0200", valid(oddTime(day) + " +0200"), aptHolds, "", ""},
		{"valid until, +00:00", valid(oddTime(day) + " +00:00"), aptHolds, "", ""},
		{"valid until, EST", valid(oddTime(day) + " EST"), aptHolds, "", ""},
		{"valid until, no zone", valid(oddTime(day)), aptHolds, "", ""},
		{"valid until, no weekday", valid(oddDate(day)[5:]), aptHolds, "", ""},
		{"valid until, wrong weekday", valid("Mon, 2 Jan 2035 1:00:00 UTC"), aptPasses, "", ""},
		{"valid until, no weekday of that name", valid("Foo, 2 Jan 2035 10:00:00 UTC"), aptHolds, "", ""},
		{"valid until, RFC 850", valid(next.Format("Monday, 02-Jan-06 15:04:05 UTC")), aptPasses, form, ""},
		{"valid until, asctime", valid(next.Format(time.ANSIC)), aptPasses, form, ""},
		{"valid until, ISO 8601", valid(next.Format(time.RFC3339)), aptHolds, "", ""},
		{"valid until, no day of that month", valid("Fri, 30 Feb 2035 15:04:05 UTC"), aptPasses, "", "it is no date"},
		{"valid until, garbage", valid("someday"), aptHolds, "", ""},
		{"valid until, empty", valid(""), aptPasses, "", ""},
		{"valid until, with more", valid(oddDate(day) + " (x)"), aptHolds, "", ""},
		{"valid until, on two lines", valid(oddDate(day) + "\n more"), aptHolds, "", ""},
		{"expired", valid(oddDate(-day)), aptHolds, "", ""},
		{"expired, Z", valid(oddTime(-day) + " Z"), aptHolds, "", ""},
		{"expired, and not", valid(oddDate(-day) + "\nValid-Until: " + oddDate(day)), aptPasses, "stands twice", ""},
		{"not expired, and expired", valid(oddDate(day) + "\nValid-Until: " + oddDate(-day)), aptHolds, "", ""},

		{"no date", date(""), aptPasses, "", ""},
		{"a date of garbage", date("Date: someday\n"), aptPasses, "its Date is none", ""},
		{"a date in another zone", date("Date: " + oddTime(-day) + " +0200\n"), aptPasses, "its Date is none", ""},
		{"a date in the future", date("Date: " + oddDate(time.Hour) + "\n"), aptHolds, "", ""},
		{"a date in the future, Z", date("Date: " + oddTime(time.Hour) + " Z\n"), aptHolds, "", ""},
		{"a date in the future, in another zone", date("Date: " + oddTime(day) + " +0200\n"), aptPasses, "its Date is none", ""},
		{"a date in the past, and one in the future", date("Date: " + oddDate(-day) + "\nDate: " + oddDate(day) + "\n"), aptHolds, "", ""},
		{"a date in the future, and one in the past", date("Date: " + oddDate(day) + "\nDate: " + oddDate(-day) + "\n"), aptPasses, "stands twice", ""},
	}
}

// oddReleases are of the Release.
func oddReleases() []oddCase {
	release := func(f func(string) string) func(*oddRepo) { return func(r *oddRepo) { r.release = f } }
	sub := func(from, to string) func(*oddRepo) {
		return release(func(s string) string { return strings.Replace(s, from, to, 1) })
	}
	more := func(text string) func(*oddRepo) { return release(func(s string) string { return s + text }) }
	const lists = "SHA256:\n"
	// first changes the first line of the lists, that of Packages.
	first := func(f func(string) string) func(*oddRepo) {
		return release(func(s string) string {
			at := strings.Index(s, lists) + len(lists)
			end := at + strings.IndexByte(s[at:], '\n')
			return s[:at] + f(s[at:end]) + s[end:]
		})
	}
	weak := func(field string, sum func(string) string) func(*oddRepo) {
		return func(r *oddRepo) {
			r.release = func(s string) string {
				text := s[:strings.Index(s, lists)] + field + ":\n"
				for name, data := range r.listed {
					text += fmt.Sprintf(" %s %d %s\n", sum(data), len(data), name)
				}
				return text
			}
		}
	}
	const unclean = "by a name that is not clean"
	return []oddCase{
		{"Release, two paragraphs", more("\nOrigin: x\n"), aptPasses, "more than one paragraph", ""},
		{"Release, and garbage", more("\n<html>\n"), aptPasses, "more than one paragraph", ""},
		{"Release, lists in the second paragraph", sub(lists, "\n"+lists), aptHolds, "", ""},
		{"Release, empty line first", release(func(s string) string { return "\n" + s }), aptPasses, "", ""},
		{"Release, further line first", release(func(s string) string { return " x\n" + s }), aptPasses, "further line", ""},
		{"Release, line of blanks", sub(lists, " \n"+lists), aptPasses, "line of blanks", ""},
		{"Release, line of blanks in the lists", sub(lists, lists+" \n"), aptPasses, "line of blanks", ""},
		{"Release, garbage", sub(lists, "garbage\n"+lists), aptHolds, "", ""},
		{"Release, garbage at the end", more("garbage\n"), aptHolds, "", ""},
		{"Release, comment", sub(lists, "# c\n"+lists), aptHolds, "", ""},
		{"Release, comment with a colon", sub(lists, "# c: d\n"+lists), aptPasses, "no name of a field", ""},
		{"Release, CRLF", release(func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }), aptPasses, "", ""},
		{"Release, fields in lower case", sub(lists, "sha256:\n"), aptPasses, "", ""},
		{"Release, first of the list on the line of the field", sub(lists, "SHA256:"), aptPasses, "", ""},
		{"Release, the list twice", release(func(s string) string { return s + s[strings.Index(s, lists):] }), aptPasses, "", ""},
		{"Release, lists nothing", release(func(s string) string { return s[:strings.Index(s, lists)] }), aptHolds, "", ""},
		{"Release, lists ../", more(" " + oddSum + " 9 ../../x\n"), aptPasses, unclean, ""},
		{"Release, lists /", more(" " + oddSum + " 9 /x\n"), aptPasses, unclean, ""},
		{"Release, lists ./", release(func(s string) string { return strings.ReplaceAll(s, " main/", " ./main/") }), aptHolds, "", ""},
		{"Release, lists ./ in a flat repository", func(r *oddRepo) {
			r.dist = "./"
			r.release = func(s string) string { return strings.ReplaceAll(s, " Packages", " ./Packages") }
		}, aptHolds, "", ""},
		{"Release, lists the plain form only packed", func(r *oddRepo) {
			r.release = func(s string) string {
				at := strings.Index(s, lists) + len(lists)
				return s[:at] + s[at+strings.IndexByte(s[at:], '\n')+1:]
			}
		}, aptHolds, "", ""},
		{"Release, lists the same otherwise", first(func(s string) string { return s + "\n" + strings.Replace(s, " ", " 0", 1)[:65] + s[65:] }), aptPasses, "lists a file twice", ""},
		{"Release, lists the same otherwise before", first(func(s string) string { return " " + oddSum + s[65:] + "\n" + s }), aptHolds, "", ""},
		{"Release, a line of two words", more(" " + oddSum + " 9\n"), aptHolds, "", ""},
		{"Release, a line of four words", more(" " + oddSum + " 9 x y\n"), aptHolds, "", ""},
		{"Release, half a checksum of what is not there", more(" 1234 9 x\n"), aptPasses, "no size or checksum", ""},
		{"Release, no size of what is not there", more(" " + oddSum + " many x\n"), aptPasses, "no size or checksum", ""},
		{"Release, checksums in upper case", release(func(s string) string {
			at := strings.Index(s, lists) + len(lists)
			text := ""
			for line := range strings.Lines(s[at:]) {
				text += strings.ToUpper(line[:65]) + line[65:]
			}
			return s[:at] + text
		}), aptHolds, "", ""},
		{"Release, MD5 only", weak("MD5Sum", func(s string) string { return fmt.Sprintf("%x", md5.Sum([]byte(s))) }), aptHolds, "", ""},
		{"Release, SHA1 only", weak("SHA1", func(s string) string { return fmt.Sprintf("%x", sha1.Sum([]byte(s))) }), aptHolds, "", ""},
	}
}

// oddNames are of where packages are.
func oddNames() []oddCase {
	name := func(name string) func(*oddRepo) {
		return func(r *oddRepo) { r.replace("Filename: pool/a_1_all.deb", "Filename: "+name) }
	}
	at := func(file string) func(*oddRepo) {
		return func(r *oddRepo) { name(file)(r); r.files[file] = oddPackage }
	}
	flat := func(dist string) func(*oddRepo) { return func(r *oddRepo) { r.dist = dist } }
	return []oddCase{
		{"name, /", name("/pool/a_1_all.deb"), aptPasses, "begins with a slash", ""},
		{"name, //", name("//pool/a_1_all.deb"), aptPasses, "begins with a slash", ""},
		{"name, ./", name("./pool/a_1_all.deb"), aptPasses, "", ""},
		{"name, // within", name("pool//a_1_all.deb"), aptPasses, "", ""},
		{"name, ..", name("pool/../pool/a_1_all.deb"), aptPasses, "leads up", ""},
		{"name, blank", at("pool/a 1.deb"), aptPasses, "", ""},
		{"name, percent", at("pool/a%2b1.deb"), aptPasses, "", ""},
		{"name, percent for a plus", func(r *oddRepo) { name("pool/a%2b1.deb")(r); r.files["pool/a+1.deb"] = oddPackage }, aptHolds, "", ""},
		{"name, hash", at("pool/a#1.deb"), aptPasses, "", ""},
		{"name, question mark", at("pool/a?1.deb"), aptHolds, "", ""},
		{"name, ä", at("pool/ä.deb"), aptPasses, "", ""},
		{"name, address", name("http://127.0.0.1/pool/a_1_all.deb"), aptHolds, "", ""},
		{"name, empty", name(""), aptHolds, "", ""},
		{"name, on the next line", name("\n pool/a_1_all.deb"), aptPasses, "", ""},
		{"name, on two lines", name("pool/a_1_all.deb\n more"), aptHolds, "", ""},
		{"name, in blanks", name("\tpool/a_1_all.deb \t"), aptPasses, "", ""},
		{"name, none", func(r *oddRepo) { r.replace("Filename: pool/a_1_all.deb\n", "") }, aptHolds, "", ""},
		{"flat, ./", flat("./"), aptPasses, "", ""},
		{"flat, /", flat("/"), aptPasses, "", ""},
		{"flat, sub/", flat("sub/"), aptPasses, "", ""},
		{"flat, sub/sub/", flat("sub/sub/"), aptPasses, "", ""},
	}
}

// oddFields are of the fields of a package.
func oddFields() []oddCase {
	sub := func(from, to string) func(*oddRepo) { return func(r *oddRepo) { r.replace(from, to) } }
	size := fmt.Sprintf("Size: %d\n", len(oddPackage))
	sum := "SHA256: " + oddSum + "\n"
	zero := "SHA256: " + strings.Repeat("0", 64) + "\n"
	const twice = "stands twice"
	return []oddCase{
		{"a second Filename, wrong before", sub("Filename:", "Filename: none\nFilename:"), aptPasses, twice, ""},
		{"a second Filename, wrong", sub("Size:", "Filename: none\nSize:"), aptHolds, "", ""},
		{"a second Size", sub("SHA256:", size+"SHA256:"), aptPasses, twice, ""},
		{"a second Size, wrong before", sub("Size:", "Size: 99\nSize:"), aptPasses, twice, ""},
		{"a second Size, wrong", sub("SHA256:", "Size: 99\nSHA256:"), aptHolds, "", ""},
		{"a second SHA256, wrong before", sub("SHA256:", zero+"SHA256:"), aptPasses, twice, ""},
		{"a second SHA256, wrong", sub("Description:", zero+"Description:"), aptHolds, "", ""},
		{"a second Package", sub("Package: a\n", "Package: b\nPackage: a\n"), aptPasses, twice, ""},
		{"no Size", sub(size, ""), aptHolds, "", ""},
		{"wrong Size", sub(size, "Size: 99\n"), aptHolds, "", ""},
		{"empty Size", sub(size, "Size:\n"), aptHolds, "", ""},
		{"Size 0", sub(size, "Size: 0\n"), aptHolds, "", ""},
		{"Size +9", sub(size, "Size: +9\n"), aptPasses, "", ""},
		{"Size 9 bytes", sub(size, "Size: 9 bytes\n"), aptPasses, "more than a number", ""},
		{"Size -9", sub(size, "Size: -9\n"), aptHolds, "", ""},
		{"Size x", sub(size, "Size: x\n"), aptHolds, "", ""},
		{"no checksum", sub(sum, ""), aptHolds, "", ""},
		{"MD5 only", sub(sum, fmt.Sprintf("MD5sum: %x\n", md5.Sum([]byte(oddPackage)))), aptHolds, "", ""},
		{"SHA1 only", sub(sum, fmt.Sprintf("SHA1: %x\n", sha1.Sum([]byte(oddPackage)))), aptHolds, "", ""},
		{"checksum in upper case", sub(oddSum, strings.ToUpper(oddSum)), aptHolds, "", ""},
		{"half a checksum", sub(oddSum, "12"), aptHolds, "", ""},
		{"wrong checksum", sub(sum, zero), aptHolds, "", ""},
		{"empty checksum", sub(sum, "SHA256:\n"), aptHolds, "", ""},
		{"wrong MD5 beside the right SHA256", sub("SHA256:", fmt.Sprintf("MD5sum: %x\nSHA256:", md5.Sum(nil))), aptHolds, "", "the gate compares the best checksum only"},
		{"no Package", sub("Package: a\n", ""), aptHolds, "", ""},
		{"empty Package", sub("Package: a\n", "Package:\n"), aptHolds, "", ""},
		{"listed twice", func(r *oddRepo) { r.packages += r.packages }, aptPasses, "", ""},
		{"listed twice, with another checksum", func(r *oddRepo) {
			r.packages += strings.Replace(r.packages, sum, zero, 1)
		}, aptPasses, "", "apt takes the one that it comes to first, which is as good as chance"},
	}
}

// oddTexts are of the text of Packages.
func oddTexts() []oddCase {
	sub := func(from, to string) func(*oddRepo) { return func(r *oddRepo) { r.replace(from, to) } }
	text := func(f func(string) string) func(*oddRepo) { return func(r *oddRepo) { r.packages = f(r.packages) } }
	const blanks, noName = "a line of blanks", "no name of a field"
	return []oddCase{
		{"line of one blank", sub("Size:", " \nSize:"), aptPasses, blanks, ""},
		{"line of one blank in a description", sub(" more\n", " more\n \n again\n"), aptPasses, blanks, ""},
		{"line of a tab", sub("Size:", "\t\nSize:"), aptPasses, blanks, ""},
		{"line of one blank first", text(func(s string) string { return " \n" + s }), aptPasses, blanks, ""},
		{"empty line within", sub("Size:", "\nSize:"), aptHolds, "", ""},
		{"line of CR within", sub("Size:", "\r\nSize:"), aptHolds, "", ""},
		{"empty line first", text(func(s string) string { return "\n" + s }), aptPasses, "begins with an empty line", ""},
		{"two empty lines first", text(func(s string) string { return "\n\n" + s }), aptHolds, "", ""},
		{"empty lines between and after", text(func(s string) string { return s + "\n\n" + strings.Replace(s, ": a\n", ": b\n", 1) + "\n\n" }), aptPasses, "", ""},
		{"fields in upper case", sub("Filename", "FILENAME"), aptPasses, "", ""},
		{"blank before the colon", sub("Size:", "Size :"), aptPasses, "", ""},
		{"no blank after the colon", sub("Size: ", "Size:"), aptPasses, "", ""},
		{"field of two words", sub("Size:", "A B: x\nSize:"), aptPasses, noName, ""},
		{"field without a name", sub("Size:", ": x\nSize:"), aptPasses, noName, ""},
		{"garbage", sub("Size:", "garbage\nSize:"), aptHolds, "", ""},
		{"garbage first", text(func(s string) string { return "garbage\n" + s }), aptHolds, "", ""},
		{"garbage last", text(func(s string) string { return strings.TrimSpace(s) + "\ngarbage\n\n" }), aptHolds, "", ""},
		{"further line first", text(func(s string) string { return " x\n" + s }), aptPasses, "further line", ""},
		{"comment with a colon", sub("Size:", "# Size: 5\nSize:"), aptPasses, noName, ""},
		{"comment first", text(func(s string) string { return "# hello\n\n" + s }), aptHolds, "", ""},
		{"CRLF", text(func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }), aptPasses, "", ""},
		{"no end of the last line", text(func(s string) string { return strings.TrimRight(s, "\n") }), aptPasses, "", ""},
		{"HTML", text(func(string) string { return "<html>\n<body>503</body>\n" }), aptHolds, "", ""},
		{"NUL", sub("Size:", "X: \x00\nSize:"), aptPasses, "", ""},
		{"byte order mark", text(func(s string) string { return "\ufeff" + s }), aptHolds, "", ""},
		{"long line", sub("Size:", "X: "+strings.Repeat("x", 1_000_000)+"\nSize:"), aptPasses, "", ""},
		{"endless line", sub("Size:", "X: "+strings.Repeat("x", 1<<20)+"\nSize:"), aptHolds, "", ""},
	}
}

// oddSignatures are of Release.gpg, and of an InRelease without Release.
func oddSignatures(t *testing.T) []oddCase {
	other, _ := oddKey(t)
	sign := func(key *openpgp.Entity, text string) string {
		var b bytes.Buffer
		if err := openpgp.ArmoredDetachSign(&b, []*openpgp.Entity{key}, strings.NewReader(text), nil); err != nil {
			t.Fatal(err)
		}
		return b.String() + "\n"
	}
	detached := func(f func(key *openpgp.Entity, text string) string) func(*oddRepo) {
		return func(r *oddRepo) {
			r.signed = func(r *oddRepo, text string, key *openpgp.Entity) {
				r.files[path.Join(r.dir(), "Release.gpg")] = f(key, text)
			}
		}
	}
	inline := func(f func(message string) string) func(*oddRepo) {
		return func(r *oddRepo) {
			r.signed = func(r *oddRepo, text string, key *openpgp.Entity) {
				var b bytes.Buffer
				w, err := clearsign.Encode(&b, key.PrivateKey, nil)
				if err == nil {
					_, err = io.WriteString(w, text)
					err = errors.Join(err, w.Close())
				}
				if err != nil {
					t.Fatal(err)
				}
				r.files[path.Join(r.dir(), "InRelease")] = f(b.String() + "\n")
				delete(r.files, path.Join(r.dir(), "Release"))
				delete(r.files, path.Join(r.dir(), "Release.gpg"))
			}
		}
	}
	and := func(more string) func(string) string { return func(s string) string { return s + more } }
	const begin = "-----BEGIN PGP SIGNATURE-----"
	return []oddCase{
		{"Release.gpg, a second block of another key", detached(func(key *openpgp.Entity, s string) string { return sign(key, s) + sign(other, s) }), aptPasses, "", ""},
		{"Release.gpg, a first block of another key", detached(func(key *openpgp.Entity, s string) string { return sign(other, s) + sign(key, s) }), aptPasses, "", ""},
		{"Release.gpg, of another key", detached(func(_ *openpgp.Entity, s string) string { return sign(other, s) }), aptHolds, "", ""},
		{"Release.gpg, a second block of something else", detached(func(key *openpgp.Entity, s string) string { return sign(key, s) + sign(key, "x") }), aptHolds, "", "to the gate one good signature is enough"},
		{"Release.gpg, empty line first", detached(func(key *openpgp.Entity, s string) string { return "\n" + sign(key, s) }), aptHolds, "", ""},
		{"Release.gpg, empty line last", detached(func(key *openpgp.Entity, s string) string { return sign(key, s) + "\n" }), aptHolds, "", ""},
		{"Release.gpg, text last", detached(func(key *openpgp.Entity, s string) string { return sign(key, s) + "x\n" }), aptHolds, "", ""},
		{"Release.gpg, not armored", detached(func(key *openpgp.Entity, s string) string {
			var b bytes.Buffer
			if err := openpgp.DetachSign(&b, []*openpgp.Entity{key}, strings.NewReader(s), nil); err != nil {
				t.Fatal(err)
			}
			return b.String()
		}), aptHolds, "", ""},
		{"Release.gpg, CRLF", detached(func(key *openpgp.Entity, s string) string { return strings.ReplaceAll(sign(key, s), "\n", "\r\n") }), aptPasses, "", ""},
		{"Release.gpg, no end", detached(func(key *openpgp.Entity, s string) string { s = sign(key, s); return s[:len(s)-30] }), aptHolds, "", ""},
		{"InRelease", inline(and("")), aptPasses, "", ""},
		{"InRelease, CRLF", inline(func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }), aptPasses, "", ""},
		{"InRelease, empty line first", inline(func(s string) string { return "\n" + s }), aptHolds, "", ""},
		{"InRelease, empty line last", inline(and("\n")), aptHolds, "", ""},
		{"InRelease, text last", inline(and("x\n")), aptHolds, "", ""},
		{"InRelease, two blocks", inline(func(s string) string { return s + s[strings.Index(s, begin):] }), aptPasses, "", ""},
		{"InRelease, twice", inline(func(s string) string { return s + s }), aptHolds, "", ""},
		{"InRelease, no end", inline(func(s string) string { return s[:len(s)-30] }), aptHolds, "", ""},
		{"InRelease, not signed", inline(func(s string) string { return s[strings.Index(s, "Origin:"):strings.Index(s, begin)] }), aptHolds, "", ""},
	}
}

// oddPackings are of how Packages is compressed.
func oddPackings(t *testing.T) []oddCase {
	packed := func(ext string, f func(string) string) func(*oddRepo) {
		return func(r *oddRepo) { r.ext, r.pack = ext, f }
	}
	xz := func(s string) string { return through(t, s, "xz") }
	bz := func(s string) string { return through(t, s, "bzip2") }
	zst := func(s string) string { return through(t, s, "zstd", "-c") }
	half := func(pack func(string) string) func(string) string {
		return func(s string) string { return pack(s[:40]) + pack(s[40:]) }
	}
	and := func(pack func(string) string, more string) func(string) string {
		return func(s string) string { return pack(s) + more }
	}
	cut := func(pack func(string) string, n int) func(string) string {
		return func(s string) string { s = pack(s); return s[:len(s)-n] }
	}
	zeros := strings.Repeat("\x00", 512)
	const garbage, more = "garbage, and more of it", "there is more"
	return []oddCase{
		{"gzip of other packages", packed(".gz", func(s string) string { return gzipped(strings.Replace(s, ": x\n", ": y\n", 1)) }), aptHolds, "", ""},
		{"gzip, members", packed(".gz", half(gzipped)), aptPasses, "", ""},
		{"gzip, zeros", packed(".gz", and(gzipped, zeros)), aptPasses, more, ""},
		{"gzip, a zero", packed(".gz", and(gzipped, "\x00")), aptPasses, more, ""},
		{"gzip, garbage", packed(".gz", and(gzipped, garbage)), aptPasses, more, ""},
		{"gzip, no member", packed(".gz", and(gzipped, "\x1f\x8b"+garbage)), aptHolds, "", ""},
		{"gzip, zeros and a member", packed(".gz", and(gzipped, zeros+gzipped("x"))), aptPasses, more, ""},
		{"gzip, no checksum", packed(".gz", cut(gzipped, 8)), aptPasses, "", "other clients do not: it is cut off"},
		{"gzip, cut off", packed(".gz", cut(gzipped, 40)), aptHolds, "", ""},
		{"gzip, wrong length", packed(".gz", func(s string) string { return cut(gzipped, 4)(s) + "xxxx" }), aptHolds, "", ""},
		{"gzip, not compressed", packed(".gz", func(s string) string { return s }), aptPasses, "", "other clients do not take it"},
		{"gzip, empty", packed(".gz", func(string) string { return "" }), aptHolds, "", ""},
		{"xz", packed(".xz", xz), aptPasses, "", ""},
		{"xz, padded", packed(".xz", and(xz, zeros)), aptPasses, "", ""},
		{"xz, half padded", packed(".xz", and(xz, "\x00\x00\x00")), aptPasses, "", "xz itself refuses it"},
		{"xz, garbage", packed(".xz", and(xz, garbage)), aptPasses, more, ""},
		{"xz, streams", packed(".xz", half(xz)), aptHolds, "", ""},
		{"xz, cut off", packed(".xz", cut(xz, 4)), aptHolds, "", ""},
		{"xz, SHA-256", packed(".xz", func(s string) string { return through(t, s, "xz", "--check=sha256") }), aptPasses, "", ""},
		{"xz, no check", packed(".xz", func(s string) string { return through(t, s, "xz", "--check=none") }), aptPasses, "", ""},
		{"xz that is gzip", packed(".xz", gzipped), aptHolds, "", ""},
		{"bzip2", packed(".bz2", bz), aptPasses, "", ""},
		{"bzip2, streams", packed(".bz2", half(bz)), aptHolds, "", ""},
		{"bzip2, zeros", packed(".bz2", and(bz, zeros)), aptPasses, more, ""},
		{"bzip2, garbage", packed(".bz2", and(bz, garbage)), aptPasses, more, ""},
		{"bzip2, cut off", packed(".bz2", cut(bz, 4)), aptHolds, "", ""},
		{"zstd", packed(".zst", zst), aptPasses, "", ""},
		{"zstd, frames", packed(".zst", half(zst)), aptPasses, "", ""},
		{"zstd, zeros", packed(".zst", and(zst, zeros)), aptHolds, "", ""},
		{"zstd, garbage", packed(".zst", and(zst, garbage)), aptHolds, "", ""},
		{"zstd, cut off", packed(".zst", cut(zst, 4)), aptHolds, "", ""},
	}
}
