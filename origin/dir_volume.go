package origin

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// volumeRelease is the release of a directory on a mounted AFS, as the file
// servers themselves tell it.
//
// The host's AFS client learns of a release in its own time: mostly a moment
// after us, but it may be long after, if a callback got lost. What was read from
// it in between is of the old release, under the token of the new one. So the
// token of a release changes twice more as it settles, and what was read is
// looked up again.
type volumeRelease struct {
	afs AFS

	mu    sync.Mutex // guards what follows
	token string
	since time.Time // when it was first seen; zero: it was there from the start
}

// settling is after which times since it was first seen a token changes.
var settling = []time.Duration{15 * time.Second, 3 * time.Minute}

func newVolumeRelease(ctx caddy.Context, root string, check caddy.Duration) (*volumeRelease, error) {
	v := &volumeRelease{afs: AFS{Root: root, ReleaseCheck: check}}
	return v, v.afs.Provision(ctx)
}

func (v *volumeRelease) release(ctx context.Context) Release {
	return v.settle(v.afs.Release(ctx), time.Now())
}

func (v *volumeRelease) last() Release {
	st := v.afs.Status()
	return Release{Token: st.Release, Seen: st.Seen}
}

func (v *volumeRelease) settle(r Release, now time.Time) Release {
	if r.Token == "" {
		return r
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.token != r.Token {
		if v.token != "" {
			v.since = now
		}
		v.token = r.Token
	}
	for n, d := range settling {
		if !v.since.IsZero() && now.Sub(v.since) < d {
			r.Token += "-" + strconv.Itoa(n)
			break
		}
	}
	return r
}
