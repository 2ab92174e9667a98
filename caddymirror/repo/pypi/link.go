// Package pypi reads and writes the pages of the simple repository API, which Python package indexes
// have (PEP 503, 592, 658, 691, 700, 714).
package pypi

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// A File is what a page of the simple repository API (PEP 503, 691) has of a file, or of a
// project in the list of all.
type File struct {
	// URL is the address as it stands on the page, see [Resolve].
	URL string

	// Size is in bytes (PEP 700), -1 if it is not told: HTML has none.
	Size int64

	// Digest is the checksum in JSON; HTML has it in the URL, see [DigestOfURL].
	Digest digest.Digest

	// Metadata says that the file's metadata are beside it, under its name and
	// ".metadata" (PEP 658, 714).
	Metadata bool

	// MetadataDigest is the checksum of the metadata, if that is told.
	MetadataDigest digest.Digest

	// RequiresPython says which Pythons the file is for, empty if that is not told.
	RequiresPython string

	// UploadTime is when the file was uploaded (PEP 700), zero if it is not told: HTML
	// has none.
	UploadTime time.Time

	// Yanked says that installers do not choose the file unless they must (PEP 592), and
	// YankedReason why.
	Yanked       bool
	YankedReason string
}

// PageNames are the names of bandersnatch's pages, the one with the most information last.
var PageNames = []string{"index.html", "index.v1_html", "index.v1_json"}

// A Reader reads a page as pip does: what pip refuses is an error; what it accepts though
// it is wrong is remarked. No more than one link is in memory, of up to [bounded.MaxToken]
// bytes.
type Reader struct {
	// See is called with each file, or project. Its error ends the reading.
	See func(File) error

	// Remark is called with one of a few sentences about the page.
	Remark func(text string)
}

// distributions are the endings of files of a project: those that pip takes, and those
// that there were before.
var distributions = []string{
	".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar", ".tbz", ".tar.xz", ".txz", ".tlz", ".tar.lz", ".tar.lzma",
	".egg", ".tar.z", ".exe", ".msi", ".rpm", ".deb", ".dmg",
}

// IsDistribution reports whether a file with this name may belong to a project. Other
// links of a page are not followed by pip: "../", mail addresses, a home page.
func IsDistribution(name string) bool {
	name = strings.ToLower(strings.TrimSpace(name))
	return slices.ContainsFunc(distributions, func(end string) bool { return strings.HasSuffix(name, end) && len(name) > len(end) })
}

// cleanHref returns a link without what Python, and browsers, drop from it (the URL
// standard, section 4.4). Blanks at its end are not dropped by pip.
func cleanHref(href string) string {
	href = strings.TrimLeftFunc(href, func(r rune) bool { return r <= ' ' })
	return strings.NewReplacer("\t", "", "\r", "", "\n", "").Replace(href)
}

// linkSum is a checksum as links have it: "...#sha256=...", or after other parameters.
var linkSum = regexp.MustCompile(`[#&](sha512|sha384|sha256|sha224|sha1|md5)=([^&]*)`)

// DigestOfURL returns the checksum that an address on a page has after its path,
// "#sha256=...", none if there is no such. Its error is a fault.Error.
func DigestOfURL(href string) (digest.Digest, error) {
	i := strings.IndexAny(href, "?#")
	if i < 0 {
		return digest.Digest{}, nil
	}
	m := linkSum.FindStringSubmatch(href[i:])
	if m == nil || m[2] == "" {
		return digest.Digest{}, nil
	}
	return lowerDigest(m[1], m[2])
}

// lowerDigest is [digest.Parse] for those who compare the text. Its error is a fault.Error.
func lowerDigest(kind, text string) (digest.Digest, error) {
	if text != strings.ToLower(text) {
		return digest.Digest{}, fault.Errorf("has %s for a checksum; pips before 24 compare it as text, and take lower case only", fault.Show(text))
	}
	return digest.Parse(kind, text)
}

// metadataDigest reads a checksum as attributes have it: "sha256=...". What is of no known
// kind is none. Its error is a fault.Error.
func metadataDigest(text string) (digest.Digest, error) {
	kind, sum, ok := strings.Cut(text, "=")
	if !ok || !slices.Contains(digest.Kinds, kind) {
		return digest.Digest{}, nil
	}
	return lowerDigest(kind, sum)
}

var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

// Resolve returns what a link on the page at the address base leads to, both relative to
// the web directory; root is the address of that, if links have it. name is empty if that
// is no file of a project, see [IsDistribution], unless all is set. Its error is a fault.Error.
func Resolve(base, href, root string, all bool) (name string, err error) {
	href = cleanHref(href)
	if i := strings.IndexAny(href, "?#"); i >= 0 {
		href = href[:i]
	}
	shown := href
	if root != "" {
		if rest, ok := strings.CutPrefix(href, strings.TrimSuffix(root, "/")+"/"); ok {
			base, href = "", rest
		}
	}
	text := unescape(href)
	if !all && !IsDistribution(text[strings.LastIndexByte(text, '/')+1:]) {
		return "", nil
	}
	switch {
	case !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0:
		return "", fault.Errorf("links %s, which is not an address", fault.Show(shown))
	case scheme.MatchString(href) || strings.HasPrefix(href, "/"):
		return "", fault.Errorf("links %s, which is not relative to the page (if addresses of this mirror begin so, set root_uri)", fault.Show(shown))
	case text == "":
		return "", fault.Errorf("has a link to nothing")
	}
	// An address like ../../x is relative to the page's directory.
	at := strings.FieldsFunc(base, func(r rune) bool { return r == '/' })
	for part := range strings.SplitSeq(text, "/") {
		switch {
		case part == "" || part == ".":
		case part != "..":
			at = append(at, part)
		case len(at) == 0:
			return "", fault.Errorf("links %s, which leads out of the web directory", fault.Show(shown))
		default:
			at = at[:len(at)-1]
		}
	}
	return path.Join(at...), nil
}

// unescape returns the path of an address without its escapes. What is no escape stays,
// as with pip, which escapes it again.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]) {
			b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
			i += 2
			continue
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}
