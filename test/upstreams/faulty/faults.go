package faulty

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Honest passes the answer of the upstream on as it comes.
func Honest(x *Exchange) bool {
	resp, err := x.ask()
	if err != nil {
		return x.SendAll(x.Honest()) // 502, or the second try's
	}
	defer resp.Body.Close()
	a := Answer{Status: resp.StatusCode, Header: resp.Header}
	switch {
	case x.Request.Method == http.MethodHead || a.Status == http.StatusNotModified || a.Status == http.StatusNoContent:
		return x.SendAll(a)
	case resp.ContentLength < 0:
		if x.SendHead(a, "Transfer-Encoding: chunked") != nil {
			return false
		}
		buf := make([]byte, 64<<10)
		for {
			n, err := resp.Body.Read(buf)
			if n > 0 && x.Chunk(buf[:n]) != nil {
				return false
			}
			if err != nil {
				return err == io.EOF && x.Send("0\n\n") == nil
			}
		}
	}
	if x.SendHead(a, "Content-Length: "+strconv.FormatInt(resp.ContentLength, 10)) != nil {
		return false
	}
	n, err := io.Copy(x.Conn, resp.Body)
	return err == nil && n == resp.ContentLength
}

// First is one fault for the first n requests of a target, and another one for the rest.
func First(n int, f, rest Fault) Fault {
	return func(x *Exchange) bool {
		if x.N <= n {
			return f(x)
		}
		return rest(x)
	}
}

// Silent takes the request and says nothing.
func Silent(x *Exchange) bool { x.Gone(); return false }

// Close closes the connection in place of an answer.
func Close(*Exchange) bool { return false }

// ResetBefore resets the connection in place of an answer.
func ResetBefore(x *Exchange) bool { x.Reset(); return false }

// ResetInHeader resets the connection in the middle of the header.
func ResetInHeader(x *Exchange) bool {
	head := x.Honest().Head()
	x.Write([]byte(head[:len(head)/2]))
	x.Reset()
	return false
}

// SlowHeader waits before it answers.
func SlowHeader(d time.Duration) Fault {
	return func(x *Exchange) bool { return x.Sleep(d) && x.SendAll(x.Honest()) }
}

// TrickledHeader sends one more field of the header each time, without an end.
func TrickledHeader(every time.Duration) Fault {
	return func(x *Exchange) bool {
		x.Send("HTTP/1.1 200 OK\n")
		for i := 0; x.Sleep(every) && x.Send("X-%d: a\n", i) == nil; i++ {
		}
		return false
	}
}

// body sends a whole head, with the honest length, and leaves the body to f.
func body(f func(x *Exchange, body []byte) (keep bool)) Fault {
	return func(x *Exchange) bool {
		a := x.Honest()
		if x.Request.Method == http.MethodHead {
			return x.SendAll(a)
		}
		return x.SendHead(a, "Content-Length: "+strconv.Itoa(len(a.Body))) == nil && f(x, a.Body)
	}
}

// Trickle sends the first n bytes of the body at once, and the rest byte by byte.
func Trickle(n int, every time.Duration) Fault {
	return body(func(x *Exchange, body []byte) bool {
		n := min(n, len(body))
		_, err := x.Write(body[:n])
		for ; err == nil && n < len(body) && x.Sleep(every); n++ {
			_, err = x.Write(body[n : n+1])
		}
		return err == nil && n == len(body)
	})
}

// Slow sends the body in pieces, with a pause before each: slow, and not broken.
func Slow(piece int, pause time.Duration) Fault {
	return body(func(x *Exchange, body []byte) bool {
		for len(body) > 0 {
			n := min(piece, len(body))
			if !x.Sleep(pause) {
				return false
			}
			if _, err := x.Write(body[:n]); err != nil {
				return false
			}
			body = body[n:]
		}
		return true
	})
}

// Stall sends the first n bytes of the body, and no more.
func Stall(n int) Fault {
	return body(func(x *Exchange, body []byte) bool {
		x.Write(body[:min(n, len(body))])
		x.Gone()
		return false
	})
}

// ResetAt resets the connection after n bytes of the body.
func ResetAt(n int) Fault {
	return body(func(x *Exchange, body []byte) bool {
		x.Write(body[:min(n, len(body))])
		x.Reset()
		return false
	})
}

