package origin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// maxMarker is how much of a release marker's content goes into the token.
const maxMarker = 1 << 20

// A releaseWatch keeps the release of a dirState, looked at again and again by
// one goroutine from the first call on.
type releaseWatch struct {
	start  sync.Once
	looked chan struct{} // closed after the first look
	kick   chan struct{}
	seen   atomic.Pointer[Release]
}

func newReleaseWatch() releaseWatch {
	return releaseWatch{looked: make(chan struct{}), kick: make(chan struct{}, 1)}
}

// wake has the watch look at once.
func (w *releaseWatch) wake() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// last is the release as last seen; its zero value, if it never was.
func (w *releaseWatch) last() Release {
	if r := w.seen.Load(); r != nil {
		return *r
	}
	return Release{}
}

// watchRelease looks at the release until the state is done with. A look that
// fails leaves the release as it was.
func (s *dirState) watchRelease() {
	w := &s.release
	for first := true; ; first = false {
		// A late result is dropped, so an old token never replaces a new one.
		r, err := lookup(context.Background(), s, "release", ".", s.look, nil)
		if err == nil {
			w.seen.Store(&r)
		} else {
			s.count.note(fmt.Errorf("release: %w", err))
		}
		if first {
			close(w.looked)
		}
		select {
		case <-time.After(s.conf.Load().check):
		case <-w.kick:
		case <-s.stop:
			return
		}
	}
}

// look finds the release of the tree. It first puts the tree in place that the
// token will speak of: whoever has seen the token reads that tree, or a newer.
func (s *dirState) look(*tree) (Release, error) {
	r := Release{Seen: time.Now()}
	t, err := s.renew()
	if err != nil {
		return Release{}, err
	}
	defer s.drop(t)
	r.Token = t.way.links
	if marker := s.conf.Load().marker; r.Token == "" && marker != "" {
		if r.Token, err = t.markerToken(marker); errors.Is(err, fs.ErrNotExist) {
			err = t.checkMounted()
		}
	}
	return r, err
}

// markerToken derives a token from the mtime, size and content of the file at
// name.
func (t *tree) markerToken(name string) (string, error) {
	f, i, err := t.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxMarker)); err != nil {
		return "", away(err)
	}
	return strconv.FormatInt(i.ModTime.UnixNano(), 36) + "-" + strconv.FormatInt(i.Size, 36) +
		"-" + hex.EncodeToString(h.Sum(nil)[:8]), nil
}
