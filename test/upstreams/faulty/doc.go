// Package faulty is an HTTP upstream that is broken on purpose: a proxy that does to the
// responses of an honest server what broken servers, proxies and networks do.
//
// [Start] runs one over HTTP/1.1, [StartHTTP2] one over HTTP/2. What goes wrong is a
// [Fault], of all requests or of those whose path has a prefix, and may be switched while
// clients are there. All requests are noted, see [Server.Seen].
package faulty
