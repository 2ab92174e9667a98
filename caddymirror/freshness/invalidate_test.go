package freshness

import (
	"net/url"
	"slices"
	"testing"
)

// TestInvalidated_4_4 is RFC 9111 section 4.4.
func TestInvalidated_4_4(t *testing.T) {
	const target = "http://example.org/a/b?c"
	for _, tc := range []struct {
		name   string
		method string
		status int
		lines  []string
		want   []string
	}{
		{"POST", "POST", 200, nil, []string{target}},
		{"PUT", "PUT", 204, nil, []string{target}},
		{"DELETE", "DELETE", 202, nil, []string{target}},
		{"PATCH", "PATCH", 200, nil, []string{target}},
		{"unknown", "M-SEARCH", 200, nil, []string{target}},
		{"case counts", "get", 200, nil, []string{target}},
		{"redirect", "POST", 303, nil, []string{target}},
		{"GET", "GET", 200, []string{"Location: /x"}, nil},
		{"HEAD", "HEAD", 200, nil, nil},
		{"OPTIONS", "OPTIONS", 200, nil, nil},
		{"TRACE", "TRACE", 200, nil, nil},
		{"400", "POST", 400, nil, nil},
		{"error of the client", "POST", 404, []string{"Location: /x"}, nil},
		{"error of the server", "POST", 500, nil, nil},
		{"not final", "POST", 100, nil, nil},
		{"Location", "POST", 201, []string{"Location: /x"}, []string{target, "http://example.org/x"}},
		{"Location, relative", "POST", 201, []string{"Location: ../x?y"}, []string{target, "http://example.org/x?y"}},
		{"Location with port", "POST", 201, []string{"Location: HTTP://EXAMPLE.org:80/x"}, []string{target, "http://EXAMPLE.org:80/x"}},
		{"Location with fragment", "POST", 201, []string{"Location: /x#y"}, []string{target, "http://example.org/x"}},
		{"Location, other host", "POST", 201, []string{"Location: http://example.com/x"}, []string{target}},
		{"Location, other port", "POST", 201, []string{"Location: http://example.org:8080/x"}, []string{target}},
		{"Location, other scheme", "POST", 201, []string{"Location: https://example.org/x"}, []string{target}},
		{"Location, without scheme", "POST", 201, []string{"Location: //example.com/x"}, []string{target}},
		{"Location is none", "POST", 201, []string{"Location: http://[/"}, []string{target}},
		{"Content-Location", "POST", 200, []string{"Content-Location: x"}, []string{target, "http://example.org/a/x"}},
		{"both, the same", "POST", 200, []string{"Location: /x", "Content-Location: /x"}, []string{target, "http://example.org/x"}},
		{"the target itself", "POST", 200, []string{"Content-Location: " + target}, []string{target}},
	} {
		u, err := url.Parse(target + "#fragment")
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, uri := range Invalidated(tc.method, u, reply(tc.status, tc.lines...)) {
			got = append(got, uri.String())
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
	for _, other := range []string{"https://example.org:443/x", "https://example.org/x"} {
		a, _ := url.Parse("https://example.org/")
		b, _ := url.Parse(other)
		if !sameOrigin(a, b) {
			t.Errorf("%s is of another origin", other)
		}
	}
}
