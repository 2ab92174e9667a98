package gate

import (
	"encoding/json"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"

	"golang.org/x/net/html"
)

// A link is what a page of the simple repository API has of a file.
type link struct {
	href     string
	size     int64 // -1 if it is not told
	sum      digest
	metadata string // "", or of data-core-metadata (PEP 658, 714)
}

// readHTML calls see with the links of a page.
func readHTML(r io.Reader, see func(link) error) error {
	z := html.NewTokenizer(r)
	z.SetMaxBuf(maxToken)
	tags, open := false, false
	p := htmlLinks{see: see}
	for {
		switch z.Next() {
		case html.ErrorToken:
			switch {
			case z.Err() != io.EOF:
				return z.Err()
			case !tags:
				return bad("is not a page of HTML")
			case open:
				return bad("is cut off")
			}
			return nil
		case html.StartTagToken, html.SelfClosingTagToken:
			name, attrs := z.TagName()
			tags = true
			if string(name) == "html" {
				open = true
			}
			if err := p.tag(string(name), z, attrs); err != nil {
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
	see   func(link) error
	base  string
	count int
}

func (p *htmlLinks) tag(name string, z *html.Tokenizer, attrs bool) error {
	if name != "a" && name != "base" {
		return nil
	}
	l, ok := anchor(z, attrs)
	switch {
	case !ok:
		return nil
	case name == "a":
		p.count++
		l.href = rebase(p.base, l.href)
		return p.see(l)
	case p.base != "":
		return nil
	case p.count > 0:
		return bad("has a base after a link")
	}
	p.base = l.href
	return nil
}

// rebase returns a link of a page with a base as it would be without one.
func rebase(base, href string) string {
	u, err := url.Parse(href)
	if base == "" || err != nil || u.Scheme != "" || u.Host != "" || u.Path == "" || u.Path[0] == '/' {
		return href
	}
	if i := strings.IndexAny(base, "?#"); i >= 0 {
		base = base[:i]
	}
	return base[:strings.LastIndexByte(base, '/')+1] + href
}

// anchor reads the attributes of an a, or a base.
func anchor(z *html.Tokenizer, more bool) (l link, ok bool) {
	l.size = -1
	for more {
		var name, value []byte
		name, value, more = z.TagAttr()
		switch string(name) {
		case "href":
			l.href, ok = strings.TrimSpace(string(value)), true
		case "data-core-metadata":
			l.metadata = string(value)
		case "data-dist-info-metadata": // its old name
			if l.metadata == "" {
				l.metadata = string(value)
			}
		}
	}
	return l, ok
}

// readJSON calls see with the links of a page of PEP 691: those of a project, or,
// if key is "projects", those to the projects.
func readJSON(r io.Reader, key string, see func(link) error) error {
	d := json.NewDecoder(r)
	if err := delim(d, '{'); err != nil {
		return err
	}
	found := false
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		if name == key {
			found = true
			err = readLinks(d, see)
		} else {
			err = d.Decode(new(json.RawMessage))
		}
		if err != nil {
			return err
		}
	}
	if err := delim(d, '}'); err != nil {
		return err
	}
	if !found {
		return bad("has no %s", key)
	}
	switch _, err := d.Token(); err {
	case io.EOF:
		return nil
	case nil:
		return bad("has more than one value in it")
	default:
		return err
	}
}

func readLinks(d *json.Decoder, see func(link) error) error {
	if err := delim(d, '['); err != nil {
		return err
	}
	for d.More() {
		var item struct {
			Name    string            `json:"name"` // of a project
			URL     string            `json:"url"`
			Hashes  map[string]string `json:"hashes"`
			Size    *int64            `json:"size"`
			Core    any               `json:"core-metadata"`
			OldCore any               `json:"dist-info-metadata"`
		}
		if err := d.Decode(&item); err != nil {
			return err
		}
		l := link{href: item.URL, size: -1}
		if item.Name != "" {
			l.href = item.Name + "/"
		}
		if item.Size != nil && *item.Size >= 0 {
			l.size = *item.Size
		}
		for _, kind := range digestKinds {
			if text, ok := item.Hashes[kind]; ok {
				var err error
				if l.sum, err = parseDigest(kind, text); err != nil {
					return err
				}
				break
			}
		}
		if l.metadata = metadata(item.Core); l.metadata == "" {
			l.metadata = metadata(item.OldCore)
		}
		if err := see(l); err != nil {
			return err
		}
	}
	return delim(d, ']')
}

// metadata returns a value of JSON as HTML has it.
func metadata(v any) string {
	switch v := v.(type) {
	case bool:
		if v {
			return "true"
		}
	case map[string]any:
		for _, kind := range digestKinds {
			if text, ok := v[kind].(string); ok {
				return kind + "=" + text
			}
		}
		return "true"
	}
	return ""
}

func delim(d *json.Decoder, want json.Delim) error {
	token, err := d.Token()
	if err == nil && token != want {
		err = bad("has no %s before byte %d", want, d.InputOffset())
	}
	return err
}

// linkDigest reads a checksum as links have it: "sha256=...". What is of no known kind
// is none. Its error is a fileError.
func linkDigest(text string) (digest, error) {
	for part := range strings.SplitSeq(text, "&") {
		kind, sum, ok := strings.Cut(part, "=")
		if ok && slices.Contains(digestKinds, kind) {
			return parseDigest(kind, sum)
		}
	}
	return digest{}, nil
}

// resolve returns what a link on the page at the address base leads to, both
// relative to the web directory; root is the address of that, if links have it. Its
// error is a fileError.
func resolve(base, href, root string) (name string, sum digest, err error) {
	href, fragment, _ := strings.Cut(href, "#")
	if sum, err = linkDigest(fragment); err != nil {
		return "", sum, err
	}
	href, _, _ = strings.Cut(href, "?")
	if root != "" {
		if rest, ok := strings.CutPrefix(href, strings.TrimSuffix(root, "/")+"/"); ok {
			base, href = "", rest
		}
	}
	u, err := url.Parse(href)
	switch {
	case err != nil || strings.IndexByte(u.Path, 0) >= 0:
		return "", sum, bad("links %s, which is not an address", show(href))
	case u.Scheme != "" || u.Host != "" || strings.HasPrefix(u.Path, "/"):
		return "", sum, bad("links %s, which is not relative to the page", show(href))
	case u.Path == "":
		return "", sum, bad("has a link to nothing")
	}
	// An address like ../../x is relative to the page's directory.
	at := strings.FieldsFunc(base, func(r rune) bool { return r == '/' })
	for part := range strings.SplitSeq(u.Path, "/") {
		switch {
		case part == "" || part == ".":
		case part != "..":
			at = append(at, part)
		case len(at) == 0:
			return "", sum, bad("links %s, which leads out of the web directory", show(href))
		default:
			at = at[:len(at)-1]
		}
	}
	return path.Join(at...), sum, nil
}
