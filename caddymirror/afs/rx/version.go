package rx

import (
	"bytes"
	"context"
	"net/netip"
	"time"
)

// A probe waits for the answer to a version packet.
type probe struct {
	addr   netip.AddrPort
	answer chan string // of one
}

// Version asks what software the peer runs, such as "OpenAFS 1.8.9". It makes no
// state at the peer, so it is a cheap way to see whether a server is up. A peer
// that does not answer fails with [ErrDead].
func (p *Peer) Version(ctx context.Context) (string, error) {
	e := p.e
	pr := &probe{addr: p.key.addr, answer: make(chan string, 1)}
	e.mu.Lock()
	if e.closed {
		e.mu.Unlock()
		return "", p.failed(ErrClosed, false, 0)
	}
	cid := e.nextCID()
	e.probes[cid] = pr
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.probes, cid)
		e.mu.Unlock()
	}()

	dead := time.NewTimer(e.options.Dead)
	defer dead.Stop()
	again := time.NewTicker(firstRTO)
	defer again.Stop()
	h := header{
		epoch: e.epoch, cid: cid, call: 1,
		typ: typeVersion, flags: flagClient | flagLast, service: p.key.service,
	}
	for {
		h.serial++
		p.send(append(h.append(nil), 0))
		select {
		case v := <-pr.answer:
			return v, nil
		case <-again.C:
		case <-dead.C:
			return "", p.failed(ErrDead, false, 0)
		case <-ctx.Done():
			return "", p.failed(ctx.Err(), false, 0)
		case <-e.done:
			return "", p.failed(ErrClosed, false, 0)
		}
	}
}

// version takes a version packet: an answer. Questions are not answered.
func (e *Endpoint) version(h header, body []byte, from netip.AddrPort) {
	e.mu.RLock()
	pr := e.probes[h.cid]
	e.mu.RUnlock()
	if h.flags&flagClient != 0 || pr == nil || h.epoch != e.epoch || from != pr.addr {
		e.stray.Add(1)
		return
	}
	text, _, _ := bytes.Cut(body, []byte{0})
	select {
	case pr.answer <- string(text):
	default: // answered already
	}
}
