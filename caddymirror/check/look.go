package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// mountLook is one look at a mount.
type mountLook struct {
	*Options
	Mount
	c *client

	before    int64 // bytes received for other mounts
	isOneFile bool  // the mount, of [Files]

	mu      sync.Mutex // guards what is below
	result  Result
	reached bool              // something has answered
	tops    map[string]string // the indexes that all begins with, by their addresses
}

// fault notes a fault.
func (l *mountLook) fault(a Aspect, u *url.URL, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.OK = false
	if len(l.result.Faults) == maxFindings {
		l.result.More++
		return
	}
	l.result.Faults = append(l.result.Faults, Finding{a, shown(u), fmt.Sprintf(format, args...)})
}

// note notes what is no fault.
func (l *mountLook) note(a Aspect, u *url.URL, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.result.Notes) < maxFindings {
		l.result.Notes = append(l.result.Notes, Finding{a, shown(u), fmt.Sprintf(format, args...)})
	}
}

// noteOnce is note for what is said of a mount once.
func (l *mountLook) noteOnce(a Aspect, u *url.URL, reason string) {
	l.mu.Lock()
	known := slices.ContainsFunc(l.result.Notes, func(f Finding) bool { return f.Reason == reason })
	l.mu.Unlock()
	if !known { // two at a time may both note it: finish has one left
		l.note(a, u, "%s", reason)
	}
}

// failed notes an error as a fault, unless it is one of ctx.
func (l *mountLook) failed(ctx context.Context, a Aspect, u *url.URL, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	if errors.As(err, new(*silence)) && !l.isReached() {
		a = Reach
	}
	l.fault(a, u, "%s", fault.Show(err.Error()))
}

func (l *mountLook) isReached() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reached
}

// listed counts what an index lists.
func (l *mountLook) listed(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.result.Listed += n
}

// dated notes when data were made.
func (l *mountLook) dated(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.After(l.result.Date) {
		l.result.Date = t
	}
}

func (l *mountLook) finish() {
	l.result.Bytes = l.c.bytes.Load() - l.before
	l.result.sort()
	seen := map[string]bool{}
	l.result.Notes = slices.DeleteFunc(l.result.Notes, func(f Finding) bool {
		was := seen[f.Reason]
		seen[f.Reason] = true
		return was
	})
}

// path is the path of something in the mount.
func (l *mountLook) path(name string) string { return strings.TrimSuffix(l.Path, "/") + "/" + name }

// at is the address of something in the mount.
func (l *mountLook) at(name string) *url.URL { return l.c.at(l.path(name)) }

// get asks for an address, and returns an answer of status 200.
func (l *mountLook) get(ctx context.Context, u *url.URL, header http.Header) (*answer, error) {
	l.c.told(shown(u))
	a, err := l.c.ask(ctx, http.MethodGet, u, header)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.reached = true
	l.mu.Unlock()
	if a.StatusCode != http.StatusOK {
		a.close()
		return nil, statusError(a.StatusCode)
	}
	return a, nil
}

// A statusError is an answer with another status than was asked for.
type statusError int

func (s statusError) Error() string {
	return strings.TrimSpace(fmt.Sprintf("is answered with status %d %s", int(s), http.StatusText(int(s))))
}

// isMissing reports whether a host says that it has no such file.
func isMissing(err error) bool {
	s, ok := errors.AsType[statusError](err)
	return ok && (s == http.StatusNotFound || s == http.StatusGone)
}

// read reads a small index, of up to limit bytes.
func (l *mountLook) read(ctx context.Context, u *url.URL, header http.Header, limit int64) (text []byte, a *answer, err error) {
	if a, err = l.get(ctx, u, header); err != nil {
		return nil, nil, err
	}
	defer a.close()
	text, err = io.ReadAll(&bounded.Reader{R: a.body, Left: limit + 1, Err: tooLarge(limit)})
	if err == nil && len(text) == 0 {
		err = fault.Errorf("is empty")
	}
	return text, a, err
}

func tooLarge(limit int64) error {
	return fault.Errorf("is larger than %d MiB, which is more than a file of its kind may have", limit>>20)
}

// is asks whether there is something at an address.
func (l *mountLook) is(ctx context.Context, u *url.URL) (bool, error) {
	a, err := l.c.ask(ctx, http.MethodHead, u, nil)
	if err != nil {
		return false, err
	}
	a.close()
	return a.StatusCode == http.StatusOK, nil
}

// A spool is an answer on disk: it is read from there, so that the host is not kept
// waiting by what is done with it.
type spool struct {
	*os.File
	size int64
	at   *url.URL
	kind string // Content-Type
}

// spool reads an answer of up to limit bytes, whose checksum is as want. Who gets a spool
// closes it.
func (l *mountLook) spool(ctx context.Context, u *url.URL, header http.Header, limit int64, want digest.Digest, by string) (s *spool, err error) {
	a, err := l.get(ctx, u, header)
	if err != nil {
		return nil, err
	}
	defer a.close()
	f, err := os.CreateTemp("", "caddy-mirror-check-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := os.Remove(f.Name()); err != nil { // it lives as long as it is open
		return nil, err
	}
	in := io.Reader(&bounded.Reader{R: a.body, Left: limit + 1, Err: tooLarge(limit)})
	h := digest.NewHash(want.Kind)
	if h != nil {
		in = io.TeeReader(in, h)
	}
	n, err := io.Copy(f, in)
	switch {
	case err != nil:
		return nil, err
	case n == 0:
		return nil, fault.Errorf("is empty")
	}
	if h != nil {
		if got := sumOf(want.Kind, h); got != want {
			return nil, digest.Differ(got, want, by)
		}
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return &spool{f, n, a.at(), a.Header.Get("Content-Type")}, nil
}

// top keeps an index that all begins with, see changed.
func (l *mountLook) top(u *url.URL, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tops == nil {
		l.tops = map[string]string{}
	}
	l.tops[u.String()] = string(text)
}

// changed reports whether one of the indexes that all begins with is another one now.
func (l *mountLook) changed(ctx context.Context) bool {
	for address, was := range l.tops {
		u, err := url.Parse(address)
		if err != nil {
			continue
		}
		now, _, err := l.read(ctx, u, nil, int64(len(was))+1<<20)
		if err == nil && string(now) != was {
			return true
		}
	}
	return false
}

// A crew looks at several things at a time.
type crew struct {
	g   errgroup.Group
	ctx context.Context
}

func newCrew(ctx context.Context) *crew {
	c := &crew{ctx: ctx}
	c.g.SetLimit(workers)
	return c
}

// do has one thing looked at. It waits while enough is under way.
func (c *crew) do(f func(ctx context.Context)) {
	c.g.Go(func() error {
		if c.ctx.Err() == nil {
			f(c.ctx)
		}
		return nil
	})
}

// wait waits for all.
func (c *crew) wait() { _ = c.g.Wait() }
