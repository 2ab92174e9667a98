package freshness

import (
	"fmt"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// Why a request went to the upstream (RFC 9211 section 2.2).
const (
	FwdBypass   = "bypass"    // the cache is not to be used
	FwdMethod   = "method"    // the method asks for it
	FwdURIMiss  = "uri-miss"  // nothing is stored of this URI
	FwdVaryMiss = "vary-miss" // something is, but it does not answer this request
	FwdMiss     = "miss"      // one of both
	FwdRequest  = "request"   // the client asks for it
	FwdStale    = "stale"     // what is stored is stale
	FwdPartial  = "partial"   // only a part is stored
)

// CacheStatus is what one cache did with a request: a member of the field Cache-Status
// (RFC 9211 section 2).
type CacheStatus struct {
	Cache     string        // its name
	Hit       bool          // the response was stored, and the upstream not asked
	Fwd       string        // why the upstream was asked, empty if it was not
	FwdStatus int           // with which status it answered; 0: it did not, or as to the client
	TTL       time.Duration // how long the response stays fresh, as Freshness.TTL has it; written in seconds
	HasTTL    bool          // TTL is known
	Stored    bool          // the response was stored
	Collapsed bool          // the request was answered together with others
	Key       string        // of the entry, empty: not said
	Detail    string        // what else there is to say, empty: nothing
}

// String is the member as it is added to the field. What text cannot have is replaced by
// question marks.
func (s CacheStatus) String() string {
	item := httpsfv.NewItem(tokenOrString(s.Cache))
	add := func(name string, value any, present bool) {
		if present {
			item.Params.Add(name, value)
		}
	}
	add("hit", true, s.Hit)
	add("fwd", tokenOrString(s.Fwd), s.Fwd != "")
	add("fwd-status", int64(s.FwdStatus), s.FwdStatus != 0)
	add("ttl", int64(s.TTL/time.Second), s.HasTTL)
	add("stored", true, s.Stored)
	add("collapsed", true, s.Collapsed)
	add("key", printable(s.Key), s.Key != "")
	add("detail", tokenOrString(s.Detail), s.Detail != "")
	member, err := httpsfv.Marshal(item)
	if err != nil {
		return `""` // cannot be: all values are made to fit
	}
	return member
}

// tokenOrString is a text as a token if it is one (RFC 9651 section 3.3.4), or else as a
// string.
func tokenOrString(s string) any {
	if s == "" || s[0] != '*' && !isLetter(s[0]) {
		return printable(s)
	}
	for _, c := range []byte(s) {
		if c != ':' && c != '/' && !isTokenByte(c) {
			return printable(s)
		}
	}
	return httpsfv.Token(s)
}

// printable has question marks in place of what a string cannot have (RFC 9651 section
// 3.3.3).
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// ParseCacheStatus reads the lines of Cache-Status: first the cache that is nearest to
// the origin. Parameters that are not known, or of another type than they should be, are
// ignored.
func ParseCacheStatus(lines []string) ([]CacheStatus, error) {
	list, err := httpsfv.UnmarshalList(lines)
	if err != nil {
		return nil, fmt.Errorf("reading Cache-Status: %w", err)
	}
	var all []CacheStatus
	for _, member := range list {
		item, ok := member.(httpsfv.Item)
		if !ok {
			return nil, fmt.Errorf("reading Cache-Status: a list in place of a cache's name")
		}
		s := CacheStatus{Cache: text(item.Value)}
		if s.Cache == "" {
			return nil, fmt.Errorf("reading Cache-Status: %v is not a cache's name", item.Value)
		}
		get := func(name string) any {
			v, _ := item.Params.Get(name)
			return v
		}
		s.Hit, _ = get("hit").(bool)
		s.Stored, _ = get("stored").(bool)
		s.Collapsed, _ = get("collapsed").(bool)
		s.Fwd, s.Key, s.Detail = text(get("fwd")), text(get("key")), text(get("detail"))
		if n, ok := get("fwd-status").(int64); ok && n >= 100 && n < 1000 {
			s.FwdStatus = int(n)
		}
		if n, ok := get("ttl").(int64); ok {
			s.TTL, s.HasTTL = time.Duration(min(max(n, -forever), forever))*time.Second, true
		}
		all = append(all, s)
	}
	return all, nil
}

// text is what a token or a string says, empty if it is neither.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case httpsfv.Token:
		return string(v)
	}
	return ""
}
