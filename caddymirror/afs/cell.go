package afs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/rx"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

const (
	// locatePatience is how long one volume location server may take.
	locatePatience = 1500 * time.Millisecond

	// shunFor is how long one that did not answer is asked last.
	shunFor = 30 * time.Second

	// downFor is how long nobody waits for them after none has answered.
	downFor = 2 * time.Second
)

var (
	// errNoVolume is the word of a volume location server that there is no such
	// volume.
	errNoVolume = errors.New("no such volume")

	// errNoReplica is errNoVolume where there is the read-write volume.
	errNoReplica = fmt.Errorf("%w: it has no read-only copy", errNoVolume)
)

// cell is an AFS cell: its volume location servers, and what they say.
type cell struct {
	c    *Client
	name string

	mu       sync.Mutex // guards what follows
	locators []*locator
	until    time.Time // when locators have to be looked up again
	volumes  map[string]*volume
	addrs    map[wire.UUID]wire.Addrs // of file servers
	down     error                    // no locator answers; nil: one does
	tried    time.Time                // when that was found last
}

// locator is a volume location server.
type locator struct {
	peer *rx.Peer
	shun time.Time // asked last until then; guarded by cell.mu
}

func newCell(c *Client, name string) *cell {
	return &cell{c: c, name: name, volumes: map[string]*volume{}, addrs: map[wire.UUID]wire.Addrs{}}
}

// all returns the volumes that were asked for.
func (cl *cell) all() []*volume {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	all := make([]*volume, 0, len(cl.volumes))
	for _, v := range cl.volumes {
		all = append(all, v)
	}
	return all
}

// volume returns a volume by its name, without suffix, or number.
func (cl *cell) volume(name string, typ wire.VolumeType) *volume {
	key := name + typ.Suffix()
	cl.mu.Lock()
	defer cl.mu.Unlock()
	v := cl.volumes[key]
	if v == nil {
		v = newVolume(cl, name, typ)
		cl.volumes[key] = v
	}
	return v
}

// servers returns the volume location servers, those first that are known to
// answer.
func (cl *cell) servers(ctx context.Context) ([]*locator, error) {
	cl.mu.Lock()
	known := slices.Clone(cl.locators)
	stale := time.Now().After(cl.until)
	cl.mu.Unlock()
	if stale {
		addrs, ttl, err := cl.c.locate(ctx, cl.name)
		if err != nil && len(known) == 0 {
			return nil, fmt.Errorf("%w: cell %s: %w", ErrUnavailable, cl.name, err)
		}
		if err != nil {
			cl.c.log.Warn("looking up the servers of an AFS cell; going on with those known", zap.String("cell", cl.name), zap.Error(err))
			ttl = time.Minute
		}
		known = cl.found(addrs, ttl)
	}
	cl.mu.Lock()
	defer cl.mu.Unlock()
	now := time.Now()
	slices.SortStableFunc(known, func(a, b *locator) int {
		return max(0, a.shun.Compare(now)) - max(0, b.shun.Compare(now))
	})
	return known, nil
}

// found sets the volume location servers, or leaves them if there are none.
func (cl *cell) found(addrs []netip.AddrPort, ttl time.Duration) []*locator {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	cl.until = time.Now().Add(ttl)
	if len(addrs) > 0 {
		old := cl.locators
		cl.locators = nil
		for _, a := range addrs {
			l := &locator{peer: cl.c.ep.Peer(a, wire.ServiceLocation)}
			if i := slices.IndexFunc(old, func(o *locator) bool { return o.peer.Addr() == a }); i >= 0 {
				l = old[i]
			}
			cl.locators = append(cl.locators, l)
		}
	}
	return slices.Clone(cl.locators)
}

// answers are the codes that other volume location servers would give as well.
var answers = []wire.Code{wire.VLNoEnt, wire.VLEntDeleted, wire.VLBadName, wire.RXGENOpcode}

