package gate

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// A link is what a page of the simple repository API has of a file.
type link struct {
	href string
	size int64  // -1 if it is not told
	sum  digest // of JSON; HTML has it in href

	// metadata says that the file's metadata are beside it (PEP 658, 714), with this
	// checksum, if that is told.
	metadata    bool
	metadataSum digest

	yanked bool // (PEP 592)
}

// A page is what a page is read with.
type page struct {
	see    func(link) error
	remark func(text string) // of what pip takes, though it should be otherwise
}

// distributions are the endings of files of a project: those that pip takes, and those
// that there were before.
var distributions = []string{
	".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar", ".tbz", ".tar.xz", ".txz", ".tlz", ".tar.lz", ".tar.lzma",
	".egg", ".tar.z", ".exe", ".msi", ".rpm", ".deb", ".dmg",
}

// isDistribution reports whether a file with this name may belong to a project. Other
// links of a page are not followed by pip: "../", mail addresses, a home page.
func isDistribution(name string) bool {
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

// sumOfLink returns the checksum that a link has after its path. Its error is a fileError.
func sumOfLink(href string) (digest, error) {
	i := strings.IndexAny(href, "?#")
	if i < 0 {
		return digest{}, nil
	}
	m := linkSum.FindStringSubmatch(href[i:])
	if m == nil || m[2] == "" {
		return digest{}, nil
	}
	return lowerDigest(m[1], m[2])
}

// lowerDigest is parseDigest for those who compare the text. Its error is a fileError.
func lowerDigest(kind, text string) (digest, error) {
	if text != strings.ToLower(text) {
		return digest{}, bad("has %s for a checksum; pips before 24 compare it as text, and take lower case only", show(text))
	}
	return parseDigest(kind, text)
}

// metadataDigest reads a checksum as attributes have it: "sha256=...". What is of no known
// kind is none. Its error is a fileError.
func metadataDigest(text string) (digest, error) {
	kind, sum, ok := strings.Cut(text, "=")
	if !ok || !slices.Contains(digestKinds, kind) {
		return digest{}, nil
	}
	return lowerDigest(kind, sum)
}

var scheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

// resolve returns what a link on the page at the address base leads to, both relative to
// the web directory; root is the address of that, if links have it. name is empty if that
// is no file of a project, see isDistribution, unless all is set. Its error is a fileError.
func resolve(base, href, root string, all bool) (name string, err error) {
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
	if !all && !isDistribution(text[strings.LastIndexByte(text, '/')+1:]) {
		return "", nil
	}
	switch {
	case !utf8.ValidString(text) || strings.IndexByte(text, 0) >= 0:
		return "", bad("links %s, which is not an address", show(shown))
	case scheme.MatchString(href) || strings.HasPrefix(href, "/"):
		return "", bad("links %s, which is not relative to the page (if addresses of this mirror begin so, set root_uri)", show(shown))
	case text == "":
		return "", bad("has a link to nothing")
	}
	// An address like ../../x is relative to the page's directory.
	at := strings.FieldsFunc(base, func(r rune) bool { return r == '/' })
	for part := range strings.SplitSeq(text, "/") {
		switch {
		case part == "" || part == ".":
		case part != "..":
			at = append(at, part)
		case len(at) == 0:
			return "", bad("links %s, which leads out of the web directory", show(shown))
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
