// Package rx speaks Rx, the remote procedure calls of AFS, over UDP.
//
// An [Endpoint] is one UDP socket that calls and is called: a file server calls
// back to the port its client called from, and answers nobody who does not
// answer it. A [Peer] is one service of one server; [Peer.Call] sends it a
// request and gathers the reply.
//
// # What is spoken
//
// Connections without security (securityIndex 0), requests and replies of any
// length from this side, requests and replies of one packet to it. Packets have
// at most 1444 bytes and a datagram holds one packet, so nothing is fragmented
// on a path with Ethernet's MTU.
//
// # How it works
//
// A connection is an (epoch, cid) pair and has four channels; a channel carries
// one call at a time, numbered from 1. One goroutine reads the socket, many
// datagrams at a time. It copies reply packets straight into the buffer of the
// call they belong to and acknowledges them, so a reply never waits for its
// caller. Everything a call does by time (sending and resending the request,
// keep-alives, giving up) is done by the goroutine that waits in [Peer.Call],
// which has one timer.
//
// # Locks
//
// In the order they may be taken: Peer.mu, Endpoint.mu. A call's lock and the
// lock of the serving side are leaves: no other lock is taken under them.
package rx
