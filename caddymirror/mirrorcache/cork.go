package mirrorcache

import (
	"context"
	"net"
	"net/http"

	"golang.org/x/sys/unix"
)

// corkSize is from how many bytes on a write is corked.
const corkSize = 16 << 10

// connKey is the key of a request's connection in its context.
type connKey struct{}

// keepConn keeps a connection for cork. With TLS there is nothing to keep: the
// head is a record of its own, whatever is done below.
func keepConn(ctx context.Context, c net.Conn) context.Context {
	tcp, ok := c.(*net.TCPConn)
	if !ok || ctx.Value(connKey{}) != nil { // each handler of a server asks for it
		return ctx
	}
	return context.WithValue(ctx, connKey{}, tcp)
}

// cork holds back what is less than a segment until uncork is called (tcp(7),
// TCP_CORK): a head, and what is written after it, go out together.
//
// net/http writes the head and the first of a body, 4 KiB in all, by itself. A
// client on another core wakes for them, and reads while the rest is being
// written: its acknowledgements have it do a part of the server's sending in the
// kernel, and it spends up to twice the CPU time on a body of 1 MiB.
func cork(r *http.Request) (uncork func()) {
	c, ok := r.Context().Value(connKey{}).(*net.TCPConn)
	if !ok || r.ProtoMajor != 1 { // other streams of HTTP/2 must not wait
		return func() {}
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return func() {}
	}
	set := func(v int) {
		// Should it fail, there is one more segment, or the connection is closed.
		_ = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, v) })
	}
	set(1)
	return func() { set(0) }
}
