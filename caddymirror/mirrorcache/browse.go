package mirrorcache

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/dustin/go-humanize"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/httpcond"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

const (
	defaultBrowseMemory = 64 << 20
	minBrowseMemory     = 64 << 10
)

func (m *Mount) provisionBrowse() error {
	if !m.Browse {
		if m.BrowseMemory != 0 {
			return errors.New("browse_memory without browse")
		}
		return nil
	}
	if m.BrowseMemory == 0 {
		m.BrowseMemory = defaultBrowseMemory
	}
	if err := checkBrowseMemory(m.BrowseMemory); err != nil {
		return fmt.Errorf("browse_memory: %w", err)
	}
	m.listings = newListings(m.BrowseMemory)
	return nil
}

func checkBrowseMemory(n int64) error {
	if n < minBrowseMemory {
		return fmt.Errorf("%d bytes are less than %s", n, humanize.IBytes(minBrowseMemory))
	}
	return nil
}

// serveListing answers with the listing of a directory.
func (m *Mount) serveListing(w http.ResponseWriter, r *http.Request, name string) error {
	if rewritten(r) {
		return m.redirect(w, r, statusHit, true)
	}
	k, status, err := m.list(r.Context(), name)
	if err != nil {
		if errors.Is(err, errNotDir) {
			return m.serveNoIndex(w, r, name)
		}
		return m.fail(w, r, object{result: resultMiss, status: status}, err)
	}
	m.sendListing(w, r, name, k, status)
	return nil
}

// serveOldListing answers with a listing that the origin cannot be asked about, if
// there is one that is not too old. It reports whether there is.
func (m *Mount) serveOldListing(w http.ResponseWriter, r *http.Request, name string) bool {
	if m.listings == nil || rewritten(r) {
		return false
	}
	k, ok := m.listings.use(name)
	if !ok {
		return false
	}
	if m.listingTooOld(r.Context(), k) {
		m.listings.done(k)
		return false
	}
	m.sendListing(w, r, name, k, staleStatus(time.Since(k.at)))
	return true
}

// sendListing answers with a listing, and lets go of it.
func (m *Mount) sendListing(w http.ResponseWriter, r *http.Request, name string, k kept, status string) {
	defer m.listings.done(k)
	m.count(r, resultListing)
	if k.cut {
		status += "; detail=listing-cut"
	}
	p := pageOf(r)
	v := k.validators(p)
	h := w.Header()
	h.Add("Vary", "Accept")
	h.Set("Cache-Status", status)
	h.Set("Cache-Control", ccVolatile)
	h.Set("Age", ageValue(m.listingAge(r.Context(), k)))
	h.Set("Etag", v.ETag)
	if !v.Modified.IsZero() {
		h.Set("Last-Modified", v.Modified.Format(http.TimeFormat))
	}
	if code, _ := httpcond.Evaluate(r.Method, r.Header, v, -1); code != http.StatusOK {
		w.WriteHeader(code)
		return
	}
	p.setFields(h)
	if r.Method == http.MethodHead {
		w.WriteHeader(http.StatusOK)
		return
	}
	n, err := k.send(w, p)
	m.metrics.fromMemory.Add(float64(n))
	m.finish(r.Context(), name, err)
}

// rewritten reports whether the slash at the end of the path is not one that the
// client knows of: what it makes of relative links would be wrong.
func rewritten(r *http.Request) bool {
	orig, ok := r.Context().Value(caddyhttp.OriginalRequestCtxKey).(http.Request)
	return ok && !strings.HasSuffix(orig.URL.Path, "/") && path.Base(orig.URL.Path) == path.Base(r.URL.Path)
}

// validators are those of a listing in the form that is asked for. Its date is when
// it was first seen; in the same second there may have been another.
func (l *listing) validators(p page) httpcond.Validators {
	v := httpcond.Validators{ETag: p.tag(l.digest), DateStrong: true}
	if since := l.since.Add(time.Second - 1).Truncate(time.Second).UTC(); !time.Now().Before(since) {
		v.Modified = since
	}
	return v
}

// errNotDir says that a name is no directory, and may be a file.
var errNotDir = errors.New("not a directory")

