package mirrorcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// fill copies an object from the origin into the cache. It belongs to no
// request: those who want the object follow it.
func (m *Mount) fill(f *diskcache.Fill, name string) {
	release, ok := m.cache.Hold()
	if !ok {
		f.Fail(diskcache.ErrBypass)
		return
	}
	defer release()
	err := m.copy(f, name)
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
			c.Write(zap.String("name", name), zap.Error(err))
		}
	}
}

// minRead is the length of the first read, so that the first byte is soon
// there; later ones are longer.
const minRead = 64 << 10

func (m *Mount) copy(f *diskcache.Fill, name string) (err error) {
	defer func() {
		if err != nil {
			f.Fail(err)
		}
	}()
	defer origin.Recover(m.log, "fill", &err)
	remote, src, rel, err := m.open(context.Background(), name)
	if err != nil {
		m.facts.learn(name, err, rel.hash)
		return err
	}
	defer remote.Close()
	if remote.Info().Passing {
		return fmt.Errorf("%w: there will be a better one soon", diskcache.ErrBypass)
	}
	meta := m.describe(name, src, remote.Info())
	var read []byte
	if m.inspects(name) {
		if read, err = m.inspectRemote(context.Background(), name, remote, &meta); err != nil {
			return err
		}
	}
	err = f.Start(meta, diskcache.Freshness{At: time.Now(), Release: rel.hash})
	if err == nil && len(read) > 0 {
		_, err = f.Write(read)
		remote = struct{ origin.Body }{remote} // WriteTo is for all of it
	}
	if err == nil {
		err = pump(f, remote)
	}
	if err != nil {
		return err
	}
	m.facts.forget(name)
	return f.Commit()
}

// pump copies until the end of remote.
func pump(f *diskcache.Fill, remote origin.Body) error {
	if whole, ok := remote.(io.WriterTo); ok {
		_, err := whole.WriteTo(f)
		return err
	}
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
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
	}
}
