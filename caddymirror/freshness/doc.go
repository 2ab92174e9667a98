// Package freshness has HTTP's rules of caching: RFC 9111, with stale-while-revalidate
// and stale-if-error (RFC 5861), immutable (RFC 8246), CDN-Cache-Control (RFC 9213)
// and Cache-Status (RFC 9211). It is pure functions of header fields and times: it
// reads no clock, keeps nothing, and logs nothing.
//
// It is made for upstreams that are asked over HTTP. The way of a response:
//
//   - [Policy.Storable] tells whether it may be kept, and if not, why.
//   - [Policy.StoredHeader] is what is kept of its header.
//   - [Policy.Freshness] is how long it may be used: computed once, kept with the entry.
//   - [NewVariant] is which requests it answers, and [Select] finds it for one of them.
//
// And of a request: [Policy.Request] reads what the client asks of caches, and
// [Freshness.Use] says what to do: serve the entry, ask the upstream, or both. Whoever
// asks sends [Conditions]; [Freshened] finds the entry that a 304 means, and
// [Policy.Update] makes the new header; with a status that [Failed], a stale entry may
// answer instead. [Invalidated] lists what an unsafe request
// makes invalid, and [Part] is about pieces of a body.
//
// The cache is shared, as that of a mirror is: private responses are not kept.
//
// What cannot be understood is taken for the more careful of two things: a directive
// that forbids counts however it is written, one that permits only if it is well
// formed, and a lifetime that is none is over.
package freshness
