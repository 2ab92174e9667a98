package sandbox

import (
	"io"
	"net"
)

// maxRelayed is how many connections are relayed at once. Others wait.
const maxRelayed = 64

// relay leads connections to a socket in the file system, which is the same in every
// namespace of the network.
func relay(l net.Listener, socket string) {
	slots := make(chan struct{}, maxRelayed)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			defer c.Close()
			out, err := net.Dial("unix", socket) //nolint:noctx // of this machine; it ends with the connection
			if err != nil {
				return
			}
			defer out.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				copyHalf(out, c)
			}()
			copyHalf(c, out)
			<-done
		}()
	}
}

// copyHalf copies one direction, and tells its end.
func copyHalf(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if w, ok := to.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
}
