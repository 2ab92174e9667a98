package freshness

import (
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// FuzzDirectives reads any Cache-Control, of responses and requests.
func FuzzDirectives(f *testing.F) {
	for _, s := range []string{
		"", "max-age=60, public", `no-cache="a, b", private`, `x="a\"b", no-store`, `x="a, no-store`, "max-age =1;,=,\"",
		"max-age=99999999999999999999, s-maxage=-1", "must-understand, immutable", `max-stale, max-age="1"`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		d := ParseDirectives([]string{line})
		r := ParseRequest(http.Header{"Cache-Control": {line}})
		for _, delta := range []Delta{d.MaxAge, d.SMaxAge, d.StaleWhileRevalidate, d.StaleIfError, r.MaxAge, r.MaxStale, r.MinFresh, r.StaleIfError} {
			if delta.Value < 0 || delta.Value > Forever || !delta.Set && delta.Value != 0 {
				t.Errorf("%q: %+v", line, delta)
			}
		}
		for _, name := range d.Withheld {
			if !isToken(name) {
				t.Errorf("%q names %q", line, name)
			}
		}
		// No line hides what another one forbids.
		for _, lines := range [][]string{{line, "no-store"}, {"no-store", line}, {"no-store," + line}} {
			if !ParseDirectives(lines).NoStore {
				t.Errorf("%q: no-store is not seen", lines)
			}
		}
		// Case does not matter.
		if upper := ParseDirectives([]string{asciiUpper(line)}); !reflect.DeepEqual(upper, d) {
			t.Errorf("%q: %+v, in upper case %+v", line, d, upper)
		}
	})
}

func asciiUpper(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// FuzzFreshness stores any response and confirms it with any 304.
func FuzzFreshness(f *testing.F) {
	date := stamp(-5)
	f.Add("max-age=60", stamp(60), date, "5", stamp(-1000), "a", `"a"`, "x", "", "max-age=9", date, "", uint16(200), int64(1e9))
	f.Add("public", "0", "x", "-5", "Thu, 01 Jan 1970 00:00:00 GMT", "*", `W/"a"`, "close, vary", "max-age=60", "no-store", "", "99999999999", uint16(404), int64(-1))
	f.Add(`no-cache="x, date", private="age"`, "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", "", "", "", "", "cache-control, x", "&", "private", "x", "1", uint16(206), int64(1<<62))
	f.Fuzz(func(t *testing.T, cc, expires, date, age, modified, vary, etag, connection, target, cc304, date304, age304 string, status uint16, ns int64) {
		header := func(pairs ...string) http.Header {
			h := http.Header{}
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i+1] != "" {
					h[pairs[i]] = []string{pairs[i+1]}
				}
			}
			return h
		}
		resp := Response{Status: int(status), RequestTime: now.Add(-time.Duration(ns % int64(time.Hour))), ResponseTime: now, Header: header(
			"Cache-Control", cc, "Expires", expires, "Date", date, "Age", age, "Last-Modified", modified, "Vary", vary, "Etag", etag,
			"Connection", connection, CDNCacheControl, target, "X", "1",
		)}
		for _, p := range []Policy{
			{},
			{Targets: []string{CDNCacheControl}, MaxStale: time.Duration(ns), MaxHeuristic: time.Duration(ns)},
			{Rule: TTL(time.Duration(ns)), Negative: Immutable, IgnoreClients: true, MaxStale: Forever},
		} {
			received := p.Freshness(resp)
			check(t, received)

			// What is stored twice is stored once, and is fresh for no longer.
			stored := resp
			stored.Header = p.StoredHeader(resp)
			if again := p.StoredHeader(stored); !reflect.DeepEqual(again, stored.Header) {
				t.Errorf("stored %v\n again %v", stored.Header, again)
			}
			kept := p.Freshness(stored)
			check(t, kept)
			if kept.FreshUntil.After(received.FreshUntil) || kept.StaleUntil.After(received.StaleUntil) || kept.RevalidateUntil.After(received.RevalidateUntil) {
				t.Errorf("kept for longer: %+v\nreceived %+v", kept, received)
			}
			if p.Storable(request(), resp) == RefusedNoStore && p.Storable(request(), stored) != RefusedNoStore {
				t.Error("what must not be stored may be, once it is")
			}

			// A 304 is obeyed, whatever was stored.
			newer := Response{Status: 304, RequestTime: at(1), ResponseTime: at(2), Header: header("Cache-Control", cc304, "Date", date304, "Age", age304)}
			updated := p.Update(stored, newer)
			check(t, p.Freshness(updated))
			d, said := p.Directives(updated.Header), ParseDirectives([]string{cc304})
			if cc304 != "" && !d.Targeted && (d.NoStore != said.NoStore || d.Private != said.Private || d.NoCache != said.NoCache) {
				t.Errorf("304 says %+v, it is %+v", said, d)
			}
			if cc304 == "" && !reflect.DeepEqual(d, p.Directives(stored.Header)) {
				t.Errorf("304 says nothing, it was %+v and is %+v", p.Directives(stored.Header), d)
			}
			if !d.Targeted && said.NoStore && !d.MustUnderstand && p.Storable(request(), updated) == "" {
				t.Error("a 304 with no-store is not obeyed")
			}
			again := p.Update(updated, newer)
			if !reflect.DeepEqual(again, updated) {
				t.Errorf("updated %v\n again %v", updated, again)
			}
		}
	})
}

