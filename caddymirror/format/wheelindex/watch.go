package wheelindex

import (
	"io"
	"sync"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// watch returns a body that tells when it is closed.
func watch(b origin.Body, done func()) origin.Body {
	w := &watched{Body: b, done: sync.OnceFunc(done)}
	if to, ok := b.(io.WriterTo); ok {
		return &watchedTo{w, to}
	}
	return w
}

type watched struct {
	origin.Body
	done func()
}

func (w *watched) Close() error {
	defer w.done()
	return w.Body.Close()
}

type watchedTo struct {
	*watched
	to io.WriterTo
}

func (w *watchedTo) WriteTo(out io.Writer) (int64, error) { return w.to.WriteTo(out) }