// TooShort says a length that is n more than the body has, and closes the connection.
func TooShort(n int) Fault {
	return func(x *Exchange) bool {
		a := x.Honest()
		x.SendHead(a, "Content-Length: "+strconv.Itoa(len(a.Body)+n))
		x.Write(a.Body)
		return false
	}
}

// TooLong sends n bytes more than the length that it says.
func TooLong(n int) Fault {
	return body(func(x *Exchange, body []byte) bool {
		x.Write(body)
		x.Write(bytes.Repeat([]byte("x"), n))
		return true
	})
}

// TwoLengths says two lengths: the body's, and one that is smaller.
func TwoLengths(x *Exchange) bool {
	a := x.Honest()
	x.SendHead(a, "Content-Length: "+strconv.Itoa(len(a.Body)), "Content-Length: "+strconv.Itoa(len(a.Body)/2))
	x.Write(a.Body)
	return false
}

// Until has the body end with the connection, and nothing say its length.
func Until(n int) Fault {
	return func(x *Exchange) bool {
		a := x.Honest()
		x.SendHead(a, "Connection: close")
		x.Write(a.Body[:min(n, len(a.Body))])
		return false
	}
}

// chunked sends the head of a chunked answer, and leaves the body to f.
func chunked(f func(x *Exchange, body []byte), lines ...string) Fault {
	return func(x *Exchange) bool {
		a := x.Honest()
		if x.SendHead(a, append(lines, "Transfer-Encoding: chunked")...) == nil {
			f(x, a.Body)
		}
		return false
	}
}

var (
	// CutChunks sends half of the body in whole chunks, and closes the connection.
	CutChunks = chunked(func(x *Exchange, body []byte) { x.Chunk(body[:len(body)/2]) })

	// CutChunk sends half of a chunk, and closes the connection.
	CutChunk = chunked(func(x *Exchange, body []byte) { x.Send("%x\n", len(body)); x.Write(body[:len(body)/2]) })

	// NoLastChunk sends all of the body and closes the connection before the last chunk,
	// which is empty.
	NoLastChunk = chunked(func(x *Exchange, body []byte) { x.Chunk(body) })

	// BadChunk sends half of the body, and then something that is no chunk.
	BadChunk = chunked(func(x *Exchange, body []byte) { x.Chunk(body[:len(body)/2]); x.Send("zz\n"); x.Gone() })

	// Trailers sends the body in one chunk, and fields after it that must not count.
	Trailers = chunked(func(x *Exchange, body []byte) {
		x.Chunk(body)
		x.Send("0\nETag: \"trailer\"\nCache-Control: max-age=99999\nX-Trailer: 1\nSet-Cookie: a=b\n\n")
	}, "Trailer: ETag, Cache-Control, X-Trailer, Set-Cookie")
)

// EndlessChunks sends chunks as long as somebody reads, limit bytes at most.
func EndlessChunks(limit int) Fault {
	return chunked(func(x *Exchange, _ []byte) {
		chunk := bytes.Repeat([]byte("x"), 32<<10)
		for sent := 0; sent < limit && x.Chunk(chunk) == nil; sent += len(chunk) {
		}
	})
}

// HugeHeader sends so many bytes of header in front of the honest one.
func HugeHeader(size int) Fault {
	return func(x *Exchange) bool {
		a := x.Honest()
		if x.Send("HTTP/1.1 200 OK\n") != nil {
			return false
		}
		value := strings.Repeat("a", 8<<10)
		for sent := 0; sent < size; sent += len(value) {
			if x.Send("X-%d: %s\n", sent, value) != nil {
				return false
			}
		}
		_, fields, _ := strings.Cut(a.Head(), "\r\n")
		if x.Send("%sContent-Length: %d\n\n", strings.ReplaceAll(fields, "\r\n", "\n"), len(a.Body)) != nil {
			return false
		}
		_, err := x.Write(a.Body)
		return err == nil
	}
}

// LongLine sends a header of one line of so many bytes.
func LongLine(size int) Fault {
	return func(x *Exchange) bool {
		x.Send("HTTP/1.1 200 OK\nX-A: ")
		piece := strings.Repeat("a", 64<<10)
		for sent := 0; sent < size; sent += len(piece) {
			if x.Send("%s", piece) != nil {
				return false
			}
		}
		return false
	}
}

