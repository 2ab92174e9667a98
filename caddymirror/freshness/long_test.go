package freshness

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestLongFields: what is read once takes a time that grows with its length, no faster.
func TestLongFields(t *testing.T) {
	const size = 1 << 16
	for _, piece := range []string{`"\`, `"\,`, `",`, `a="\",`, ",", "a,", `a="b",`, "a;q=0.5,", `no-cache="a,b",`, "*", `\`} {
		line := strings.Repeat(piece, size/len(piece))
		h := http.Header{}
		for _, name := range []string{
			"Cache-Control", "Pragma", "Vary", "Connection", "Accept-Encoding", "Accept-Language", "Accept", "Etag", "Age", "Date",
			"Expires", "Last-Modified", "Content-Range", "Content-Length", "Location", CDNCacheControl, "Cache-Status",
		} {
			h[name] = []string{line}
		}
		var distinct strings.Builder
		for i := range size / 8 {
			distinct.WriteString("a" + time.Duration(i).String() + ",")
		}
		h.Add("Accept-Encoding", distinct.String())
		p := Policy{Targets: []string{CDNCacheControl}}
		resp := Response{Status: 200, Header: h, ResponseTime: now}
		target := &url.URL{Scheme: "http", Host: "example.org"}

		start := time.Now()
		p.Storable(Request{http.MethodGet, h}, resp)
		p.Freshness(p.Update(resp, resp))
		p.Request(h)
		VariantKey([]string{"accept", "accept-encoding", "accept-language"}, h)
		Conditions(h)
		Freshened([]http.Header{h}, h)
		ParsePart(206, h)
		Invalidated("POST", target, resp)
		ParseCacheStatus(h["Cache-Status"])
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%q: %v", piece, took)
		}
	}
}
