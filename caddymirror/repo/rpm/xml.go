package rpm

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"io"
	"regexp"
	"strings"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// xmlReader reads the tokens of an XML file as the parsers of dnf do, expat and libxml2:
// it takes the encodings that both know, and refuses what is not well-formed. Of a
// DOCTYPE, entities are not known. It keeps no more than one token in memory.
type xmlReader struct {
	d    *xml.Decoder
	in   *bounded.Reader
	open []xml.Name
	done bool // the root element has ended
}

// newXML returns a reader of the tokens in r. Its error may be a fault.Error.
func newXML(r io.Reader) (*xmlReader, error) {
	text, err := decodeXML(r)
	if err != nil {
		return nil, err
	}
	in := &bounded.Reader{R: text, Err: bounded.ErrTooLong}
	return &xmlReader{d: xml.NewDecoder(in), in: in}, nil
}

// next returns the next token, io.EOF after the end of the root element and of the file.
// It is valid until the next call. Its error may be a fault.Error.
func (x *xmlReader) next() (xml.Token, error) {
	x.in.Left = bounded.MaxToken
	token, err := x.d.RawToken()
	if err == io.EOF && !x.done {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	switch token := token.(type) {
	case xml.StartElement:
		err = x.start(token)
	case xml.EndElement:
		if len(x.open) == 0 || x.open[len(x.open)-1] != token.Name {
			return nil, fault.Errorf("can not be read: %s ends where it is not open, before byte %d", fault.Show(tagName(token.Name)), x.d.InputOffset())
		}
		x.open = x.open[:len(x.open)-1]
		x.done = len(x.open) == 0
	case xml.CharData:
		if len(x.open) == 0 && len(bytes.TrimSpace(token)) > 0 {
			err = fault.Errorf("can not be read: it has text outside of the root element")
		}
	case xml.ProcInst:
		if strings.EqualFold(token.Target, "xml") {
			err = fault.Errorf("can not be read: its XML declaration is not at the start")
		}
	}
	return token, err
}

func (x *xmlReader) start(e xml.StartElement) error {
	switch {
	case x.done:
		return fault.Errorf("can not be read: %s begins after the end of the root element", fault.Show(tagName(e.Name)))
	case len(x.open) == bounded.MaxDepth:
		return fault.Errorf("can not be read: elements lie deeper in each other than %d", bounded.MaxDepth)
	}
	for i, a := range e.Attr {
		for _, b := range e.Attr[:i] {
			if a.Name == b.Name {
				return fault.Errorf("can not be read: %s has %s twice, before byte %d", fault.Show(tagName(e.Name)), fault.Show(tagName(a.Name)), x.d.InputOffset())
			}
		}
	}
	x.open = append(x.open, e.Name)
	return nil
}

// depth is how many elements are open.
func (x *xmlReader) depth() int { return len(x.open) }

// tagName returns a name as it stands in the file.
func tagName(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}

// attr returns an attribute without a prefix of an element, "" if it has none.
func attr(e xml.StartElement, name string) string {
	for _, a := range e.Attr {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

var (
	xmlDeclaration = regexp.MustCompile(`^<\?xml[ \t\r\n]+version[ \t\r\n]*=[^?>]*\?>`)
	xmlEncoding    = regexp.MustCompile(`[ \t\r\n]encoding[ \t\r\n]*=[ \t\r\n]*["']([^"']*)["']`)
)

// decodeXML returns the text of an XML file in UTF-8, without its declaration. Its error
// may be a fault.Error.
func decodeXML(r io.Reader) (io.Reader, error) {
	b := bufio.NewReader(r)
	mark, err := b.Peek(3)
	if err != nil && err != io.EOF {
		return nil, err
	}
	wide := false
	switch {
	case bytes.HasPrefix(mark, []byte("\xff\xfe")), bytes.HasPrefix(mark, []byte("\xfe\xff")):
		wide = true
		b = bufio.NewReader(transform.NewReader(b, unicode.UTF16(unicode.LittleEndian, unicode.ExpectBOM).NewDecoder()))
	case bytes.Equal(mark, []byte("\xef\xbb\xbf")):
		_, _ = b.Discard(3)
	}
	head, err := b.Peek(256)
	if err != nil && err != io.EOF {
		return nil, err
	}
	declaration := xmlDeclaration.Find(head)
	name := "UTF-8"
	if m := xmlEncoding.FindSubmatch(declaration); m != nil {
		name = string(m[1])
	}
	_, _ = b.Discard(len(declaration))
	switch {
	case wide: // the text is in what it began with, whatever it says
		return b, nil
	case strings.EqualFold(name, "UTF-8"):
		return b, nil
	case strings.EqualFold(name, "ISO-8859-1"):
		return charmap.ISO8859_1.NewDecoder().Reader(b), nil
	case strings.EqualFold(name, "US-ASCII"):
		return bounded.Func(func(p []byte) (int, error) {
			n, err := b.Read(p)
			if i := bytes.IndexFunc(p[:n], func(r rune) bool { return r >= 0x80 }); i >= 0 {
				return i, fault.Errorf("can not be read: it says that it is in US-ASCII, and is not")
			}
			return n, err
		}), nil
	}
	if strings.EqualFold(name, "UTF-16") {
		return nil, fault.Errorf("says that it is in UTF-16, and is not")
	}
	return nil, fault.Errorf("is in %s; dnf reads UTF-8, UTF-16, ISO-8859-1 and US-ASCII", fault.Show(name))
}
