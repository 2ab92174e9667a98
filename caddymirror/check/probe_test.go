package check

import (
	"net/http"
	"testing"
)

func TestCacheStatus(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		lines     []string
		told, hit bool
		detail    string
	}{
		{nil, false, false, ""},
		{[]string{"Other; hit"}, false, false, ""},
		{[]string{"mirror; hit"}, true, true, ""},
		{[]string{"mirror; hit; ttl=-12; detail=origin-away"}, true, true, "origin-away"},
		{[]string{"mirror; fwd=stale; fwd-status=304"}, true, true, ""},
		{[]string{"mirror; fwd=stale; fwd-status=200; stored"}, true, false, ""},
		{[]string{"mirror; fwd=bypass; detail=unfinished"}, true, false, "unfinished"},
		{[]string{`mirror; fwd=uri-miss, "a, mirror; hit"; hit`}, true, false, ""},
		{[]string{"mirror; fwd=uri-miss, mirror; hit"}, true, true, ""}, // the one next to us
		{[]string{"mirror; fwd=uri-miss", "HIT from proxy"}, true, false, ""},
	} {
		status, told := cacheStatus(http.Header{"Cache-Status": tc.lines})
		if told != tc.told || isHit(status) != tc.hit || status.Detail != tc.detail {
			t.Errorf("%q: %v, %v", tc.lines, status, told)
		}
	}
}
