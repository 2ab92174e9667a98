// Package upstreams has the mirror in front of real HTTP upstreams, with real clients
// before it, and of upstreams that are broken on purpose.
package upstreams
