// Package upstream asks an HTTP upstream one question: the representation at this target,
// from this offset on, unless it is the one that I have.
//
// [Upstream.Fetch] builds a request from nothing, so that no client's cookies, addresses
// or credentials go out; it follows redirects within named hosts, and gives up on what is
// slow. [Body] reads a body, goes on by a range request where it breaks off, and never
// takes a part for the whole. [Decode] undoes a Content-Encoding.
//
// A response with any status is an answer. Errors wrap one of [ErrAway], [ErrBusy],
// [ErrLoop], [ErrRefused], [ErrLying] and [ErrTarget], or the context's error if it was the
// caller who gave up.
//
// A [Group] is several upstreams in order: the next one is asked where one is away, and goes
// on with a body that broke off.
//
// It works over any [http.RoundTripper] that reports to [httptrace], as [http.Transport]
// does. It does not cache: see package freshness.
package upstream