func check(t *testing.T, f Freshness) {
	t.Helper()
	const most = 3 * Forever
	for _, u := range []time.Time{f.FreshUntil, f.RevalidateUntil, f.StaleUntil} {
		if !u.IsZero() && (u.Before(f.Born) || u.After(now.Add(most))) {
			t.Errorf("out of bounds: %+v", f)
		}
	}
	if f.RevalidateUntil.Before(f.FreshUntil) || f.StaleUntil.Before(f.RevalidateUntil) {
		t.Errorf("out of order: %+v", f)
	}
	for _, seconds := range []int{-1 << 40, 0, 1 << 20, 1 << 40} {
		if a := f.Age(at(seconds)); a < 0 || a > Forever {
			t.Errorf("age %v of %+v", a, f)
		}
	}
	// What clients ask for makes nothing fresh that must not be used.
	if f.Strict && f.Use(f.StaleUntil, RequestDirectives{MaxStale: Delta{Forever, true}, StaleIfError: Delta{Forever, true}}) != MustAsk {
		t.Errorf("a client extends %+v", f)
	}
}

// FuzzVary compares any requests.
func FuzzVary(f *testing.F) {
	f.Add("accept-encoding, foo", "gzip;q=0.5, br", "br , x-gzip;q=.5")
	f.Add("accept", `a/b;c="x, y" , d`, `"`)
	f.Add("accept-language,accept-charset", "EN , de;q=0.001", ", ,")
	f.Fuzz(func(t *testing.T, vary, a, b string) {
		names, ok := VaryFields(http.Header{"Vary": {vary}})
		for name := range strings.SplitSeq(vary, ",") {
			if ok && strings.Trim(name, " \t") == "*" && !strings.Contains(vary, `"`) {
				t.Errorf("%q matches", vary)
			}
		}
		header := func(v string) http.Header {
			h := http.Header{}
			for _, name := range append(names, "accept", "accept-encoding", "accept-language") {
				h[http.CanonicalHeaderKey(name)] = []string{v}
			}
			return h
		}
		key := VariantKey(names, header(a))
		if len(names) > 0 && key == VariantKey(names, nil) {
			t.Errorf("%q: a value is as none", vary)
		}
		for _, name := range []string{"foo", "accept", "accept-encoding", "accept-language"} {
			x := normalize(name, []string{a})
			if again := normalize(name, []string{x}); again != x {
				t.Errorf("%s: %q becomes %q, and then %q", name, a, x, again)
			}
			if x != normalize(name, []string{" " + a + "\t"}) {
				t.Errorf("%s: white space around %q matters", name, a)
			}
			if joined := normalize(name, []string{a + ", " + b}); strings.Count(a, `"`) == 0 && strings.Count(b, `"`) == 0 && trim(a) != "" && trim(b) != "" &&
				name != "foo" && joined != normalize(name, []string{a, b}) {
				t.Errorf("%s: lines %q, %q are not combined", name, a, b)
			}
		}
		req := Request{Header: header(a)}
		if v, ok := NewVariant(req, Response{Header: http.Header{"Vary": {vary}}}); ok && Select([]Variant{v}, req.Header) != 0 {
			t.Errorf("%q: a request does not get its own response", vary)
		}
	})
}

