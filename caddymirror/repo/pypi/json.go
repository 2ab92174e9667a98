package pypi

import (
	"bufio"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"time"

	"golang.org/x/text/encoding"
	"golang.org/x/text/transform"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// JSON reads the links of a page of PEP 691: those of a project, which are in the field
// "files", or, if key is "projects", those to the projects. Its error may be one of reading,
// or a fault of the page, see [fault.Of].
func (p Reader) JSON(r io.Reader, key string) error {
	j, err := newJSON(r)
	if err != nil {
		return err
	}
	if err := j.delim('{'); err != nil {
		return err
	}
	found := false
	err = j.fields(func(name string) error {
		if name != key {
			return j.skip()
		}
		if found {
			return fault.Errorf("has %s twice", key)
		}
		found = true
		return p.files(j)
	})
	if err != nil {
		return err
	}
	if !found {
		return fault.Errorf("has no %s", key)
	}
	switch _, err := j.token(); err {
	case io.EOF:
		return nil
	case nil:
		return fault.Errorf("has more than one value in it")
	default:
		return err
	}
}

// files reads a list of files, or of projects.
func (p Reader) files(j *jsonReader) error {
	if err := j.delim('['); err != nil {
		return err
	}
	for j.more() {
		l, err := p.file(j)
		if err != nil {
			return err
		}
		if l.URL == "" {
			p.Remark("lists files without an address")
			continue
		}
		if err := p.See(l); err != nil {
			return err
		}
	}
	return j.delim(']')
}

func (p Reader) file(j *jsonReader) (File, error) {
	l := File{Size: -1}
	if err := j.delim('{'); err != nil {
		return l, err
	}
	project := ""
	var core, old struct {
		told, there bool
		sum         digest.Digest
	}
	err := j.fields(func(name string) (err error) {
		switch name {
		case "name":
			project, err = j.text()
		case "url":
			l.URL, err = j.text()
		case "hashes":
			l.Digest, err = j.hashes()
		case "size":
			l.Size, err = j.size(p.Remark)
		case "core-metadata":
			core.told, core.there, core.sum, err = j.metadata()
		case "dist-info-metadata": // its old name
			old.told, old.there, old.sum, err = j.metadata()
		case "yanked":
			l.Yanked, l.YankedReason, err = j.yanked()
		case "requires-python":
			l.RequiresPython, err = j.textOr()
		case "upload-time":
			var text string
			if text, err = j.textOr(); text != "" {
				l.UploadTime, _ = time.Parse(time.RFC3339Nano, text) // else it is not known
			}
		default:
			err = j.skip()
		}
		return err
	})
	if project != "" {
		l.URL = project + "/"
	}
	if !core.told {
		core = old
	}
	l.Metadata, l.MetadataDigest = core.there, core.sum
	return l, err
}

// jsonReader reads a value of JSON token by token: no more than one is in memory.
type jsonReader struct {
	d     *json.Decoder
	in    *bounded.Reader
	depth int
}

func newJSON(r io.Reader) (*jsonReader, error) {
	b := bufio.NewReader(r)
	mark, err := b.Peek(3)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if string(mark) == "\xef\xbb\xbf" { // Python takes that
		_, _ = b.Discard(len(mark))
	}
	in := &bounded.Reader{R: transform.NewReader(b, encoding.UTF8Validator), Err: bounded.ErrTooLong}
	d := json.NewDecoder(in)
	d.UseNumber()
	return &jsonReader{d: d, in: in}, nil
}

func (j *jsonReader) token() (json.Token, error) {
	j.in.Left = bounded.MaxToken
	token, err := j.d.Token()
	switch token {
	case json.Delim('{'), json.Delim('['):
		if j.depth++; j.depth > bounded.MaxDepth {
			return nil, fault.Errorf("can not be read: values lie deeper in each other than %d", bounded.MaxDepth)
		}
	case json.Delim('}'), json.Delim(']'):
		j.depth--
	}
	return token, err
}

// more reports whether there is one more in the object or list that is open.
func (j *jsonReader) more() bool {
	j.in.Left = bounded.MaxToken
	return j.d.More()
}

// delim reads a bracket. Its error may be a fault.Error.
func (j *jsonReader) delim(want json.Delim) error {
	token, err := j.token()
	if err == nil && token != want {
		err = fault.Errorf("has no %s before byte %d", want, j.d.InputOffset())
	}
	return err
}

// fields calls see with the name of each field of the object that was opened; it must read
// the value. Then the object is closed.
func (j *jsonReader) fields(see func(name string) error) error {
	for j.more() {
		name, err := j.token()
		if err != nil {
			return err
		}
		if err := see(name.(string)); err != nil { //nolint:forcetypeassert // names are strings
			return err
		}
	}
	return j.delim('}')
}

// skip reads a value of any kind.
func (j *jsonReader) skip() error { return j.leave(j.depth) }

// leave reads on until a value has ended and no more than depth are open.
func (j *jsonReader) leave(depth int) error {
	for {
		if _, err := j.token(); err != nil {
			return err
		}
		if j.depth <= depth {
			return nil
		}
	}
}

// text reads a string, empty if it is null. Its error may be a fault.Error.
func (j *jsonReader) text() (string, error) {
	token, err := j.token()
	if err != nil || token == nil {
		return "", err
	}
	text, ok := token.(string)
	if !ok {
		return "", fault.Errorf("has something else than a string before byte %d", j.d.InputOffset())
	}
	return text, nil
}

// textOr reads a string, empty if it is anything else: pip does not look at it, or not
// closely.
func (j *jsonReader) textOr() (string, error) {
	depth := j.depth
	token, err := j.token()
	if err != nil {
		return "", err
	}
	if j.depth > depth {
		return "", j.leave(depth)
	}
	text, _ := token.(string)
	return text, nil
}

// yanked reads what Python takes for true, or the reason.
func (j *jsonReader) yanked() (is bool, reason string, err error) {
	depth := j.depth
	token, err := j.token()
	if err != nil {
		return false, "", err
	}
	reason, _ = token.(string)
	is, err = j.truthOf(token, depth)
	return is, reason, err
}

// size reads a size, -1 if it is not known. pip does not look at it.
func (j *jsonReader) size(remark func(string)) (int64, error) {
	depth := j.depth
	token, err := j.token()
	if err != nil || token == nil {
		return -1, err
	}
	if n, ok := token.(json.Number); ok {
		if size, err := strconv.ParseInt(n.String(), 10, 64); err == nil && size >= 0 {
			return size, nil
		}
	}
	remark("has something else for the size of a file than a number of bytes")
	if j.depth > depth {
		return -1, j.leave(depth)
	}
	return -1, nil
}

// hashes reads an object of checksums by their kinds and returns the first of those that are
// known, which is the one that pip compares. Its error may be a fault.Error.
func (j *jsonReader) hashes() (digest.Digest, error) {
	token, err := j.token()
	switch {
	case err != nil || token == nil:
		return digest.Digest{}, err
	case token != json.Delim('{'):
		return digest.Digest{}, fault.Errorf("has something else for hashes than an object before byte %d", j.d.InputOffset())
	}
	return j.openHashes(true)
}

// openHashes is hashes after the bracket. none says whether a checksum may be null.
func (j *jsonReader) openHashes(none bool) (sum digest.Digest, err error) {
	err = j.fields(func(kind string) error {
		token, err := j.token()
		if err != nil {
			return err
		}
		text, ok := token.(string)
		switch {
		case token == nil && none:
			return nil
		case !ok:
			return fault.Errorf("has something else for a checksum than a string before byte %d", j.d.InputOffset())
		case sum.Kind == "" && slices.Contains(digest.Kinds, kind):
			sum, err = lowerDigest(kind, text)
		}
		return err
	})
	return sum, err
}

// truthOf reports whether Python takes a value for true, the first token of which was read
// when depth were open.
func (j *jsonReader) truthOf(token json.Token, depth int) (bool, error) {
	switch token := token.(type) {
	case nil:
		return false, nil
	case bool:
		return token, nil
	case string:
		return token != "", nil
	case json.Number:
		n, err := token.Float64()
		return n != 0 || err != nil, nil
	}
	is := j.more()
	return is, j.leave(depth)
}

// metadata reads what core-metadata is: true, or an object of checksums. told is whether it
// is more than null.
func (j *jsonReader) metadata() (told, there bool, sum digest.Digest, err error) {
	depth := j.depth
	token, err := j.token()
	switch {
	case err != nil:
	case token == json.Delim('{'):
		there = true
		sum, err = j.openHashes(false)
	default:
		there, err = j.truthOf(token, depth)
	}
	return token != nil, there, sum, err
}
