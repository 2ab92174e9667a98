package mirrorcache

import (
	"context"
	"fmt"
	"net/http"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// What goes past the cache: parts of large objects, and objects that cannot be
// cached. A client that is slow keeps a file of the origin open for as long as it
// takes, so there may be so many of a mount and no more.
const maxPast = 512

// enter counts a body that is read past the cache, until it is closed.
func (m *Mount) enter(open func() (origin.Body, error)) (origin.Body, error) {
	if m.past.Add(1) > maxPast {
		m.past.Add(-1)
		return nil, fmt.Errorf("%w: %d clients read past the cache", origin.ErrBusy, maxPast)
	}
	entered := false
	defer func() {
		if !entered { // it may have panicked, too
			m.past.Add(-1)
		}
	}()
	b, err := open()
	if err != nil {
		return nil, err
	}
	entered = true
	return &passed{b, m}, nil
}

// fetchPast asks for an object that is read past the cache.
func (m *Mount) fetchPast(ctx context.Context, ask origin.Request) (*got, error) {
	g := &got{}
	b, err := m.enter(func() (origin.Body, error) {
		var err error
		g, err = m.fetch(ctx, ask)
		return g.Body, err
	})
	if g.Body != nil {
		g.Body = b
	} else if err == nil {
		b.Close()
	}
	return g, err
}

// passed is a body that is read past the cache.
type passed struct {
	origin.Body
	m *Mount
}

func (p *passed) Close() error {
	p.m.past.Add(-1)
	if p.Body == nil {
		return nil
	}
	return p.Body.Close()
}

const (
	// smallObject is up to which size an object is filled for any part of it.
	smallObject = 4 << 20

	// worth is which share of a larger one has it filled: a quarter.
	worth = 4

	// maxParts and partsFor bound what is remembered of the parts that were
	// asked for.
	maxParts = 4 << 10
	partsFor = 10 * time.Minute
)

// parts are the objects of which a part was asked for, or a fill begun, and when.
type parts struct{ names *lru.Cache[string, time.Time] }

func newParts() parts {
	names, err := lru.New[string, time.Time](maxParts)
	if err != nil {
		panic(err) // the size is a constant
	}
	return parts{names}
}

// note notes that an object was asked for.
func (p parts) note(name string) { p.names.Add(name, time.Now()) }

// again is note, and reports whether it was asked for not long ago.
func (p parts) again(name string) bool {
	before, ok := p.names.Get(name)
	p.note(name)
	return ok && time.Since(before) < partsFor
}

// errPart says that the object of an upstream is too large to be filled for a part of it.
var errPart = fmt.Errorf("%w: only a part of it is wanted", errPassOnce)

// worthFilling is why an upstream's object is not filled, nil if it is: it is large, and
// only a part of it was asked for, for the first time. Whatever the upstream sends until
// it is told so is lost.
func (m *Mount) worthFilling(q *question, g *got) error {
	if g.Response == nil || !q.part || q.again || m.FillWhole < 0 || g.Size <= m.FillWhole || g.Validator == "" {
		return nil
	}
	return errPart
}

// part answers a request for a small part of a large object past the cache, the
// first time: whoever looks at the end of each wheel, or crawls with ranges, must
// not have everything copied. Whoever asks again, or for much, has it filled; done
// is false then.
func (m *Mount) part(ctx context.Context, q question, status string) (o object, done bool, err error) {
	if len(q.header["Range"]) == 0 || m.parts.again(q.key) {
		return object{}, false, nil
	}
	o, err = m.head(ctx, q, status)
	if err != nil {
		return o, true, err
	}
	meta := &o.body.meta
	if meta.Validator == "" || meta.Size <= smallObject {
		return object{}, false, nil
	}
	code, ranges := m.evaluate(http.MethodGet, q.header, &o, m.fields(&o, representation{name: q.name}), m.format.Class(q.name))
	switch {
	case code == http.StatusOK:
		return object{}, false, nil
	case code != http.StatusPartialContent: // it needs no bytes
		return o, true, nil
	case len(ranges) > 1, ranges[0].Length > meta.Size/worth:
		// Several would each have the origin open the object once more.
		return object{}, false, nil
	}
	o.result, o.status = resultBypass, statusPart
	if status == statusChanged {
		o.status = statusChangedPart
	}
	return o, true, nil
}
