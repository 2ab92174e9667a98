package upstream

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	ok10 = "HTTP/1.1 200 OK\nContent-Length: 10\n\n"
	tag  = "ETag: \"v1\"\n"
)

// ten is what the upstreams of these tests have.
const ten = "0123456789"

// part is an honest 206 of ten.
func part(x *exchange, from int) bool {
	return x.send("HTTP/1.1 206 Partial Content\n"+tag+"Content-Range: bytes %d-9/10\nContent-Length: %d\n\n%s",
		from, 10-from, ten[from:]) == nil
}

// dribble sends pieces with pauses until the client has left, or for 5 s.
func dribble(x *exchange, pause time.Duration, piece string) bool {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(pause) {
		if x.send("%s", piece) != nil {
			break
		}
	}
	return false
}

// TestHostile is the table of what upstreams do wrong: the class of the error, the bytes
// that came before it, how often the upstream was asked, and in which time it was over.
func TestHostile(t *testing.T) {
	t.Parallel()
	all := Request{Target: "/x"}
	from4 := Request{Target: "/x", Offset: 4, Only: `"v1"`}
	for _, row := range []struct {
		name     string
		request  Request
		class    error
		body     string
		requests int // 0: any number
		within   time.Duration
		answer   func(x *exchange) bool
	}{
		{"honest", all, nil, ten, 1, time.Second, func(x *exchange) bool { return x.send(ok10+ten) == nil }},
		{"no header", all, ErrAway, "", 1, 3 * time.Second, func(x *exchange) bool { time.Sleep(5 * time.Second); return false }},
		{"slow header", all, ErrAway, "", 1, 3 * time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\n")
			return dribble(x, 100*time.Millisecond, "X-A: b\n")
		}},
		{"nothing", all, ErrAway, "", 1, time.Second, func(x *exchange) bool { return false }},
		{"reset in front of the header", all, ErrAway, "", 1, time.Second, func(x *exchange) bool { x.reset(); return false }},
		{"reset in the header", all, ErrAway, "", 1, time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\nContent-")
			time.Sleep(50 * time.Millisecond)
			x.reset()
			return false
		}},
		{"not HTTP", all, ErrLying, "", 1, time.Second, func(x *exchange) bool { x.send("SSH-2.0-OpenSSH\n\n"); return false }},
		{"100 MB of header", all, ErrLying, "", 1, 3 * time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\n")
			for line, sent := "X-A: "+strings.Repeat("a", 1<<16)+"\n", 0; sent < 100<<20; sent += len(line) {
				if x.send("%s", line) != nil {
					break
				}
			}
			return false
		}},
		{"a header of one endless line", all, ErrLying, "", 1, 3 * time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\nX-A: ")
			for range 1000 {
				if x.send("%s", strings.Repeat("a", 1<<16)) != nil {
					break
				}
			}
			return false
		}},
		{"a flood of 1xx", all, ErrLying, "", 1, 2 * time.Second, func(x *exchange) bool {
			for range 100000 {
				if x.send("HTTP/1.1 103 Early Hints\nLink: </a>\n\n") != nil {
					break
				}
			}
			return false
		}},
		{"some 1xx", all, nil, ten, 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\nETag: \"hint\"\n\n"+ok10+ten) == nil
		}},
		{"101", all, ErrLying, "", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 101 Switching Protocols\nUpgrade: x\nConnection: Upgrade\n\n") == nil
		}},

		{"a body that stops", all, ErrAway, "01234", 1, 2 * time.Second, func(x *exchange) bool {
			x.send(ok10 + ten[:5])
			time.Sleep(3 * time.Second)
			return false
		}},
		{"a trickle", all, ErrAway, "xxxx", 1, 3 * time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\nContent-Length: 1000000\n\n")
			return dribble(x, 120*time.Millisecond, "x")
		}},
		{"a body that is too short", all, ErrAway, "01234", 1, time.Second, func(x *exchange) bool { x.send(ok10 + ten[:5]); return false }},
		{"reset in the body", all, ErrAway, "01234", 1, time.Second, func(x *exchange) bool {
			x.send(ok10 + ten[:5])
			time.Sleep(50 * time.Millisecond)
			x.reset()
			return false
		}},
		{"a body that is too long", all, nil, ten, 1, time.Second, func(x *exchange) bool { x.send(ok10 + ten + ten); return false }},
		{"two lengths", all, ErrLying, "", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 200 OK\nContent-Length: 10\nContent-Length: 5\n\n"+ten) == nil
		}},
		{"a length that is none", all, ErrLying, "", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 200 OK\nContent-Length: -1\n\n"+ten) == nil
		}},
		{"chunks that are cut", all, ErrAway, "01234", 1, time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\n01234\n")
			return false
		}},
		{"a chunk that is cut", all, ErrAway, "01234", 1, time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\na\n01234")
			return false
		}},
		{"no last chunk's end", all, ErrAway, ten, 1, time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\na\n" + ten + "\n0\n")
			return false
		}},
		{"chunks that are none", all, ErrLying, "01234", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\n01234\nzz\n") == nil
		}},
		{"endless chunks", all, ErrLying, "", 1, 3 * time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\n" + tag + "Transfer-Encoding: chunked\n\n")
			for chunk := "1000\r\n" + strings.Repeat("x", 4096) + "\r\n"; x.send("%s", chunk) == nil; {
			}
			return false
		}},
		{"trailers", all, nil, ten, 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 200 OK\nTrailer: X-T, ETag\nTransfer-Encoding: chunked\n\na\n"+ten+"\n0\nETag: \"late\"\nX-T: 1\n\n") == nil
		}},

		{"206, unasked", all, ErrLying, "", 1, time.Second, func(x *exchange) bool { return part(x, 4) }},
		{"206 of the whole, unasked", all, ErrLying, "", 1, time.Second, func(x *exchange) bool { return part(x, 0) }},
		{"200 with Content-Range", all, ErrLying, "", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 200 OK\nContent-Range: bytes 0-9/20\nContent-Length: 10\n\n"+ten) == nil
		}},
		{"304, unasked", all, ErrLying, "", 1, time.Second, func(x *exchange) bool { return x.send("HTTP/1.1 304 Not Modified\n"+tag+"\n") == nil }},
		{"part", from4, nil, "456789", 1, time.Second, func(x *exchange) bool { return part(x, 4) }},
		{"another part", from4, ErrLying, "", 1, time.Second, func(x *exchange) bool { return part(x, 5) }},
		{"a part of another version", from4, ErrLying, "", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 206 Partial Content\nETag: \"v2\"\nContent-Range: bytes 4-9/10\nContent-Length: 6\n\n456789") == nil
		}},
		{"a part of no version", from4, ErrLying, "", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 206 Partial Content\nContent-Range: bytes 4-9/10\nContent-Length: 6\n\n456789") == nil
		}},
		{"a part without Content-Range", from4, ErrLying, "", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 206 Partial Content\n"+tag+"Content-Length: 6\n\n456789") == nil
		}},
		{"a part of another length", from4, ErrLying, "", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 206 Partial Content\n"+tag+"Content-Range: bytes 4-9/10\nContent-Length: 10\n\n"+ten) == nil
		}},
		{"multipart", from4, ErrLying, "", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 206 Partial Content\n"+tag+"Content-Type: multipart/byteranges; boundary=b\nContent-Length: 10\n\n"+ten) == nil
		}},
		{"the whole instead of a part", from4, nil, "456789", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 200 OK\n"+tag+"Content-Length: 10\n\n"+ten) == nil
		}},
		{"the whole of another version", from4, nil, ten, 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 200 OK\nETag: \"v2\"\nContent-Length: 10\n\n"+ten) == nil
		}},
		{"the whole instead of a part, broken off in front of it", from4, nil, "456789", 2, time.Second, func(x *exchange) bool {
			if x.n > 1 {
				return part(x, 4)
			}
			x.send("HTTP/1.1 200 OK\n" + tag + "Content-Length: 10\n\n012")
			return false
		}},
		{"the whole instead of a part, broken off for good", from4, ErrAway, "", 3, 3 * time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\n" + tag + "Content-Length: 10\n\n012")
			return false
		}},
		{"less than was asked for", from4, nil, "456789", 2, time.Second, func(x *exchange) bool {
			if x.n > 1 {
				return part(x, 6)
			}
			return x.send("HTTP/1.1 206 Partial Content\n"+tag+"Content-Range: bytes 4-5/10\nContent-Length: 2\n\n45") == nil
		}},

		{"broken off, and resumed", all, nil, ten, 2, time.Second, func(x *exchange) bool {
			if x.n > 1 {
				return x.field("If-Range") == `"v1"` && x.field("Range") == "bytes=4-" && part(x, 4)
			}
			x.send("HTTP/1.1 200 OK\n" + tag + "Content-Length: 10\n\n0123")
			return false
		}},
		{"stopped, and resumed", all, nil, ten, 2, 2 * time.Second, func(x *exchange) bool {
			if x.n > 1 {
				return part(x, 4)
			}
			x.send("HTTP/1.1 200 OK\n" + tag + "Content-Length: 10\n\n0123")
			time.Sleep(2 * time.Second)
			return false
		}},
		{"chunks that are cut, and resumed", all, nil, ten, 2, time.Second, func(x *exchange) bool {
			if x.n > 1 {
				return part(x, 4)
			}
			x.send("HTTP/1.1 200 OK\n" + tag + "Transfer-Encoding: chunked\n\n4\n0123\n")
			return false
		}},
		{"broken off, and sent as a whole", all, nil, ten, 2, time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\n"+tag+"Content-Length: 10\n\n%s", ten[:4+6*(x.n-1)])
			return false
		}},
		{"broken off, and changed", all, ErrChanged, "0123", 2, time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\nETag: \"v%d\"\nContent-Length: 10\n\n0123", x.n)
			return false
		}},
		{"broken off, and gone", all, ErrChanged, "0123", 2, time.Second, func(x *exchange) bool {
			if x.n > 1 {
				return x.send("HTTP/1.1 404 Not Found\nContent-Length: 0\n\n") == nil
			}
			x.send("HTTP/1.1 200 OK\n" + tag + "Content-Length: 10\n\n0123")
			return false
		}},
		{"broken off, and of another size", all, ErrLying, "0123", 2, time.Second, func(x *exchange) bool {
			if x.n > 1 {
				return x.send("HTTP/1.1 206 Partial Content\n"+tag+"Content-Range: bytes 4-9/11\nContent-Length: 6\n\n456789") == nil
			}
			x.send("HTTP/1.1 200 OK\n" + tag + "Content-Length: 10\n\n0123")
			return false
		}},
		{"broken off, and in another encoding", all, ErrChanged, "0123", 2, time.Second, func(x *exchange) bool {
			if x.n > 1 {
				return x.send("HTTP/1.1 206 Partial Content\n"+tag+"Content-Encoding: gzip\nContent-Range: bytes 4-9/10\nContent-Length: 6\n\n456789") == nil
			}
			x.send("HTTP/1.1 200 OK\n" + tag + "Content-Length: 10\n\n0123")
			return false
		}},
		{"broken off, and at another place", all, ErrChanged, "0123", 4, time.Second, func(x *exchange) bool {
			switch x.n {
			case 1, 3:
				return x.send("HTTP/1.1 302 Found\nLocation: /%d\nContent-Length: 0\n\n", x.n) == nil
			case 4:
				return part(x, 4)
			}
			x.send("HTTP/1.1 200 OK\n" + tag + "Content-Length: 10\n\n0123")
			return false
		}},
		{"broken off, and at the same place, signed anew", all, nil, ten, 4, time.Second, func(x *exchange) bool {
			switch x.n {
			case 1, 3:
				return x.send("HTTP/1.1 302 Found\nLocation: /y?signature=%d\nContent-Length: 0\n\n", x.n) == nil
			case 4:
				return part(x, 4)
			}
			x.send("HTTP/1.1 200 OK\n" + tag + "Content-Length: 10\n\n0123")
			return false
		}},
		{"broken off, and busy", all, ErrBusy, "0123", 2, time.Second, func(x *exchange) bool {
			if x.n > 1 {
				return x.send("HTTP/1.1 429 Too Many Requests\nRetry-After: 60\nContent-Length: 0\n\n") == nil
			}
			x.send("HTTP/1.1 200 OK\n" + tag + "Content-Length: 10\n\n0123")
			return false
		}},
		{"broken off, with a weak validator", all, ErrAway, "0123", 1, time.Second, func(x *exchange) bool {
			x.send("HTTP/1.1 200 OK\nETag: W/\"v1\"\nContent-Length: 10\n\n0123")
			return false
		}},
		{"broken off again and again", all, ErrAway, "0123", 3, 3 * time.Second, func(x *exchange) bool {
			if x.n > 1 {
				x.send("HTTP/1.1 206 Partial Content\n" + tag + "Content-Range: bytes 4-9/10\nContent-Length: 6\n\n")
				return false
			}
			x.send("HTTP/1.1 200 OK\n" + tag + "Content-Length: 10\n\n0123")
			return false
		}},

		{"500 is an answer", all, nil, "oops", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 500 Internal Server Error\nContent-Length: 4\n\noops") == nil
		}},
		{"a circle", all, ErrLoop, "", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 302 Found\nLocation: /x#again\nContent-Length: 0\n\n") == nil
		}},
		{"a circle of two", all, ErrLoop, "", 2, time.Second, func(x *exchange) bool {
			to := "/x"
			if strings.HasPrefix(x.head, "GET /x ") {
				to = "/y"
			}
			return x.send("HTTP/1.1 308 Permanent Redirect\nLocation: %s\nContent-Length: 0\n\n", to) == nil
		}},
		{"redirects without an end", all, ErrLoop, "", 11, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 301 Moved Permanently\nLocation: /%d\nContent-Length: 0\n\n", x.n) == nil
		}},
		{"ten redirects", all, nil, ten, 11, time.Second, func(x *exchange) bool {
			if x.n == 11 {
				return x.send(ok10+ten) == nil
			}
			return x.send("HTTP/1.1 301 Moved Permanently\nLocation: /%d\nContent-Length: 4\n\nhere", x.n) == nil
		}},
		{"redirects with endless bodies", all, nil, ten, 2, time.Second, func(x *exchange) bool {
			if x.n == 2 {
				return x.send(ok10+ten) == nil
			}
			x.send("HTTP/1.1 302 Found\nLocation: /y\nContent-Length: 1000000\n\n")
			return dribble(x, 10*time.Millisecond, "x")
		}},
		{"a redirect without a target", all, nil, "", 1, time.Second, func(x *exchange) bool {
			return x.send("HTTP/1.1 302 Found\nContent-Length: 0\n\n") == nil
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, row.answer)
			u := use(t, Config{URL: s.url(), MaxSize: 1 << 20})
			start := time.Now()
			_, body, err := get(t, u, row.request)
			took := time.Since(start)
			if class := classOf(t, err); class != row.class {
				t.Errorf("error %v, want %v", err, row.class)
			}
			switch row.name {
			case "a trickle":
				if !strings.HasPrefix(row.body, body) && len(body) > 10 {
					t.Errorf("%d bytes of a trickle", len(body))
				}
			case "endless chunks":
				if len(body) < 1<<20 {
					t.Errorf("%d bytes of a body without an end", len(body))
				}
			default:
				if body != row.body {
					t.Errorf("body %q, want %q", body, row.body)
				}
			}
			if n := int(s.requests.Load()); row.requests > 0 && n != row.requests {
				t.Errorf("%d requests, want %d", n, row.requests)
			}
			// A machine that does much else at the same time is slow, too.
			if took > row.within+time.Second {
				t.Errorf("it took %v, want %v", took, row.within)
			}
			var broken *BrokenError
			at := row.request.Offset + int64(len(body))
			if errors.As(err, &broken) && broken.Offset != at || body != "" && err != nil && broken == nil {
				t.Errorf("%v does not say that it ended at %d", err, at)
			}
			u.Close()
			eventually(t, "all connections are closed", func() bool { return s.open.Load() == 0 })
		})
	}
}

