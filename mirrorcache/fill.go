package mirrorcache

import (
	"context"
	"errors"
	"io"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/diskcache"
	"github.com/unifiedmirrors/mirror/origin"
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
	default:
		m.metrics.fillFailed.Inc()
		if c := m.log.Check(zap.DebugLevel, "fill failed"); c != nil {
			c.Write(zap.String("name", name), zap.Error(err))
		}
	}
}

// The first reads are short, so that the first byte is soon there; later ones
// are long.
const (
	minRead = 64 << 10
	maxRead = 1 << 20
)

func (m *Mount) copy(f *diskcache.Fill, name string) error {
	ctx := context.Background()
	remote, src, rel, err := m.open(ctx, name)
	if err != nil {
		m.facts.learn(name, err, rel.hash)
		f.Fail(err)
		return err
	}
	defer remote.Close()
	meta := src.meta(remote.Info())
	err = f.Start(meta, diskcache.Freshness{At: time.Now(), Release: rel.hash})
	if err == nil {
		err = pump(f, remote, meta.Size)
	}
	if err == nil {
		// A file may have changed under the copy.
		err = remote.Verify(ctx)
	}
	if err != nil {
		f.Fail(err)
		return err
	}
	m.facts.forget(name)
	return f.Commit()
}

func pump(f *diskcache.Fill, remote origin.Body, size int64) error {
	if size < 0 || size > maxRead {
		size = maxRead
	}
	buf := make([]byte, max(size, 1))
	for n := min(minRead, len(buf)); ; n = min(2*n, len(buf)) {
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
