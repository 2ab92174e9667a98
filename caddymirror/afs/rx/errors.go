package rx

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

var (
	// ErrDead: nothing was heard of the peer for Options.Dead.
	ErrDead = errors.New("peer does not answer")
	// ErrClosed: the endpoint was closed.
	ErrClosed = errors.New("endpoint is closed")
	// ErrBusy: the time of the call's context was over before it could begin, since
	// the peer has all the calls that it may have.
	ErrBusy = errors.New("too many calls are under way")
	// ErrTooLong: the reply is longer than the buffer for it.
	ErrTooLong = errors.New("reply is longer than its buffer")
)

// A CallError is a call that failed. It wraps the reason: an [Abort], [ErrDead],
// [ErrClosed], [ErrBusy], [ErrTooLong], a [panics.Error], or the error of the call's
// context.
type CallError struct {
	Peer    netip.AddrPort
	Service uint16
	// Heard tells whether anything at all was heard from the peer during the
	// call. A file server that is up but cannot call us back is heard, yet does
	// not get as far as replying.
	Heard bool
	// Took is how long the call lasted, without what it waited to begin.
	Took time.Duration
	Err  error
}

func (e *CallError) Error() string {
	heard := ""
	var abort Abort
	if !e.Heard && !errors.As(e.Err, &abort) {
		heard = " (nothing heard)"
	}
	return fmt.Sprintf("rx: calling service %d at %s: %v%s", e.Service, e.Peer, e.Err, heard)
}

func (e *CallError) Unwrap() error { return e.Err }

// An Abort is the code with which the peer ended a call. Codes below zero are
// those of Rx and its stub generator; the others belong to the service.
type Abort int32 //nolint:errname // what Rx calls it

// The codes of Rx and, from -450, of its stub generator: for [Abort] and for what
// Options.Handle returns.
const (
	CallDead         = -1
	InvalidOperation = -2
	CallTimeout      = -3
	EndOfData        = -4
	ProtocolError    = -5
	UserAbort        = -6
	AddressInUse     = -7
	MessageSize      = -8
	Restarting       = -100
	ClientMarshal    = -450
	ClientUnmarshal  = -451
	ServerMarshal    = -452
	ServerUnmarshal  = -453
	UnknownOpcode    = -455
)

var abortText = map[Abort]string{
	CallDead:         "call is dead",
	InvalidOperation: "no such service",
	CallTimeout:      "call timed out",
	EndOfData:        "end of data",
	ProtocolError:    "protocol error",
	UserAbort:        "given up",
	AddressInUse:     "address in use",
	MessageSize:      "message too long",
	Restarting:       "server is restarting",
	ClientMarshal:    "client could not encode the request",
	ClientUnmarshal:  "client could not decode the reply",
	ServerMarshal:    "server could not encode the reply",
	ServerUnmarshal:  "server could not decode the request",
	UnknownOpcode:    "unknown opcode",
}

func (a Abort) Error() string {
	if text, ok := abortText[a]; ok {
		return fmt.Sprintf("aborted by the peer: %s (%d)", text, int32(a))
	}
	return fmt.Sprintf("aborted by the peer with code %d", int32(a))
}
