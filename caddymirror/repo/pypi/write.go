package pypi

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"html"
	"io"
	"iter"
	"net/url"
	"strconv"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
)

// repositoryVersion is that of the simple repository API which pages are written in
// (PEP 629, 700).
const repositoryVersion = "1.1"

// A Page is a page to be written, of a project or, without a Project, of all projects.
// It is written as it goes, whatever its length; the same page is the same bytes.
type Page struct {
	// Project is the project's normalized name.
	Project string

	// Files of a project. Of each URL and Size are needed; URL is a relative address,
	// percent-encoded (see [Escape]) and without a checksum. The file's name is the last
	// element of it.
	Files iter.Seq[File]

	// Versions are all versions of the project that there are files of, each once
	// (PEP 700). HTML has none.
	Versions []string

	// Projects are the normalized names of all projects.
	Projects iter.Seq[string]
}

// Escape returns a path as it may stand in a [File]'s URL.
func Escape(path string) string {
	escaped := (&url.URL{Path: path}).EscapedPath()
	// What comes before a colon in the first element would be taken for a scheme.
	if i := strings.IndexByte(escaped, ':'); i >= 0 && !strings.Contains(escaped[:i], "/") {
		return "./" + escaped
	}
	return escaped
}

// fileName is the last element of an address.
func fileName(address string) string {
	return unescape(address[strings.LastIndexByte(address, '/')+1:])
}

// bufferSize is how much of a page is in memory, a link aside.
const bufferSize = 16 << 10

// WriteHTML writes the page as HTML (PEP 503, 592, 658, 714).
func (p Page) WriteHTML(to io.Writer) error {
	w := bufio.NewWriterSize(to, bufferSize)
	title := "Simple index"
	if p.Project != "" {
		title = "Links for " + escape(p.Project)
	}
	put(w, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
		`<meta name="pypi:repository-version" content="`, repositoryVersion, "\">\n<title>", title, "</title>\n</head>\n<body>\n<h1>", title, "</h1>\n")
	if p.Project == "" {
		for name := range p.Projects {
			put(w, `<a href="`, escape(Escape(name)), `/">`, escape(name), "</a><br>\n")
			if err := flushed(w); err != nil {
				return err
			}
		}
	} else {
		for f := range p.Files {
			f.writeHTML(w)
			if err := flushed(w); err != nil {
				return err
			}
		}
	}
	put(w, "</body>\n</html>\n")
	return w.Flush()
}

func (f File) writeHTML(w *bufio.Writer) {
	put(w, `<a href="`, escape(f.URL))
	if f.Digest.Kind != "" {
		put(w, "#", f.Digest.Kind, "=", hexSum(f.Digest))
	}
	put(w, `"`)
	if f.RequiresPython != "" {
		put(w, ` data-requires-python="`, escape(f.RequiresPython), `"`)
	}
	if f.Metadata {
		value := "true"
		if f.MetadataDigest.Kind != "" {
			value = f.MetadataDigest.Kind + "=" + hexSum(f.MetadataDigest)
		}
		// Not under its old name: the pips that know that alone, up to 23.0, fail on it
		// if the wheel spells the project in another way than who asks for it, and on any
		// in JSON (PEP 714).
		put(w, ` data-core-metadata="`, value, `"`)
	}
	if f.Yanked {
		put(w, ` data-yanked="`, escape(f.YankedReason), `"`)
	}
	put(w, ">", escape(fileName(f.URL)), "</a><br>\n")
}

// WriteJSON writes the page as JSON (PEP 691, 592, 658, 700, 714).
func (p Page) WriteJSON(to io.Writer) error {
	w := bufio.NewWriterSize(to, bufferSize)
	put(w, `{"meta":{"api-version":"`, repositoryVersion, `"}`)
	sep := ""
	if p.Project == "" {
		put(w, `,"projects":[`)
		for name := range p.Projects {
			put(w, sep, `{"name":`, quote(name), `}`)
			if err := flushed(w); err != nil {
				return err
			}
			sep = ","
		}
		put(w, "]}\n")
		return w.Flush()
	}
	put(w, `,"name":`, quote(p.Project), `,"versions":[`)
	for _, version := range p.Versions {
		put(w, sep, quote(version))
		sep = ","
	}
	put(w, `],"files":[`)
	sep = ""
	for f := range p.Files {
		put(w, sep)
		f.writeJSON(w)
		if err := flushed(w); err != nil {
			return err
		}
		sep = ","
	}
	put(w, "]}\n")
	return w.Flush()
}

func (f File) writeJSON(w *bufio.Writer) {
	put(w, `{"filename":`, quote(fileName(f.URL)), `,"url":`, quote(f.URL), `,"hashes":`, hashes(f.Digest))
	if f.RequiresPython != "" {
		put(w, `,"requires-python":`, quote(f.RequiresPython))
	}
	put(w, `,"size":`, strconv.FormatInt(f.Size, 10))
	if !f.UploadTime.IsZero() {
		put(w, `,"upload-time":"`, f.UploadTime.UTC().Format("2006-01-02T15:04:05.000000Z"), `"`)
	}
	if f.Metadata {
		value := "true"
		if f.MetadataDigest.Kind != "" {
			value = hashes(f.MetadataDigest)
		}
		put(w, `,"core-metadata":`, value)
	}
	switch {
	case f.Yanked && f.YankedReason != "":
		put(w, `,"yanked":`, quote(f.YankedReason))
	case f.Yanked:
		put(w, `,"yanked":true`)
	default:
		put(w, `,"yanked":false`)
	}
	put(w, "}")
}

// put writes texts. An error stays with w, see flushed.
func put(w *bufio.Writer, texts ...string) {
	for _, text := range texts {
		w.WriteString(text) //nolint:errcheck // see flushed
	}
}

// flushed returns the error that w has met.
func flushed(w *bufio.Writer) error {
	_, err := w.Write(nil)
	return err
}

func hexSum(d digest.Digest) string { return hex.EncodeToString([]byte(d.Sum)) }

func hashes(d digest.Digest) string {
	if d.Kind == "" {
		return "{}"
	}
	return `{"` + d.Kind + `":"` + hexSum(d) + `"}`
}

// quote returns text as a string of JSON.
func quote(text string) string {
	b, _ := json.Marshal(text) // of a string
	return string(b)
}

// escape returns text as it may stand in HTML, in UTF-8, without which pip takes no page.
func escape(text string) string {
	return html.EscapeString(strings.ToValidUTF8(text, "\ufffd"))
}
