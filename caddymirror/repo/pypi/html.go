package pypi

import (
	"errors"
	"io"
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/text/encoding"
	"golang.org/x/text/transform"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// HTML reads the links of a page of HTML (PEP 503), of a project or of all projects. Its
// error may be one of reading, or a fault of the page, see [fault.Of].
func (p Reader) HTML(r io.Reader) error {
	// pip fails on a page that is not in UTF-8.
	z := html.NewTokenizer(transform.NewReader(r, encoding.UTF8Validator))
	z.SetMaxBuf(bounded.MaxToken)
	tags, open := false, false
	links := htmlLinks{Reader: p}
	for {
		switch z.Next() {
		case html.ErrorToken:
			switch err := z.Err(); {
			case errors.Is(err, html.ErrBufferExceeded):
				return bounded.ErrTooLong
			case errors.Is(err, encoding.ErrInvalidUTF8):
				return fault.Errorf("is not in UTF-8, which pip needs")
			case err != io.EOF:
				return err
			case !tags:
				return fault.Errorf("is not a page of HTML")
			case open:
				return fault.Errorf("is cut off: its html has no end")
			}
			return nil
		case html.StartTagToken, html.SelfClosingTagToken:
			name, attrs := z.TagName()
			tags = true
			switch string(name) {
			case "html":
				open = true
			case "script", "style":
			default: // pip finds links also in a title or a textarea
				z.NextIsNotRawText()
			}
			if err := links.tag(string(name), z, attrs); err != nil {
				return err
			}
		case html.EndTagToken:
			if name, _ := z.TagName(); string(name) == "html" {
				open = false
			}
		default: // text and the like have no links
		}
	}
}

// htmlLinks are the links of a page, of which the first base says what they are
// relative to.
type htmlLinks struct {
	Reader
	base  string
	based bool // there was a base
	count int
}

func (p *htmlLinks) tag(name string, z *html.Tokenizer, attrs bool) error {
	if name != "a" && name != "base" {
		return nil
	}
	l, ok, err := anchor(z, attrs)
	switch {
	case !ok:
		return nil
	case name == "a":
		if err != nil {
			return err
		}
		p.count++
		l.URL = rebase(p.base, l.URL)
		return p.See(l)
	case p.based:
		return nil
	}
	l.URL = cleanHref(l.URL)
	switch {
	case p.count > 0:
		return fault.Errorf("has a base after a link")
	case l.URL != "" && !strings.Contains(l.URL, "://"):
		return fault.Errorf("has %s for a base; pip takes none but whole addresses", fault.Show(l.URL))
	}
	p.base, p.based = l.URL, true
	return nil
}

// rebase returns a link of a page with a base, which is a whole address, as it would be
// without one.
func rebase(base, href string) string {
	href = cleanHref(href)
	if base == "" || scheme.MatchString(href) {
		return href
	}
	if i := strings.IndexAny(base, "?#"); i >= 0 {
		base = base[:i]
	}
	host := strings.Index(base, "://") + len("://")
	if i := strings.IndexByte(base[host:], '/'); i >= 0 {
		host += i
	} else {
		host, base = len(base), base+"/"
	}
	switch {
	case strings.HasPrefix(href, "//"):
		return href
	case strings.HasPrefix(href, "/"):
		return base[:host] + href
	}
	return base[:strings.LastIndexByte(base, '/')+1] + href
}

// anchor reads the attributes of an a, or a base. Its error is a fault.Error.
func anchor(z *html.Tokenizer, more bool) (l File, ok bool, err error) {
	l.Size = -1
	var text, old string
	var isOld bool
	for more {
		var name, value []byte
		name, value, more = z.TagAttr()
		switch string(name) {
		case "href":
			l.URL, ok = string(value), true
		case "data-core-metadata":
			text, l.Metadata = string(value), true
		case "data-dist-info-metadata": // its old name
			old, isOld = string(value), true
		case "data-yanked":
			l.Yanked, l.YankedReason = true, string(value)
		case "data-requires-python":
			l.RequiresPython = string(value)
		}
	}
	// To pip all values say that there are metadata, "false" too.
	if !l.Metadata && isOld {
		text, l.Metadata = old, true
	}
	l.MetadataDigest, err = metadataDigest(text)
	return l, ok, err
}
