package freshness_test

import (
	"fmt"
	"net/http"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/freshness"
)

// The way of a response that is stored, gets stale, and is confirmed.
func Example() {
	start := time.Date(2026, time.November, 28, 2, 0, 0, 0, time.UTC)
	policy := freshness.Policy{MaxStale: 24 * time.Hour}
	req := freshness.Request{Method: http.MethodGet, Header: http.Header{"Accept-Encoding": {"gzip, br"}}}
	resp := freshness.Response{
		Status: http.StatusOK,
		Header: http.Header{
			"Cache-Control": {"max-age=60"}, "Etag": {`"v1"`}, "Vary": {"Accept-Encoding"}, "Connection": {"close"},
		},
		RequestTime: start, ResponseTime: start,
	}

	// What came is stored.
	if why := policy.Storable(req, resp); why != "" {
		fmt.Println("not stored:", why)
	}
	entry := resp
	entry.Header = policy.StoredHeader(resp)
	fresh := policy.Freshness(entry)
	variant, _ := freshness.NewVariant(req, entry)

	// Two requests are answered, one of them too late.
	client := http.Header{"Accept-Encoding": {"br, gzip;q=1.0"}}
	fmt.Println("variant", freshness.Select([]freshness.Variant{variant}, client))
	fmt.Println(fresh.Use(start.Add(30*time.Second), policy.Request(client)))
	later := start.Add(90 * time.Second)
	fmt.Println(fresh.Use(later, policy.Request(client)))

	// So the upstream is asked, and says that nothing has changed.
	fmt.Println(freshness.Conditions(entry.Header))
	notModified := freshness.Response{
		Status:      http.StatusNotModified,
		Header:      http.Header{"Etag": {`"v1"`}, "Cache-Control": {"max-age=120"}},
		RequestTime: later, ResponseTime: later,
	}
	if len(freshness.Freshened([]http.Header{entry.Header}, notModified.Header)) > 0 {
		entry = policy.Update(entry, notModified)
		fresh = policy.Freshness(entry)
	}
	fmt.Println(fresh.FreshUntil.Sub(start), entry.Header)

	// Output:
	// variant 0
	// serve
	// ask or serve
	// map[If-None-Match:["v1"]]
	// 3m30s map[Cache-Control:[max-age=120] Date:[Sat, 28 Nov 2026 02:01:30 GMT] Etag:["v1"] Vary:[Accept-Encoding]]
}
