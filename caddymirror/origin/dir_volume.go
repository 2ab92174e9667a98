package origin

import (
	"context"
	"strconv"
	"strings"
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
	since time.Time // when it was first seen, or made
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

// newestOf is when the newest of the releases was made that a token names: it ends
// each with @ and the date. If it does not say, that is now.
func newestOf(token string, now time.Time) time.Time {
	var newest int64
	for part := range strings.SplitSeq(token, ",") {
		_, date, _ := strings.Cut(part, "@")
		if n, err := strconv.ParseInt(date, 10, 64); err == nil {
			newest = max(newest, n)
		}
	}
	if newest == 0 {
		return now
	}
	return time.Unix(newest, 0)
}

func (v *volumeRelease) settle(r Release, now time.Time) Release {
	if r.Token == "" {
		return r
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.token != r.Token {
		v.since = now
		if v.token == "" {
			// It may be older than this process, and settled.
			v.since = newestOf(r.Token, now)
		}
		v.token = r.Token
	}
	for n, d := range settling {
		if now.Sub(v.since) < d {
			r.Token += "-" + strconv.Itoa(n)
			break
		}
	}
	return r
}