// TestBrokenGoesOnElsewhere checks that a second upstream can send what the first did not.
func TestBrokenGoesOnElsewhere(t *testing.T) {
	t.Parallel()
	first := serve(t, func(x *exchange) bool {
		if x.n == 1 {
			x.send("HTTP/1.1 200 OK\n" + tag + "Content-Length: 10\n\n0123")
		}
		return false
	})
	second := serve(t, func(x *exchange) bool { return part(x, 4) })
	_, body, err := get(t, use(t, Config{URL: first.url()}), Request{Target: "/x"})
	var broken *BrokenError
	if !errors.As(err, &broken) {
		t.Fatal(err)
	}
	if want := (BrokenError{4, 10, `"v1"`, broken.Err}); *broken != want {
		t.Fatalf("%+v, want %+v", *broken, want)
	}
	resp, rest, err := get(t, use(t, Config{URL: second.url()}), Request{Target: "/x", Offset: broken.Offset, Only: broken.Validator})
	if err != nil || resp.Changed || resp.Size != broken.Size || body+rest != ten {
		t.Errorf("%q and %q, %+v, %v", body, rest, resp, err)
	}
}

// TestProgressCounts checks that a large body is taken up again as often as it brings
// something each time.
func TestProgressCounts(t *testing.T) {
	t.Parallel()
	const size, piece = 3 << 20, 300 << 10
	s := serve(t, func(x *exchange) bool {
		var from int64
		if r := x.field("Range"); r != "" {
			fmt.Sscanf(r, "bytes=%d-", &from)
			x.send("HTTP/1.1 206 Partial Content\n"+tag+"Content-Range: bytes %d-%d/%d\nContent-Length: %d\n\n", from, size-1, size, size-from)
		} else {
			x.send("HTTP/1.1 200 OK\n"+tag+"Content-Length: %d\n\n", size)
		}
		x.send("%s", strings.Repeat("x", int(min(piece, size-from))))
		return false
	})
	_, body, err := get(t, use(t, Config{URL: s.url()}), Request{Target: "/x"})
	if err != nil || len(body) != size {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}
