package freshness

import (
	"net/http"
	"strings"
	"time"
)

// now is when the responses of the tests come, unless they say otherwise.
var now = time.Date(2026, time.November, 28, 2, 0, 0, 0, time.UTC)

// at is the time some seconds after now.
func at(seconds int) time.Time { return now.Add(time.Duration(seconds) * time.Second) }

// stamp is an HTTP-date some seconds after now.
func stamp(seconds int) string { return at(seconds).Format(http.TimeFormat) }

// fields makes a header of lines "Name: value".
func fields(lines ...string) http.Header {
	h := http.Header{}
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		h.Add(name, value)
	}
	return h
}

// reply is a response that came at once, now.
func reply(status int, lines ...string) Response {
	return Response{Status: status, Header: fields(lines...), RequestTime: now, ResponseTime: now}
}

// request is a GET.
func request(lines ...string) Request { return Request{http.MethodGet, fields(lines...)} }

func seconds(n int) Delta { return Delta{time.Duration(n) * time.Second, true} }