// FuzzValidators reads any validators and ranges.
func FuzzValidators(f *testing.F) {
	f.Add(`"a"`, stamp(-100), stamp(0), "bytes 0-4/10", "5", `W/"a"`)
	f.Add(`W/"a`, "x", "", "bytes 9223372036854775807-9223372036854775807/*", "-1", "\r\n")
	f.Fuzz(func(t *testing.T, etag, modified, date, contentRange, length, other string) {
		h := http.Header{"Etag": {etag}, "Last-Modified": {modified}, "Date": {date}, "Content-Range": {contentRange}, "Content-Length": {length}}
		for _, lines := range Conditions(h) {
			if strings.ContainsAny(lines[0], "\r\n\x00") {
				t.Errorf("%q is sent", lines[0])
			}
		}
		if validator := StrongValidator(h); validator != "" && (strings.HasPrefix(validator, "W/") || strings.ContainsAny(validator, "\r\n")) {
			t.Errorf("%q is no strong validator", validator)
		}
		for _, i := range Freshened([]http.Header{h, {"Etag": {other}}}, http.Header{"Etag": {other}}) {
			if i == 0 && strings.TrimPrefix(trim(etag), "W/") != strings.TrimPrefix(trim(other), "W/") {
				t.Errorf("%q confirms %q", other, etag)
			}
		}
		for _, status := range []int{200, 206} {
			p, ok := ParsePart(status, h)
			if !ok {
				continue
			}
			if p.Start < 0 || p.End >= 0 && p.End < p.Start || p.Size >= 0 && p.End > p.Size || p.Validator == "" {
				t.Errorf("%+v", p)
			}
			if q, ok := p.Received(3); ok {
				if both, ok := p.Combine(q); ok && both != p {
					t.Errorf("%+v and its beginning are %+v", p, both)
				}
			}
		}
	})
}

// FuzzCacheStatus writes and reads any member.
func FuzzCacheStatus(f *testing.F) {
	f.Add("mirror", "stale", "a key", "é\"\\", int64(-5), 304)
	f.Add("a b", "", "*/:", "", int64(1<<40), 0)
	f.Fuzz(func(t *testing.T, cache, fwd, key, detail string, ttl int64, status int) {
		s := CacheStatus{Cache: cache, Fwd: fwd, Key: key, Detail: detail, TTL: time.Duration(ttl), HasTTL: true, FwdStatus: status, Hit: true}
		member := s.String()
		ParseCacheStatus([]string{cache + key, detail}) // must not panic
		const largest = 999_999_999_999_999             // of a structured field, RFC 9651 section 3.3.1
		if cache == "" || status < -largest || status > largest {
			return
		}
		back, err := ParseCacheStatus([]string{"x;hit", member})
		if err != nil || len(back) != 2 || back[1].Cache != printable(cache) || back[1].Key != printable(key) || back[1].Detail != printable(detail) {
			t.Errorf("%+v is written as %s, and read as %+v, %v", s, member, back, err)
		}
	})
}

// FuzzInvalidated resolves any Location.
func FuzzInvalidated(f *testing.F) {
	f.Add("http://example.org/a", "../b#c", "//example.org:80/")
	f.Fuzz(func(t *testing.T, target, location, contentLocation string) {
		u, err := url.Parse(target)
		if err != nil {
			return
		}
		for _, uri := range Invalidated("POST", u, Response{Status: 201, Header: http.Header{"Location": {location}, "Content-Location": {contentLocation}}}) {
			if !sameOrigin(uri, u) || uri.Fragment != "" {
				t.Errorf("%s invalidates %s", target, uri)
			}
		}
	})
}