// list finds the listing of a directory, as fresh as can be. The caller lets go
// of it.
func (m *Mount) list(ctx context.Context, name string) (k kept, status string, err error) {
	old, ok := m.listings.use(name)
	if !ok {
		if k, err = m.newListing(ctx, name, nil); err != nil {
			return kept{}, statusFailed(err), err
		}
		return m.listings.share(k), statusMiss, nil
	}
	if m.listingFresh(ctx, old) {
		return old, statusHit, nil
	}
	patience := time.NewTimer(m.listingPatience(ctx, old))
	defer patience.Stop()
	k, err = m.newListing(ctx, name, patience.C)
	switch {
	case err == nil && k.listing == old.listing:
		return kept{old.listing, k.at, k.release}, statusRevalidated, nil
	case errors.Is(err, origin.ErrAway) && !m.listingTooOld(ctx, old):
		return old, staleStatus(time.Since(old.at)), nil
	}
	m.listings.done(old)
	if err != nil {
		return kept{}, statusFailed(err), err
	}
	return m.listings.share(k), statusChanged, nil
}

// listingPatience is how long a request waits for a new listing where there is an
// old one, as for entries.
func (m *Mount) listingPatience(ctx context.Context, old kept) time.Duration {
	return m.waits(old.release != 0 && old.release != m.state(ctx).hash)
}

// newListing waits until a directory has been read, once for all who want that and
// whether they stay or not, or until patience ends.
func (m *Mount) newListing(ctx context.Context, name string, patience <-chan time.Time) (kept, error) {
	if err := m.known(ctx, name); err != nil && !errors.Is(err, origin.ErrIsDir) {
		return kept{}, err
	}
	epoch := m.listings.began()
	read := m.listings.reads.DoChan(strconv.Itoa(epoch)+" "+m.now(ctx, name), func() (any, error) {
		return m.readListing(name, epoch)
	})
	select {
	case res := <-read:
		k, _ := res.Val.(kept)
		return k, res.Err
	case <-patience:
		return kept{}, fmt.Errorf("%w: listing a directory takes longer than revalidate_timeout", origin.ErrAway)
	case <-ctx.Done():
		return kept{}, fmt.Errorf("%w: %w", origin.ErrAway, ctx.Err())
	}
}

// readListing reads a directory, and keeps what it finds. It belongs to no request.
func (m *Mount) readListing(name string, epoch int) (k kept, err error) {
	defer origin.Recover(m.log, "list", &err)
	ctx := context.Background()
	start := time.Now()
	l, _, rel, err := try(ctx, m, "list", m.origins, func(src source) (*listing, error) {
		return m.packListing(ctx, src, name)
	})
	if time.Since(start) < time.Duration(m.RevalidateTimeout) {
		m.slow.Store(false)
	}
	if err != nil {
		if errors.Is(err, origin.ErrAway) {
			return kept{}, err
		}
		m.listings.forget(name, m.newer(ctx, rel))
		if errors.Is(err, fs.ErrNotExist) {
			err = errNotDir
		}
		return kept{}, err
	}
	if l.cut {
		m.log.Warn("a directory listing is cut: browse memory does not suffice",
			zap.String("directory", name), zap.Int("listed", len(l.entries)), zap.Int64("memory", m.BrowseMemory))
	}
	return m.listings.put(name, epoch, m.newer(ctx, rel), kept{l, time.Now(), rel.hash}), nil
}

// packListing reads a directory of an origin, without what is hidden.
func (m *Mount) packListing(ctx context.Context, src source, name string) (*listing, error) {
	dir := name
	if dir == "" {
		dir = "."
	}
	p := newPacker(m.listings.max)
	large := false
	for info, err := range src.ReadDir(ctx, dir) {
		if err != nil {
			return nil, err
		}
		if len(m.Hide) > 0 && m.hidden(path.Join(name, info.Name)) {
			continue
		}
		if !p.add(info) {
			break
		}
		if !large && p.l.cost > largeListing {
			large = true
			m.listings.large <- struct{}{}
			defer func() { <-m.listings.large }()
		}
	}
	return p.listing(), nil
}

func (m *Mount) listingFresh(ctx context.Context, k kept) bool {
	if rel := m.state(ctx); rel.hash != 0 && k.release != 0 {
		return k.release == rel.hash && !m.listingTooOld(ctx, k)
	}
	return time.Since(k.at) < time.Duration(m.TTL)
}

// listingAge is how long ago a listing was known to be right.
func (m *Mount) listingAge(ctx context.Context, k kept) time.Duration {
	age := time.Since(k.at)
	if rel := m.state(ctx); rel.hash != 0 && k.release == rel.hash {
		age = min(age, time.Since(rel.Seen))
	}
	return max(0, age)
}

func (m *Mount) listingTooOld(ctx context.Context, k kept) bool {
	return m.MaxStale > 0 && m.listingAge(ctx, k) > time.Duration(m.MaxStale)
}
