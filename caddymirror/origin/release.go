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
	mu     sync.Mutex // held to store seen
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

// lastRelease is the release as last seen; its zero value, if it never was. Who is
// given anything of a tree finds it in its release from then on.
func (s *dirState) lastRelease() Release {
	var r Release
	if seen := s.release.seen.Load(); seen != nil {
		r = *seen
	}
	return s.ofTree(r)
}

// ofTree is the release of the tree that is open, if that is another than was seen.
func (s *dirState) ofTree(seen Release) Release {
	if t := s.tree.Load(); t != nil && t.way.links != "" && t.way.links != seen.Token {
		return Release{Token: t.way.links, Seen: t.opened}
	}
	return seen
}

// see notes a release, or that of a tree that has come meanwhile: it stays when the
// tree is away.
func (s *dirState) see(r Release) {
	s.release.mu.Lock()
	defer s.release.mu.Unlock()
	r = s.ofTree(r)
	s.release.seen.Store(&r)
}

// watchRelease looks at the release until the state is done with. A look that
// fails leaves the release as it was.
func (s *dirState) watchRelease() {
	w := &s.release
	for first := true; ; first = false {
		// A late result is dropped, so an old token never replaces a new one.
		r, err := lookup(context.Background(), s, "release", ".", s.look, nil)
		if err == nil {
			s.see(r)
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
