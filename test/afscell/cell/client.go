package cell

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/rx"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

const (
	callTime  = 30 * time.Second // one call
	retryTime = 60 * time.Second // one request, with all its calls
)

// client is who writes into volumes. It calls from [Cell.Self].
type client struct {
	endpoint *rx.Endpoint
	uuid     wire.UUID
	addr     netip.Addr

	mu  sync.Mutex
	met map[netip.Addr]*meeting // file servers
}

// meeting is the first call to a file server. It is locked while that goes on.
type meeting struct {
	sync.Mutex
	done bool
}

func newClient(addr netip.Addr) (*client, error) {
	c := &client{uuid: wire.NewUUID(), addr: addr, met: make(map[netip.Addr]*meeting)}
	var err error
	c.endpoint, err = rx.Listen(netip.AddrPortFrom(addr, 0).String(), rx.Options{Handle: c.callback})
	return c, err
}

// callback answers file servers, who answer nobody who does not. What changed
// elsewhere does not concern us: nothing is kept.
func (c *client) callback(r rx.Request) ([]byte, int32) {
	switch wire.ReadCallbackOp(r.Body) {
	case wire.OpTellMeAboutYourself:
		return wire.TellMeAboutYourselfReply(c.uuid, c.addr), 0
	case wire.OpWhoAreYou, wire.OpInitCallBackState2:
		return wire.WhoAreYouReply(c.uuid, c.addr), 0
	case wire.OpCallBack, wire.OpInitCallBackState, wire.OpInitCallBackState3, wire.OpProbe:
		return nil, 0
	case wire.OpProbeUUID:
		if u, err := wire.DecodeProbeUUID(r.Body); err == nil && u == c.uuid {
			return nil, 0
		}
		return nil, 1
	}
	return nil, int32(wire.RXGENOpcode)
}

// call makes a request of a file server, and makes it again while the server says
// that it cannot just now.
func (c *client) call(ctx context.Context, server netip.Addr, request []byte, replySize int) ([]byte, error) {
	if err := c.meet(ctx, server); err != nil {
		return nil, err
	}
	reply := make([]byte, replySize)
	const first, most = 10 * time.Millisecond, 500 * time.Millisecond
	wait := first
	for until := time.Now().Add(retryTime); ; wait = min(2*wait, most) {
		n, err := c.callOnce(ctx, server, request, reply)
		if err == nil {
			return reply[:n], nil
		}
		if !temporary(err) || time.Now().After(until) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(wait):
		}
	}
}

func (c *client) callOnce(ctx context.Context, server netip.Addr, request, reply []byte) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	at := netip.AddrPortFrom(server, wire.PortFile)
	n, err := c.endpoint.Peer(at, wire.ServiceFile).Call(ctx, request, reply)
	if abort, ok := errors.AsType[rx.Abort](err); ok {
		return 0, fmt.Errorf("file server %s: %w", server, wire.Code(abort))
	}
	return n, err
}

// passing are the codes of file servers that did nothing, and may yet.
var passing = []wire.Code{wire.VBusy, wire.VOffline, wire.VSalvaging, wire.VSalvage, wire.VRestarting}

func temporary(err error) bool {
	code, ok := errors.AsType[wire.Code](err)
	return ok && slices.Contains(passing, code)
}

// meet makes the first call to a file server, which has to be alone: while the
// server finds out about its client, it refuses other calls.
func (c *client) meet(ctx context.Context, server netip.Addr) error {
	c.mu.Lock()
	m := c.met[server]
	if m == nil {
		m = new(meeting)
		c.met[server] = m
	}
	c.mu.Unlock()

	m.Lock()
	defer m.Unlock()
	if m.done {
		return nil
	}
	const reply = 1 << 10
	_, err := c.callOnce(ctx, server, wire.GetCapabilitiesRequest(), make([]byte, reply))
	m.done = err == nil
	return err
}
