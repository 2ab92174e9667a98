package mirrorcache

import (
	"encoding/json"
	"html"
	"io/fs"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// Rows are made by hand: a page may have a million of them.

func (s *sender) htmlRow(e *entry) {
	name := s.l.name(e)
	s.buf = append(s.buf, `<tr><td><a href="`...)
	if plain(name) {
		s.buf = append(append(s.buf, "./"...), name...)
		s.buf = append(appendSlash(s.buf, e), `">`...)
		s.buf = append(s.buf, name...)
	} else {
		s.buf = append(s.buf, html.EscapeString(relativeURL(name))...)
		s.buf = append(appendSlash(s.buf, e), `">`...)
		s.buf = append(s.buf, html.EscapeString(strings.ToValidUTF8(string(name), "\ufffd"))...)
	}
	s.buf = appendSlash(s.buf, e)
	s.buf = append(s.buf, `</a></td><td>`...)
	s.buf = appendSize(s.buf, e)
	s.buf = append(s.buf, `</td><td>`...)
	s.buf = modTime(e).AppendFormat(s.buf, time.DateTime)
	s.buf = append(s.buf, "</td></tr>\n"...)
}

// jsonRow has the fields that file_server has.
func (s *sender) jsonRow(e *entry) {
	if s.rows > 0 {
		s.buf = append(s.buf, ',')
	}
	name := s.l.name(e)
	isPlain := plain(name)
	s.buf = append(s.buf, `{"name":"`...)
	if isPlain {
		s.buf = append(s.buf, name...)
	} else {
		s.buf = appendQuoted(s.buf, string(name))
	}
	s.buf = appendSlash(s.buf, e)
	s.buf = append(s.buf, `","size":`...)
	s.buf = strconv.AppendInt(s.buf, e.size, 10)
	s.buf = append(s.buf, `,"url":"`...)
	if isPlain {
		s.buf = append(append(s.buf, "./"...), name...)
	} else {
		s.buf = appendQuoted(s.buf, relativeURL(name))
	}
	s.buf = appendSlash(s.buf, e)
	s.buf = append(s.buf, `","mod_time":"`...)
	s.buf = modTime(e).AppendFormat(s.buf, time.RFC3339)
	s.buf = append(s.buf, `","mode":`...)
	s.buf = strconv.AppendUint(s.buf, uint64(mode(e)), 10)
	s.buf = append(s.buf, `,"is_dir":`...)
	s.buf = strconv.AppendBool(s.buf, e.dir)
	s.buf = append(s.buf, `,"is_symlink":`...)
	s.buf = strconv.AppendBool(s.buf, e.symlink)
	s.buf = append(s.buf, '}')
}

func (s *sender) textRow(e *entry) {
	name := s.l.name(e)
	if plain(name) {
		s.buf = append(s.buf, name...)
	} else {
		s.buf = append(s.buf, strings.ToValidUTF8(textBreaks.Replace(string(name)), "\ufffd")...)
	}
	s.buf = appendSlash(s.buf, e)
	s.buf = append(s.buf, '\t')
	s.buf = appendSize(s.buf, e)
	s.buf = append(s.buf, '\t')
	s.buf = modTime(e).AppendFormat(s.buf, time.DateTime)
	s.buf = append(s.buf, '\n')
}

// textBreaks replaces what would end a name in plain text.
var textBreaks = strings.NewReplacer("\t", "\ufffd", "\n", "\ufffd", "\r", "\ufffd")

// plain reports whether a name is the same in text, URL, HTML and JSON, as nearly
// all are.
func plain(name []byte) bool {
	for _, c := range name {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', 'A' <= c && c <= 'Z', c == '-', c == '_', c == '.', c == '~', c == '+', c == ':':
		default:
			return false
		}
	}
	return true
}

// relativeURL is the URL of an entry, without a slash at its end. It begins with
// "./", since a colon in a name would make a scheme of what is before it.
func relativeURL(name []byte) string {
	u := url.URL{Path: "./" + string(name)}
	return u.EscapedPath()
}

// appendQuoted appends a string as it is between the quotes of JSON.
func appendQuoted(b []byte, s string) []byte {
	quoted, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always can be
	}
	return append(b, quoted[1:len(quoted)-1]...)
}

func appendSlash(b []byte, e *entry) []byte {
	if e.dir {
		b = append(b, '/')
	}
	return b
}

func appendSize(b []byte, e *entry) []byte {
	if e.dir {
		return append(b, '-')
	}
	return append(b, humanize.IBytes(uint64(max(0, e.size)))...)
}

func modTime(e *entry) time.Time { return time.Unix(e.modTime, 0).UTC() }

func mode(e *entry) fs.FileMode {
	if e.dir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}