// call asks the volume location servers until one answers. A code that says
// something of the volume and not of the server is an answer.
func (cl *cell) call(ctx context.Context, request, reply []byte) (int, error) {
	cl.mu.Lock()
	down := cl.down
	if time.Since(cl.tried) > downFor {
		down = nil
	}
	cl.mu.Unlock()
	if down != nil {
		return 0, down
	}
	servers, err := cl.servers(ctx)
	if err != nil {
		return 0, err
	}
	var errs []error
	var busy error
	for _, l := range servers {
		n, err := l.call(ctx, request, reply)
		if abort, ok := errors.AsType[rx.Abort](err); ok {
			if code := wire.Code(abort); slices.Contains(answers, code) {
				cl.answered()
				return 0, code
			}
		}
		if err == nil {
			cl.answered()
			return n, nil
		}
		if errors.Is(err, rx.ErrBusy) { // says nothing of the server
			busy = fmt.Errorf("%w: cell %s: %w", ErrBusy, cl.name, err)
			continue
		}
		if ctx.Err() != nil {
			return 0, cmp.Or(busy, fmt.Errorf("%w: cell %s: %w", ErrUnavailable, cl.name, err))
		}
		cl.mu.Lock()
		l.shun = time.Now().Add(shunFor)
		cl.mu.Unlock()
		errs = append(errs, err)
	}
	if busy != nil {
		return 0, busy
	}
	return 0, cl.fell(errors.Join(errs...))
}

// fell notes that no volume location server answers, and returns the error that
// says so.
func (cl *cell) fell(err error) error {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.down == nil {
		cl.c.log.Error("no volume location server of an AFS cell answers: volumes that have failed cannot be read until one does",
			zap.String("cell", cl.name), zap.Error(err))
	}
	cl.tried = time.Now()
	cl.down = fmt.Errorf("%w: no volume location server of cell %s answers: %w", ErrUnavailable, cl.name, err)
	return cl.down
}

func (cl *cell) answered() {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	if cl.down != nil {
		cl.down = nil
		cl.c.log.Info("volume location servers of an AFS cell answer again", zap.String("cell", cl.name))
	}
}

func (l *locator) call(ctx context.Context, request, reply []byte) (int, error) {
	return l.peer.CallWithin(ctx, locatePatience, request, reply)
}

// entry reads the entry of a volume. Its error is errNoVolume if there is none.
func (cl *cell) entry(ctx context.Context, name string) (wire.Entry, error) {
	reply := make([]byte, wire.GetEntryByNameUReplySize)
	n, err := cl.call(ctx, wire.GetEntryByNameURequest(name), reply)
	decode := wire.DecodeGetEntryByNameU
	if errors.Is(err, wire.RXGENOpcode) {
		n, err = cl.call(ctx, wire.GetEntryByNameNRequest(name), reply)
		decode = wire.DecodeGetEntryByNameN
	}
	switch {
	case errors.Is(err, wire.VLNoEnt), errors.Is(err, wire.VLEntDeleted), errors.Is(err, wire.VLBadName):
		return wire.Entry{}, fmt.Errorf("volume %s of cell %s: %w", name, cl.name, errNoVolume)
	case err != nil:
		return wire.Entry{}, fmt.Errorf("looking up volume %s: %w", name, err)
	}
	e, err := decode(reply[:n])
	if err != nil {
		return wire.Entry{}, fmt.Errorf("looking up volume %s: %w", name, err)
	}
	return e, nil
}

// at returns the file server at a site.
func (cl *cell) at(ctx context.Context, site wire.Site) (*server, error) {
	if site.UUID.IsZero() {
		return cl.c.server(site.UUID, []netip.AddrPort{netip.AddrPortFrom(site.Addr, wire.PortFile)}), nil
	}
	cl.mu.Lock()
	known, ok := cl.addrs[site.UUID]
	cl.mu.Unlock()
	if !ok || known.Unique != site.Unique {
		reply := make([]byte, wire.GetAddrsUReplySize)
		n, err := cl.call(ctx, wire.GetAddrsURequest(site.UUID), reply)
		if err == nil {
			known, err = wire.DecodeGetAddrsU(reply[:n])
		}
		if err != nil {
			return nil, fmt.Errorf("looking up file server %s: %w", site.UUID, err)
		}
		cl.mu.Lock()
		cl.addrs[site.UUID] = known
		cl.mu.Unlock()
	}
	addrs := make([]netip.AddrPort, 0, len(known.Addrs))
	for _, a := range known.Addrs {
		if a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() {
			addrs = append(addrs, netip.AddrPortFrom(a, wire.PortFile))
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("file server %s has no usable address", site.UUID)
	}
	return cl.c.server(site.UUID, addrs), nil
}
