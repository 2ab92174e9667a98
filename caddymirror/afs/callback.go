package afs

import (
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/rx"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

// handle answers the calls of file servers. They run no call of ours before
// theirs are answered.
//
// What a callback says is not believed, for anybody could send one: it makes us
// look.
func (c *Client) handle(r rx.Request) (reply []byte, code int32) {
	if r.Service != wire.ServiceCallback || len(r.Body) < 4 {
		return nil, int32(wire.RXGENOpcode)
	}
	if s := c.serverAt(r.From.Addr()); s != nil {
		s.calledUs()
	}
	switch wire.ReadCallbackOp(r.Body) {
	case wire.OpTellMeAboutYourself:
		return wire.TellMeAboutYourselfReply(c.uuid, c.self), 0
	case wire.OpWhoAreYou:
		return wire.WhoAreYouReply(c.uuid, c.self), 0
	case wire.OpProbe:
		return nil, 0
	case wire.OpProbeUUID:
		if id, err := wire.DecodeProbeUUID(r.Body); err != nil || id != c.uuid {
			return nil, 1
		}
		return nil, 0
	case wire.OpInitCallBackState, wire.OpInitCallBackState3:
		c.restarted(r)
		return nil, 0
	case wire.OpInitCallBackState2:
		c.restarted(r)
		return wire.WhoAreYouReply(c.uuid, c.self), 0
	case wire.OpCallBack:
		c.called(r)
		return nil, 0
	}
	return nil, int32(wire.RXGENOpcode)
}

// restarted notes that a file server knows nothing of us: it may have been
// restarted, and its volumes may be others.
func (c *Client) restarted(r rx.Request) {
	s := c.serverAt(r.From.Addr())
	if s == nil {
		return
	}
	c.log.Debug("file server has forgotten us", zap.Stringer("server", s))
	c.eachVolume(func(v *volume) { v.alarm(func(at *site) bool { return at.server == s }) })
}

// called notes that something changed on a file server.
func (c *Client) called(r rx.Request) {
	fids, err := wire.DecodeCallBack(r.Body)
	if err != nil {
		c.log.Debug("callback not understood", zap.Stringer("from", r.From), zap.Error(err))
		return
	}
	ids := map[uint32]bool{}
	for _, f := range fids {
		ids[f.Volume] = true
	}
	c.eachVolume(func(v *volume) {
		if ids[v.currentID()] {
			v.wake()
		}
	})
}
