package rx

import (
	"errors"
	"fmt"
	"net/netip"
)

var (
	// ErrDead: nothing was heard of the peer for Options.Dead.
	ErrDead = errors.New("peer does not answer")
	// ErrClosed: the endpoint was closed.
	ErrClosed = errors.New("endpoint is closed")
	// ErrTooLong: the reply is longer than the buffer for it.
	ErrTooLong = errors.New("reply is longer than its buffer")

	errProtocol = errors.New("peer broke the protocol")
)

// A CallError is a call that failed. It wraps the reason: an [Abort], [ErrDead],
// [ErrClosed], [ErrTooLong], or the error of the call's context.
type CallError struct {
	Peer    netip.AddrPort
	Service uint16
	// Heard tells whether anything at all was heard from the peer during the
	// call. A file server that is up but cannot call us back is heard, yet does
	// not get as far as replying.
	Heard bool
	Err   error
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
type Abort int32

// The codes of Rx, and of its stub generator from -450.
const (
	CallDead         Abort = -1
	InvalidOperation Abort = -2
	CallTimeout      Abort = -3
	EndOfData        Abort = -4
	ProtocolError    Abort = -5
	UserAbort        Abort = -6
	AddressInUse     Abort = -7
	MessageSize      Abort = -8
	Restarting       Abort = -100
	ClientMarshal    Abort = -450
	ClientUnmarshal  Abort = -451
	ServerMarshal    Abort = -452
	ServerUnmarshal  Abort = -453
	UnknownOpcode    Abort = -455
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