// Informational sends n responses with status 103, then the honest answer.
func Informational(n int) Fault {
	return func(x *Exchange) bool {
		for range n {
			if x.Send("HTTP/1.1 103 Early Hints\nETag: \"hint\"\nLink: </a>; rel=preload\n\n") != nil {
				return false
			}
		}
		return x.SendAll(x.Honest())
	}
}

// NotHTTP sends the greeting of another protocol.
func NotHTTP(x *Exchange) bool { x.Send("SSH-2.0-OpenSSH_9.2\n"); x.Gone(); return false }

// Status answers with a status, fields ("Name: value") and a body that names the status.
func Status(status int, lines ...string) Fault {
	return func(x *Exchange) bool {
		text := fmt.Sprintf("upstream says %d\n", status)
		a := Answer{Status: status, Header: http.Header{"Date": {time.Now().UTC().Format(http.TimeFormat)}}, Body: []byte(text)}
		for _, line := range lines {
			name, value, _ := strings.Cut(line, ": ")
			a.Header.Add(name, value)
		}
		return x.SendAll(a)
	}
}

// Redirect answers with status 302 to somewhere else; %d is how manieth request it is.
func Redirect(to string) Fault {
	return func(x *Exchange) bool {
		location := to
		if strings.Contains(to, "%d") {
			location = fmt.Sprintf(to, x.N)
		}
		return x.SendAll(Answer{http.StatusFound, http.Header{"Location": {location}}, []byte("there\n")})
	}
}

// RedirectToItself redirects each target to itself.
func RedirectToItself(x *Exchange) bool { return Redirect(x.Request.RequestURI)(x) }

// RedirectOn redirects each target to another one, without an end.
func RedirectOn(x *Exchange) bool {
	return x.SendAll(Answer{http.StatusFound, http.Header{"Location": {x.Request.URL.Path + "x"}}, nil})
}

// Fields changes fields of the honest answer; an empty value removes the field.
func Fields(lines ...string) Fault {
	return func(x *Exchange) bool {
		a := x.Honest()
		for _, line := range lines {
			name, _, _ := strings.Cut(line, ":")
			a.Header.Del(name)
		}
		for _, line := range lines {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(value) != "" {
				a.Header.Add(name, strings.TrimSpace(value))
			}
		}
		return x.SendAll(a)
	}
}

// Dates moves Date, Last-Modified and Expires of the honest answer by so much.
func Dates(by time.Duration) Fault {
	return func(x *Exchange) bool {
		a := x.Honest()
		for _, name := range []string{"Date", "Last-Modified", "Expires"} {
			if at, err := http.ParseTime(a.Header.Get(name)); err == nil {
				a.Header.Set(name, at.Add(by).UTC().Format(http.TimeFormat))
			}
		}
		return x.SendAll(a)
	}
}

// Part answers with status 206 and this Content-Range, whatever was asked for.
func Part(contentRange string) Fault {
	return func(x *Exchange) bool {
		a := x.Honest()
		a.Status = http.StatusPartialContent
		a.Header.Set("Content-Range", contentRange)
		return x.SendAll(a)
	}
}

// Bomb answers with a body of few bytes that are size bytes once they are decoded.
func Bomb(size int64) Fault {
	const member = 16 << 20
	var one bytes.Buffer
	z := gzip.NewWriter(&one)
	z.Write(make([]byte, member))
	z.Close()
	body := bytes.Repeat(one.Bytes(), int(size/member))
	return func(x *Exchange) bool {
		return x.SendAll(Answer{http.StatusOK, http.Header{
			"Content-Encoding": {"gzip"}, "Content-Type": {"text/plain"}, "Vary": {"Accept-Encoding"},
			"Etag": {`"bomb"`}, "Cache-Control": {"max-age=600"},
		}, body})
	}
}

// Unasked304 answers with status 304, whatever was asked for.
func Unasked304(x *Exchange) bool {
	a := x.Honest()
	return x.SendAll(Answer{http.StatusNotModified, http.Header{"Etag": a.Header["Etag"]}, nil})
}

// Without is a fault whose honest answers lack some fields.
func Without(f Fault, names ...string) Fault {
	return func(x *Exchange) bool {
		x.without = append(x.without, names...)
		return f(x)
	}
}
