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
// And of a request:
//
//   - [Policy.Request] reads what the client asks of caches.
//   - [Freshness.Use] says what to do: serve the entry, ask the upstream, or both.
//   - [Conditions] are sent to the upstream. [Freshened] finds the entry that a 304 is
//     about, and [Policy.Update] makes its new header.
//   - [Failed] tells which answers a stale entry may stand in for.
//   - [Invalidated] lists what an unsafe request makes invalid.
//
// [Part] is about pieces of a body, and [CacheStatus] says what was done.
//
// The cache is shared, as that of a mirror is: private responses are not kept.
//
// In doubt it is careful. A directive that forbids something counts however it is
// written, one that permits something only if it is well formed. A lifetime that cannot
// be read has ended.
package freshness
