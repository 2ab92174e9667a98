package mirrorcache

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io"
	"math"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
)

// page is what of a listing is asked for, and how: the same as of Caddy's
// file_server, and what is no value for it is the default. Nothing depends on
// cookies, so that others can cache it.
type page struct {
	form       form
	path       string // as the client knows it
	key        sortKey
	descending bool
	offset     int
	limit      int // 0: all
}

// form is the media type of a listing.
type form int

const (
	formHTML form = iota
	formJSON
	formText
)

func pageOf(r *http.Request) page {
	p := page{path: r.URL.Path}
	if orig, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request); ok {
		p.path = orig.URL.Path
	}
	p.path = path.Clean("/" + p.path)
	accept := strings.ToLower(strings.Join(r.Header["Accept"], ","))
	switch {
	case strings.Contains(accept, "application/json"):
		p.form = formJSON
	case strings.Contains(accept, "text/plain"):
		p.form = formText
	}
	q := r.URL.Query()
	p.key = sortKey(max(0, slices.Index(sortKeys[:], q.Get("sort"))))
	p.descending = q.Get("order") == "desc"
	p.offset = number(q.Get("offset"))
	p.limit = number(q.Get("limit"))
	return p
}

// number is the value of a parameter that is a positive number, else 0.
func number(s string) int {
	n, _ := strconv.Atoi(s)
	return max(0, n)
}

// tag is a weak entity tag (RFC 9110 section 8.8.3) of a listing with that digest:
// another version of this program may show the same in another way.
func (p page) tag(digest [sha256.Size]byte) string {
	sum := sha256.Sum256(fmt.Appendf(digest[:], "%d %d %t %d %d %s", p.form, p.key, p.descending, p.offset, p.limit, p.path))
	return `W/"` + hex.EncodeToString(sum[:12]) + `"`
}

// setFields sets the fields that describe the page.
func (p page) setFields(h http.Header) {
	switch p.form {
	case formHTML:
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", pagePolicy)
	case formJSON:
		h.Set("Content-Type", "application/json; charset=utf-8")
	case formText:
		h.Set("Content-Type", "text/plain; charset=utf-8")
	}
}

// sendChunk is how much of a page is made before it is given to the connection.
const sendChunk = 32 << 10

// errRevoked says that a listing takes memory which others need.
var errRevoked = errors.New("listing is no longer current, and memory for listings is short")

// send writes a page of the listing. It is made as it goes, so that a client that
// reads slowly costs a small buffer, and its share of the listing.
func (l *listing) send(w io.Writer, p page) (sent int64, err error) {
	s := sender{l: l, page: p, buf: make([]byte, 0, sendChunk+4<<10)}
	s.head()
	for e := range l.sorted(p.key, p.descending, min(p.offset, len(l.entries)), p.count()) {
		s.row(e)
		if len(s.buf) < sendChunk {
			continue
		}
		if l.revoked.Load() {
			return sent, errRevoked
		}
		n, err := w.Write(s.buf)
		sent += int64(n)
		if err != nil {
			return sent, errClient
		}
		s.buf = s.buf[:0]
	}
	s.foot()
	n, err := w.Write(s.buf)
	if err != nil {
		err = errClient
	}
	return sent + int64(n), err
}

// count is how many entries are shown at most.
func (p page) count() int {
	if p.limit == 0 {
		return math.MaxInt
	}
	return p.limit
}

// sender makes a page.
type sender struct {
	page
	l    *listing
	buf  []byte
	rows int
}

func (s *sender) head() {
	switch s.form {
	case formHTML:
		s.buf = append(s.buf, s.htmlHead()...)
	case formJSON:
		s.buf = append(s.buf, '[')
	case formText:
		s.buf = append(s.buf, "Name\tSize\tModified\n----\t----\t--------\n"...)
	}
}

func (s *sender) foot() {
	switch s.form {
	case formHTML:
		s.buf = append(s.buf, "</tbody>\n</table>\n</body>\n</html>\n"...)
	case formJSON:
		s.buf = append(s.buf, "]\n"...)
	case formText:
		if s.l.cut {
			s.buf = append(append(s.buf, s.l.cutText()...), '\n')
		}
	}
}

func (s *sender) row(e *entry) {
	switch s.form {
	case formHTML:
		s.htmlRow(e)
	case formJSON:
		s.jsonRow(e)
	case formText:
		s.textRow(e)
	}
	s.rows++
}

// cutText says that a listing is cut.
func (l *listing) cutText() string {
	return fmt.Sprintf("This listing is cut: the directory has more than these %d entries.", len(l.entries))
}

//go:embed listing.html
var pageHTML string

//go:embed listing.css
var pageStyle string

var (
	pageHead = template.Must(template.New("").Parse(pageHTML)).Lookup("head")

	pagePolicy = func() string {
		sum := sha256.Sum256([]byte(pageStyle))
		return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
			"'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
	}()
)

// link is a link of the head of a page.
type link struct {
	Link, Text, Mark string
}

// htmlHead is what comes before the entries.
func (s *sender) htmlHead() []byte {
	l := s.l
	data := struct {
		Path, Bytes, Part, Cut string
		Style                  template.CSS
		Crumbs, Columns        []link
		Dirs, Files            int
		Up                     bool
	}{
		Path:    strings.ToValidUTF8(s.path, "\ufffd"),
		Bytes:   humanize.IBytes(uint64(max(0, l.bytes))),
		Style:   template.CSS(pageStyle), //nolint:gosec // it is ours
		Crumbs:  crumbs(s.path),
		Columns: []link{s.column(sortDirsFirst, "Name"), s.column(sortSize, "Size"), s.column(sortTime, "Modified (UTC)")},
		Dirs:    l.dirs,
		Files:   len(l.entries) - l.dirs,
		Up:      s.path != "/",
	}
	if s.offset > 0 || s.limit > 0 {
		shown := min(s.count(), max(0, len(l.entries)-s.offset))
		data.Part = fmt.Sprintf("shown are %d, after the first %d", shown, s.offset)
	}
	if l.cut {
		data.Cut = l.cutText()
	}
	var b bytes.Buffer
	if err := pageHead.Execute(&b, data); err != nil {
		panic(err) // the template is a constant, and a buffer takes all
	}
	return b.Bytes()
}

// crumbs are links to a directory and those above it.
func crumbs(p string) []link {
	parts := strings.Split(strings.Trim(p, "/"), "/")
	if parts[0] == "" {
		parts = nil
	}
	all := make([]link, 0, 1+len(parts))
	all = append(all, link{Text: "/", Link: "./" + strings.Repeat("../", len(parts))})
	for i, part := range parts {
		all = append(all, link{Text: strings.ToValidUTF8(part, "\ufffd") + "/", Link: "./" + strings.Repeat("../", len(parts)-1-i)})
	}
	return all
}

// column is the head of a column: a link to the same page, sorted by it.
func (s *sender) column(key sortKey, text string) link {
	q := url.Values{"sort": {key.String()}, "order": {"asc"}}
	if s.offset > 0 {
		q.Set("offset", strconv.Itoa(s.offset))
	}
	if s.limit > 0 {
		q.Set("limit", strconv.Itoa(s.limit))
	}
	mark := ""
	if key == s.key || key == sortDirsFirst && s.key == sortName {
		mark = " ↑"
		if s.descending {
			mark = " ↓"
		} else {
			q.Set("order", "desc")
		}
	}
	return link{Link: "?" + q.Encode(), Text: text, Mark: mark}
}
