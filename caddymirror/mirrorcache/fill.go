package mirrorcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// fill copies an object from the origin into the cache. It belongs to no
// request: those who want the object follow it.
// g is the origin's answer if there is one already.
func (m *Mount) fill(f *diskcache.Fill, q question, g *got) {
	release, ok := m.cache.Hold()
	if !ok {
		if g != nil {
			g.Close()
		}
		f.Fail(diskcache.ErrBypass)
		return
	}
	defer release()
	err := m.copy(f, q, g)
	switch {
	case err == nil:
		m.metrics.fillStored.Inc()
	case errors.Is(err, diskcache.ErrBypass):
		m.metrics.fillBypassed.Inc()
	case errors.Is(err, diskcache.ErrBusy):
		m.metrics.fillGaveWay.Inc()
	case origin.Class(err) != "away" && origin.Class(err) != "busy":
		m.metrics.fillNotFound.Inc() // there was nothing to copy
	default:
		m.metrics.fillFailed.Inc()
		if c := m.log.Check(zap.DebugLevel, "fill failed"); c != nil {
			c.Write(zap.String("name", q.key), zap.Error(err))
		}
	}
}

// minRead is the length of the first read, so that the first byte is soon
// there; later ones are longer.
const minRead = 64 << 10

func (m *Mount) copy(f *diskcache.Fill, q question, g *got) (err error) {
	defer func() {
		if err != nil {
			f.Fail(err)
		}
	}()
	defer origin.Recover(m.log, "fill", &err)
	if g == nil {
		if g, err = m.fetch(context.Background(), q.ask); err != nil {
			m.facts.learn(q.key, err, g.rel.hash)
			return err
		}
	}
	handedOver := false
	defer func() {
		if !handedOver {
			g.Close()
		}
	}()
	if g.Passing {
		return fmt.Errorf("%w: there will be a better one soon", diskcache.ErrBypass)
	}
	if err := cmp.Or(m.verify(&q, g), m.worthFilling(&q, g)); err != nil {
		if errors.Is(err, errPass) {
			m.unstored.add(q.key, err)
			if n := g.Response.Status; !errors.Is(err, errPassOnce) && (n == http.StatusNotFound || n == http.StatusGone) {
				m.remove(q.key) // and not served when the upstream is away
			}
			m.handOver(f, g)
			handedOver = true
		}
		return err
	}
	meta := m.describe(&q, g)
	if m.web {
		m.keepSeries(q.key, &meta)
	}
	var read []byte
	if m.inspects(q.name) {
		if read, err = m.inspectRemote(context.Background(), q.name, g.Body, &meta); err != nil {
			return err
		}
	}
	err = f.Start(meta, diskcache.Freshness{At: g.at(), Release: g.rel.hash})
	if m.web && errors.Is(err, diskcache.ErrBypass) {
		m.handOver(f, g)
		handedOver = true
	}
	if err == nil && len(read) > 0 {
		_, err = f.Write(read)
		g.Body = struct{ origin.Body }{g.Body} // WriteTo is for all of it
	}
	if err == nil && g.Body != nil {
		err = pump(f, g.Body)
	}
	if err != nil {
		return err
	}
	m.facts.forget(q.key)
	return f.Commit()
}

// pump copies until the end of remote.
func pump(f io.Writer, remote origin.Body) error {
	if whole, ok := remote.(io.WriterTo); ok {
		_, err := whole.WriteTo(f)
		return err
	}
	buf := smallBuffer()
	defer func() { putBuffer(buf) }()
	for n := minRead; ; n = min(2*n, len(buf)) {
		got, err := remote.Read(buf[:n])
		if got > 0 {
			if _, err := f.Write(buf[:got]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if got == bufferSize && got == len(buf) { // it comes fast
			putBuffer(buf)
			buf = buffer(maxLarge)
		}
	}
}
