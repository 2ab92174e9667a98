package gate

import (
	"encoding/xml"
	"io"
	"strconv"
	"strings"
	"time"
)

// rpmFile is what the metadata of an RPM repository say of a file.
type rpmFile struct {
	kind string // of metadata: "primary"
	name string // relative to the repository
	size int64  // -1 if it is not told
	sum  digest
	away bool // it is in another place (xml:base)
}

// repomd is what a repomd.xml has.
type repomd struct {
	Data []struct {
		Type     string `xml:"type,attr"`
		Checksum struct {
			Type string `xml:"type,attr"`
			Sum  string `xml:",chardata"`
		} `xml:"checksum"`
		Location struct {
			Href string `xml:"href,attr"`
			Base string `xml:"base,attr"`
		} `xml:"location"`
		Size      *int64 `xml:"size"`
		Timestamp string `xml:"timestamp"`
	} `xml:"data"`
}

// parseRepomd reads a repomd.xml, and when the newest of the metadata were made, zero
// if it does not say. Its error is a fileError.
func parseRepomd(text []byte) (files []rpmFile, made time.Time, err error) {
	var md repomd
	if err := xml.Unmarshal(text, &md); err != nil {
		return nil, made, bad("can not be read: %s", show(err.Error()))
	}
	if len(md.Data) == 0 {
		return nil, made, bad("lists no metadata")
	}
	files = make([]rpmFile, 0, len(md.Data))
	for _, data := range md.Data {
		f := rpmFile{kind: data.Type, name: data.Location.Href, size: -1, away: data.Location.Base != ""}
		if f.sum, err = parseDigest(rpmDigest(data.Checksum.Type), strings.TrimSpace(data.Checksum.Sum)); err != nil {
			return nil, made, err
		}
		if t := parseTimestamp(data.Timestamp); t.After(made) {
			made = t
		}
		if data.Size != nil {
			if *data.Size < 0 {
				return nil, made, bad("says that %s has %d bytes", show(f.name), *data.Size)
			}
			f.size = *data.Size
		}
		files = append(files, f)
	}
	return files, made, nil
}

// parseTimestamp reads seconds since 1970, with fractions from some. It is zero for
// what is no time, which does not make metadata bad.
func parseTimestamp(text string) time.Time {
	seconds, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || seconds < 1 || seconds > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(seconds), 0)
}

// rpmDigest returns the name that a kind of checksum has here.
func rpmDigest(kind string) string {
	if kind = strings.ToLower(kind); kind == "sha" {
		return "sha1"
	}
	return kind
}

// readPrimary reads a primary.xml and calls see with each package. It does not
// keep them. Its error may be a fileError.
func readPrimary(r io.Reader, see func(rpmFile) error) error {
	p := primary{d: xml.NewDecoder(r), see: see}
	p.d.Strict = true
	for {
		// Much of a primary.xml is of no interest, and raw tokens take half the
		// time. So elements are not matched with their ends; the number of packages
		// tells whether all is there.
		token, err := p.d.RawToken()
		if err == io.EOF {
			return p.eof()
		}
		if err != nil {
			return err
		}
		if err := p.take(token); err != nil {
			return err
		}
	}
}

type primary struct {
	d     *xml.Decoder
	see   func(rpmFile) error
	want  int64 // packages
	count int64
	depth int
	ended bool

	pkg  rpmFile
	text *strings.Builder // of the checksum
	kind string
}

func (p *primary) take(token xml.Token) error {
	switch token := token.(type) {
	case xml.StartElement:
		p.depth++
		return p.start(token)
	case xml.CharData:
		if p.text != nil {
			p.text.Write(token)
		}
	case xml.EndElement:
		p.depth--
		return p.end(token.Name.Local)
	}
	return nil
}

// start takes what is in metadata (depth 1), package (2) and its children (3).
func (p *primary) start(e xml.StartElement) error {
	switch {
	case p.depth == 1:
		if e.Name.Local != "metadata" {
			return bad("is not a list of packages, but %s", show(e.Name.Local))
		}
		var err error
		if p.want, err = strconv.ParseInt(attr(e, "", "packages"), 10, 64); err != nil {
			return bad("does not say how many packages it has")
		}
	case p.depth == 2 && e.Name.Local == "package":
		p.pkg = rpmFile{size: -1}
	case p.depth != 3:
	case e.Name.Local == "checksum":
		p.text, p.kind = new(strings.Builder), attr(e, "", "type")
	case e.Name.Local == "size":
		size, err := strconv.ParseInt(attr(e, "", "package"), 10, 64)
		if err != nil || size < 0 {
			return bad("has no size for a package, before byte %d", p.d.InputOffset())
		}
		p.pkg.size = size
	case e.Name.Local == "location":
		p.pkg.name = attr(e, "", "href")
		p.pkg.away = attr(e, "xml", "base") != ""
	}
	return nil
}

func (p *primary) end(name string) error {
	switch {
	case p.depth < 0:
		return bad("can not be read: %s ends, but did not begin", show(name))
	case p.depth == 0:
		p.ended = true
	case p.depth == 1 && name == "package":
		p.count++
		if p.pkg.name == "" {
			return bad("has no location for a package, before byte %d", p.d.InputOffset())
		}
		return p.see(p.pkg)
	case p.depth == 2 && p.text != nil:
		sum, err := parseDigest(rpmDigest(p.kind), strings.TrimSpace(p.text.String()))
		p.text = nil
		p.pkg.sum = sum
		return err
	}
	return nil
}

func (p *primary) eof() error {
	if !p.ended {
		return bad("is cut off")
	}
	if p.count != p.want {
		return bad("has %d packages and says that there are %d", p.count, p.want)
	}
	return nil
}

func attr(e xml.StartElement, space, name string) string {
	for _, a := range e.Attr {
		if a.Name.Space == space && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}
