package freshness

import (
	"iter"
	"net/http"
	"strings"
	"time"
)

// Directives are what a response says to caches (RFC 9111 section 5.2.2).
type Directives struct {
	MaxAge  Delta // section 5.2.2.1; 0 if its argument is not a number
	SMaxAge Delta // section 5.2.2.10; 0 likewise

	StaleWhileRevalidate Delta // RFC 5861 section 3
	StaleIfError         Delta // RFC 5861 section 4

	NoStore         bool // section 5.2.2.5
	NoCache         bool // section 5.2.2.4, of the whole response
	Private         bool // section 5.2.2.7, of the whole response
	Public          bool // section 5.2.2.9
	MustRevalidate  bool // section 5.2.2.2
	ProxyRevalidate bool // section 5.2.2.8
	MustUnderstand  bool // section 5.2.2.3
	NoTransform     bool // section 5.2.2.6
	Immutable       bool // RFC 8246 section 2

	// Withheld are the fields that no-cache or private name: they are not stored.
	Withheld []string

	// Targeted says that a targeted field said it all (RFC 9213 section 2.2): then
	// Expires means nothing.
	Targeted bool
}

// ParseDirectives reads the lines of Cache-Control of a response. Of several values the
// first counts (RFC 9111 section 4.2.1).
func ParseDirectives(lines []string) Directives {
	var d Directives
	for name, arg := range directives(lines) {
		d.add(name, arg)
	}
	return d
}

func (d *Directives) add(name string, arg argument) {
	switch name {
	case "max-age":
		d.MaxAge.limit(arg)
	case "s-maxage":
		d.SMaxAge.limit(arg)
	case "stale-while-revalidate":
		d.StaleWhileRevalidate.allow(arg)
	case "stale-if-error":
		d.StaleIfError.allow(arg)
	case "no-store":
		d.NoStore = true
	case "no-cache":
		d.withhold(&d.NoCache, arg)
	case "private":
		d.withhold(&d.Private, arg)
	case "public":
		d.Public = d.Public || arg.form == none
	case "must-revalidate":
		d.MustRevalidate = true
	case "proxy-revalidate":
		d.ProxyRevalidate = true
	case "must-understand": // permits what no-store forbids
		d.MustUnderstand = d.MustUnderstand || arg.form == none
	case "no-transform":
		d.NoTransform = true
	case "immutable": // RFC 8246: arguments have no meaning
		d.Immutable = true
	}
}

// limit takes a directive that ends a lifetime: one that cannot be read ends it at once.
func (d *Delta) limit(arg argument) {
	if !d.Set {
		d.Value, _ = arg.delta()
		d.Set = true
	}
}

// allow takes a directive that permits something: one that cannot be read does not.
func (d *Delta) allow(arg argument) {
	if v, ok := arg.delta(); ok && !d.Set {
		*d = Delta{v, true}
	}
}

// withhold takes no-cache or private: about the fields that it names, or about the
// whole response, also where the names cannot be read.
func (d *Directives) withhold(whole *bool, arg argument) {
	if arg.form != token && arg.form != quoted {
		*whole = true
		return
	}
	some := false
	for name := range elements(arg.value) {
		if !isToken(name) {
			*whole = true
			return
		}
		some = true
		d.Withheld = append(d.Withheld, http.CanonicalHeaderKey(name))
	}
	*whole = *whole || !some
}

// RequestDirectives are what a request asks of caches (RFC 9111 section 5.2.1). Those of
// a request that says nothing are zero.
type RequestDirectives struct {
	MaxAge       Delta // section 5.2.1.1
	MaxStale     Delta // section 5.2.1.2; Forever if it has no argument
	MinFresh     Delta // section 5.2.1.3
	StaleIfError Delta // RFC 5861 section 4

	NoCache      bool // section 5.2.1.4; also Pragma, section 5.4
	NoStore      bool // section 5.2.1.5
	NoTransform  bool // section 5.2.1.6
	OnlyIfCached bool // section 5.2.1.7
}

// ParseRequest reads Cache-Control of a request, or Pragma if there is none. They are
// advice: what cannot be read is ignored.
func ParseRequest(h http.Header) RequestDirectives {
	var r RequestDirectives
	lines := h["Cache-Control"]
	if len(lines) == 0 {
		for name := range directives(h["Pragma"]) {
			r.NoCache = r.NoCache || name == "no-cache"
		}
		return r
	}
	for name, arg := range directives(lines) {
		switch name {
		case "max-age":
			r.MaxAge.allow(arg)
		case "max-stale":
			if arg.form == none && !r.MaxStale.Set {
				r.MaxStale = Delta{Forever, true}
			}
			r.MaxStale.allow(arg)
		case "min-fresh":
			r.MinFresh.allow(arg)
		case "stale-if-error":
			r.StaleIfError.allow(arg)
		case "no-cache":
			r.NoCache = true
		case "no-store":
			r.NoStore = true
		case "no-transform":
			r.NoTransform = true
		case "only-if-cached":
			r.OnlyIfCached = r.OnlyIfCached || arg.form == none
		}
	}
	return r
}

// An argument is what follows the name of a directive.
type argument struct {
	value string
	form  form
}

type form int

const (
	none form = iota
	token
	quoted
	malformed
)

// delta is the argument as a number of seconds. The quoted form is accepted where
// RFC 9111 section 5.2 asks for tokens.
func (a argument) delta() (d time.Duration, ok bool) {
	if a.form != token && a.form != quoted {
		return 0, false
	}
	return parseDelta(a.value)
}

// directives yields what lines of Cache-Control list (RFC 9111 section 5.2): names in
// lower case, with their arguments.
func directives(lines []string) iter.Seq2[string, argument] {
	return func(yield func(string, argument) bool) {
		for _, line := range lines {
			for element := range elements(line) {
				name, arg := parseDirective(element)
				if name != "" && !yield(name, arg) {
					return
				}
			}
		}
	}
}

func parseDirective(s string) (name string, arg argument) {
	i := 0
	for i < len(s) && isTokenByte(s[i]) {
		i++
	}
	name, rest := strings.ToLower(s[:i]), s[i:]
	value, ok := strings.CutPrefix(rest, "=")
	switch {
	case rest == "":
		return name, argument{form: none}
	case !ok:
		return name, argument{form: malformed}
	case isToken(value):
		return name, argument{value, token}
	}
	if value, ok := unquote(value); ok {
		return name, argument{value, quoted}
	}
	return name, argument{form: malformed}
}
