package freshness

import (
	"reflect"
	"slices"
	"testing"
)

// TestStorable_3 is RFC 9111 section 3, and 3.5.
func TestStorable_3(t *testing.T) {
	cdn := Policy{Targets: []string{CDNCacheControl}}
	mirror := Policy{IgnoreClients: true, Rule: Immutable}
	for _, tc := range []struct {
		name   string
		policy Policy
		req    Request
		resp   Response
		want   Refusal
	}{
		{"method", Policy{}, request(), reply(200), ""},
		{"method HEAD", Policy{}, Request{Method: "HEAD"}, reply(200), RefusedMethod},
		{"method POST", Policy{}, Request{Method: "POST"}, reply(200, "Cache-Control: max-age=60"), RefusedMethod},
		{"method in lower case", Policy{}, Request{Method: "get"}, reply(200), RefusedMethod},

		{"status 100", Policy{}, request(), reply(100, "Cache-Control: max-age=60"), RefusedStatus},
		{"status 304", Policy{}, request(), reply(304, "Cache-Control: max-age=60"), RefusedStatus},
		{"status 600", Policy{}, request(), reply(600, "Cache-Control: max-age=60"), RefusedStatus},
		{"status 299 with lifetime", Policy{}, request(), reply(299, "Cache-Control: max-age=60"), ""},
		{"status 599 with lifetime", Policy{}, request(), reply(599, "Cache-Control: max-age=60"), ""},
		{"RFC 6585 3", Policy{}, request(), reply(428, "Cache-Control: max-age=60"), RefusedStatus},
		{"RFC 6585 4", Policy{}, request(), reply(429, "Cache-Control: max-age=60"), RefusedStatus},
		{"RFC 6585 5", Policy{}, request(), reply(431, "Cache-Control: max-age=60"), RefusedStatus},
		{"RFC 6585 6", Policy{}, request(), reply(511, "Cache-Control: max-age=60"), RefusedStatus},

		{"5.2.2.3 must-understand, understood", Policy{}, request(), reply(200, "Cache-Control: must-understand, no-store, max-age=60"), ""},
		{"5.2.2.3 must-understand, not understood", Policy{}, request(), reply(299, "Cache-Control: must-understand, max-age=60"), RefusedUnknown},
		{"5.2.2.3 must-understand, not understood, no-store", Policy{}, request(), reply(599, "Cache-Control: no-store, must-understand"), RefusedUnknown},

		{"5.2.2.5 no-store", Policy{}, request(), reply(200, "Cache-Control: max-age=60, no-store"), RefusedNoStore},
		{"5.2.2.5 no-store for mirrors too", mirror, request(), reply(200, "Cache-Control: no-store"), RefusedNoStore},
		{"5.2.1.5 no-store in the request", Policy{}, request("Cache-Control: no-store"), reply(200), RefusedRequest},
		{"5.2.1.5 no-store in the request of a mirror", mirror, request("Cache-Control: no-store"), reply(200), ""},
		{"5.2.2.7 private", Policy{}, request(), reply(200, "Cache-Control: private, max-age=60"), RefusedPrivate},
		{"5.2.2.7 private and public", Policy{}, request(), reply(200, "Cache-Control: public, private"), RefusedPrivate},
		{"5.2.2.7 private with fields", Policy{}, request(), reply(200, `Cache-Control: private="x-user"`), ""},
		{"5.4 Pragma in a response means nothing", Policy{}, request(), reply(200, "Pragma: no-cache"), ""},

		{"3.5 Authorization", Policy{}, request("Authorization: Basic eDp5"), reply(200, "Cache-Control: max-age=60"), RefusedAuthorization},
		{"3.5 Authorization, empty", Policy{}, request("Authorization: "), reply(200, "Cache-Control: max-age=60"), RefusedAuthorization},
		{"3.5 Authorization, public", Policy{}, request("Authorization: Basic eDp5"), reply(200, "Cache-Control: public"), ""},
		{"3.5 Authorization, s-maxage", Policy{}, request("Authorization: Basic eDp5"), reply(200, "Cache-Control: s-maxage=60"), ""},
		{"3.5 Authorization, must-revalidate", Policy{}, request("Authorization: Basic eDp5"), reply(200, "Cache-Control: max-age=60, must-revalidate"), ""},
		{"3.5 Authorization, proxy-revalidate", Policy{}, request("Authorization: Basic eDp5"), reply(200, "Cache-Control: proxy-revalidate"), RefusedAuthorization},
		{"3.5 Authorization, a rule does not revalidate", mirror, request("Authorization: Basic eDp5"), reply(200, "Cache-Control: max-age=60, must-revalidate"), RefusedAuthorization},
		{"3.5 Authorization, public, with a rule", mirror, request("Authorization: Basic eDp5"), reply(200, "Cache-Control: public"), ""},

		{"201", Policy{}, request(), reply(201), RefusedNotCacheable},
		{"302", Policy{}, request(), reply(302), RefusedNotCacheable},
		{"302 public", Policy{}, request(), reply(302, "Cache-Control: public"), ""},
		{"302 Expires", Policy{}, request(), reply(302, "Expires: "+stamp(60)), ""},
		{"302 Expires, invalid", Policy{}, request(), reply(302, "Expires: 0"), ""},
		{"302 max-age", Policy{}, request(), reply(302, "Cache-Control: max-age=60"), ""},
		{"302 s-maxage", Policy{}, request(), reply(302, "Cache-Control: s-maxage=60"), ""},
		{"302 stale-if-error alone", Policy{}, request(), reply(302, "Cache-Control: stale-if-error=60"), RefusedNotCacheable},
		{"500", Policy{}, request(), reply(500), RefusedNotCacheable},
		{"503 max-age", Policy{}, request(), reply(503, "Cache-Control: max-age=60"), ""},

		{"RFC 9213 2.2 allows", cdn, request(), reply(200, "Cache-Control: no-store", "CDN-Cache-Control: max-age=60"), ""},
		{"RFC 9213 2.2 forbids", cdn, request(), reply(200, "Cache-Control: max-age=60", "CDN-Cache-Control: no-store"), RefusedNoStore},
		{"RFC 9213 2.2 Expires means nothing", cdn, request(), reply(302, "Expires: "+stamp(60), "CDN-Cache-Control: none"), RefusedNotCacheable},
		{"RFC 9213 2.1 malformed", cdn, request(), reply(200, "Cache-Control: no-store", `CDN-Cache-Control: max-age="60"`), RefusedNoStore},

		{"4.1 Vary: *", Policy{}, request(), reply(200, "Cache-Control: max-age=60", "Vary: accept, *"), RefusedVary},
		{"4.1 Vary", Policy{}, request(), reply(200, "Vary: accept"), ""},

		{"3.3 part", Policy{}, request("Range: bytes=0-4"), reply(206, `ETag: "a"`, "Content-Range: bytes 0-4/10"), ""},
		{"3.4 part without validator", Policy{}, request("Range: bytes=0-4"), reply(206, "Content-Range: bytes 0-4/10"), RefusedPartial},
		{"3.4 part, weak validator", Policy{}, request("Range: bytes=0-4"), reply(206, `ETag: W/"a"`, "Content-Range: bytes 0-4/10"), RefusedPartial},
		{"3.3 part, unit", Policy{}, request("Range: lines=0-4"), reply(206, `ETag: "a"`, "Content-Range: lines 0-4/10"), RefusedPartial},
	} {
		if got := tc.policy.Storable(tc.req, tc.resp); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// TestHeuristicallyCacheable_RFC9110_15_1 goes through all statuses.
func TestHeuristicallyCacheable_RFC9110_15_1(t *testing.T) {
	byDefault := map[int]bool{
		200: true, 203: true, 204: true, 300: true, 301: true, 308: true,
		404: true, 405: true, 410: true, 414: true, 451: true, 501: true,
		206: true,
	}
	for status := 100; status < 600; status++ {
		resp := reply(status)
		if status == 206 {
			resp = reply(status, `ETag: "a"`, "Content-Range: bytes 0-4/10")
		}
		if got := Policy.Storable(Policy{}, request(), resp) == ""; got != byDefault[status] {
			t.Errorf("%d: %v", status, got)
		}
	}
}

// TestMustUnderstand_5_2_2_3 goes through all statuses: those of RFC 9110 section 15 are
// understood, and 451 of RFC 7725.
func TestMustUnderstand_5_2_2_3(t *testing.T) {
	unknown := []int{207, 208, 226, 304, 305, 306, 418, 419, 420, 423, 424, 425}
	last := map[int]int{2: 206, 3: 308, 4: 426, 5: 505}
	for status := 200; status < 600; status++ {
		known := status <= last[status/100] && !slices.Contains(unknown, status) || status == 451
		resp := reply(status, "Cache-Control: must-understand, no-store, max-age=60", `ETag: "a"`, "Content-Range: bytes 0-4/10")
		if got := (Policy{}).Storable(request(), resp); (got == "") != known {
			t.Errorf("%d: %q", status, got)
		}
	}
}

// TestStoredHeader_3_1 is RFC 9111 section 3.1.
func TestStoredHeader_3_1(t *testing.T) {
	const date = "Date: Sat, 28 Nov 2026 02:00:00 GMT"
	for _, tc := range []struct {
		name        string
		lines, want []string
	}{
		{
			"all fields, unknown ones too",
			[]string{date, "ETag: \"a\"", "X-Unknown: 1", "X-Unknown: 2", "Content-Foo: 3", "Warning: 110 - stale", "Age: 5"},
			[]string{date, "ETag: \"a\"", "X-Unknown: 1", "X-Unknown: 2", "Content-Foo: 3", "Warning: 110 - stale", "Age: 5"},
		},
		{
			"of one connection",
			[]string{
				date, "Connection: close, X-Hop", "Connection: x-hop2", "X-Hop: 1", "X-Hop2: 1", "X-End: 1",
				"Keep-Alive: timeout=5", "Proxy-Connection: close", "TE: trailers", "Trailer: X", "Transfer-Encoding: chunked", "Upgrade: h2c",
			},
			[]string{date, "X-End: 1"},
		},
		{
			"of the proxy in between",
			[]string{date, "Proxy-Authenticate: Basic", "Proxy-Authentication-Info: x", "Proxy-Authorization: x"},
			[]string{date},
		},
		{"cookies", []string{date, "Set-Cookie: a=b", "Set-Cookie2: a=b"}, []string{date}},
		{
			"named by no-cache and private",
			[]string{date, `Cache-Control: max-age=60, no-cache="X-A", private="x-b, X-C"`, "X-A: 1", "X-B: 1", "X-C: 1", "X-D: 1"},
			[]string{date, `Cache-Control: max-age=60, no-cache="X-A", private="x-b, X-C"`, "X-D: 1"},
		},
		{
			"what rules is kept",
			[]string{date, `Cache-Control: no-store, private="cache-control, vary"`, "Connection: Cache-Control, Vary, Date, Age, Expires", "Vary: a", "Age: 1", "Expires: 0"},
			[]string{date, `Cache-Control: no-store, private="cache-control, vary"`, "Vary: a", "Age: 1", "Expires: 0"},
		},
		{"RFC 9110 6.6.1 no date", nil, []string{date}},
		{"RFC 9110 6.6.1 invalid date", []string{"Date: today"}, []string{date}},
		{"RFC 9110 6.6.1 two dates", []string{date, "Date: today"}, []string{date}},
		{"a date of another form", []string{"Date: Saturday, 28-Nov-26 01:00:00 GMT"}, []string{"Date: Saturday, 28-Nov-26 01:00:00 GMT"}},
	} {
		resp := reply(200, tc.lines...)
		before := resp.Header.Clone()
		if got := (Policy{}).StoredHeader(resp); !reflect.DeepEqual(got, fields(tc.want...)) {
			t.Errorf("%s:\n got %v\nwant %v", tc.name, got, fields(tc.want...))
		}
		if !reflect.DeepEqual(resp.Header, before) {
			t.Errorf("%s: the response was changed", tc.name)
		}
	}
	target := Policy{Targets: []string{"cdn-cache-control"}}
	if got := target.StoredHeader(reply(200, "Connection: CDN-Cache-Control", "CDN-Cache-Control: no-store")); got.Get(CDNCacheControl) == "" {
		t.Error("a targeted field that rules is not kept")
	}
	if got := (Policy{}).StoredHeader(Response{ResponseTime: now}); len(got) != 1 {
		t.Errorf("no header: %v", got)
	}
}
