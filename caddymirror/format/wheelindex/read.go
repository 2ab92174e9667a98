package wheelindex

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"maps"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/panics"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
)

// errOther says that a file is no longer the one that was listed.
var errOther = errors.New("the file has changed since it was listed")

// start begins the work in the background. One of the workers reads only what somebody
// waits for: the others may all be reading large files.
func (x *Index) start() {
	x.began = time.Now()
	for n := range x.conf.Workers + 1 {
		go func() {
			for j := x.queue.take(n == 0); j != nil; j = x.queue.take(n == 0) {
				x.work(j, n > 0)
			}
		}()
	}
	go x.touchFacts()
	context.AfterFunc(x.conf.Context, x.queue.close)
}

// work finds out what a file has in it. If the cache does not take that yet, it waits for
// it, unless it is wanted for what others wait for.
func (x *Index) work(j *job, patient bool) {
	k, keep, err := x.learn(j)
	x.note(j, k, err)
	if keep != nil && patient {
		x.keep(j.f.path, keep)
	}
}

// note notes what was found out of a file, or why it was not.
func (x *Index) note(j *job, k *fact, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case err == nil:
	case errors.Is(err, errOther), errors.Is(err, fs.ErrNotExist):
		x.queue.changed = true
		k = &fact{Validator: j.f.info.Validator, passing: true, other: true}
	case isPanic(err), errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrInvalid), errors.Is(err, origin.ErrIsDir):
		k = &fact{Validator: j.f.info.Validator, Reason: "can not be read: " + fault.Show(err.Error()), passing: true}
	default:
		x.rest(j, err)
		return
	}
	if j.state == running {
		x.known[j.f.path] = k
	}
	x.queue.finish(j)
}

// rest has a file tried again later. Needs mu.
func (x *Index) rest(j *job, err error) {
	if j.state != running || x.conf.Context.Err() != nil {
		x.queue.finish(j)
		return
	}
	j.state, j.err = resting, err
	j.urgent.Store(false)
	wait := min(time.Second<<min(j.tries, 10), 5*time.Minute)
	j.tries++
	time.AfterFunc(wait, func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.queue.again(j)
	})
}

func isPanic(err error) bool { return errors.As(err, new(*panics.Error)) }

// learn returns what is kept of a file, or reads it. Another result is what is still to be
// kept of it.
func (x *Index) learn(j *job) (k *fact, keep []byte, err error) {
	defer panics.Recover(x.conf.Log, "wheel index", &err)
	f := j.f
	if b, ok := x.conf.Facts.Get(factName(f.path)); ok {
		if k, _, err := decodeFact(b, false); err == nil && k.Validator == f.info.Validator {
			return k, nil, nil
		}
	}
	k = &fact{Validator: f.info.Validator}
	var metadata []byte
	open := x.opener(x.conf.Context, f.path, f.info, j.urgent.Load)
	if f.isWheel {
		w, sum, err := wheel.Scan(x.conf.Context, f.name, f.info.Size, open)
		switch {
		case fault.Is(err):
			k.Reason = err.Error()
		case err != nil:
			return nil, nil, err
		default:
			k.SHA256 = hex.EncodeToString(sum[:])
			k.RequiresPython = w.Metadata.RequiresPython
			metadata = w.Metadata.Bytes
			k.MetadataSHA256 = sumOf(metadata)
		}
	} else {
		sum, err := wheel.Sum(x.conf.Context, f.info.Size, open)
		if err != nil {
			return nil, nil, err
		}
		k.SHA256 = hex.EncodeToString(sum[:])
	}
	keep = k.encode(metadata)
	if x.conf.Facts.Put(factName(f.path), keep) == nil {
		keep = nil
	}
	return k, keep, nil
}

// keep keeps what the cache has not taken. One that was just opened takes nothing yet, and
// is waited for; else the file is read again after a restart.
func (x *Index) keep(path string, value []byte) {
	for time.Since(x.began) < time.Minute {
		select {
		case <-time.After(250 * time.Millisecond):
		case <-x.conf.Context.Done():
			return
		}
		if x.conf.Facts.Put(factName(path), value) == nil {
			return
		}
	}
}

// touchFirst and touchAgain are how often facts are used, so that the cache sees that they
// are wanted: a crawl would evict them, as they are asked for at a start only.
const (
	touchFirst = 5 * time.Minute
	touchAgain = 6 * time.Hour
)

// touchFacts uses the facts now and then.
func (x *Index) touchFacts() {
	for wait := touchFirst; ; wait = touchAgain {
		select {
		case <-time.After(wait):
			x.touch()
		case <-x.conf.Context.Done():
			return
		}
	}
}

// touch uses all facts, and keeps those again that are gone.
func (x *Index) touch() {
	x.mu.Lock()
	known := maps.Clone(x.known)
	x.mu.Unlock()
	for path, k := range known {
		if k.passing {
			continue
		}
		if x.conf.Context.Err() != nil {
			return
		}
		if _, ok := x.conf.Facts.Get(factName(path)); !ok {
			// METADATA are read from the wheel then.
			_ = x.conf.Facts.Put(factName(path), k.encode(nil)) // or not
		}
		time.Sleep(time.Millisecond)
	}
}

// opener opens one version of a file.
func (x *Index) opener(ctx context.Context, path string, info origin.Info, urgent func() bool) func(int64) (io.ReadCloser, error) {
	return func(off int64) (io.ReadCloser, error) {
		b, err := x.from.Open(ctx, path, off)
		if err != nil {
			return nil, err
		}
		if !b.Info().Same(info) {
			b.Close()
			return nil, errOther
		}
		return polite{b, x, urgent}, nil
	}
}

// polite reads while no client wants something of the origin, or somebody waits for it.
type polite struct {
	io.ReadCloser
	x      *Index
	urgent func() bool
}

// piece is how much is read at a time, between looks at whether there are clients.
const piece = 256 << 10

func (p polite) Read(b []byte) (int, error) {
	// Never for long: clients may be there at all times.
	for range 10 {
		if p.urgent() || p.x.active.Load() == 0 || p.x.conf.Context.Err() != nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return p.ReadCloser.Read(b[:min(len(b), piece)])
}
