package upstream

import (
	"crypto/tls"
	"net"
	"sync/atomic"
)

// Where a body is longer than announced, its surplus lies in the buffers of the
// connection, and could be taken for the answer to the next request: net/http closes such
// a connection, unless that request is faster. So it is checked that the first byte of an
// answer was read after the request had been written.
//
// What is under way in the network while the next request is written is told from its
// answer only if it does not look like one (isSurplus); over HTTP/1 nobody can do better.
// HTTP/2 does not have this.

const (
	idle     = iota // a request is about to be sent
	asked           // it was
	answered        // and then something came
)

// An orderedConn is a connection that knows whether something was read after a request
// was written.
type orderedConn struct {
	net.Conn
	state atomic.Int32
}

// Read implements [net.Conn].
func (c *orderedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.state.CompareAndSwap(asked, answered)
	}
	return n, err
}

// Write implements [net.Conn].
func (c *orderedConn) Write(p []byte) (int, error) {
	c.state.CompareAndSwap(idle, asked)
	return c.Conn.Write(p)
}

// ordered is the connection below one that is about to be used, nil if its order is not
// known or does not matter.
func ordered(c net.Conn) *orderedConn {
	if t, ok := c.(*tls.Conn); ok {
		if t.ConnectionState().NegotiatedProtocol == "h2" {
			return nil
		}
		c = t.NetConn()
	}
	o, _ := c.(*orderedConn)
	return o
}
