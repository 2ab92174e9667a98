// Package cell runs a real AFS cell for tests: OpenAFS 1.8 servers as Debian
// packages them, each in a network namespace, without any kernel module.
//
// A cell is one database server (volume location and protection) and two file
// servers:
//
//	root namespace      self    .1  ┐
//	namespace -client   client  .2  │
//	namespace -db       db      .10 ├─ a bridge in the namespace -hub
//	namespace -fs1      fs1     .11 │
//	namespace -fs2      fs2     .12 ┘
//
// A test speaks to the servers from its own namespace ([Cell.Self]), or from a
// namespace for one client ([Cell.Client]), so that what is done to that client's
// link concerns nobody else. [Host.Loss], [Host.Drop], [Host.Delay] and
// [Host.BlockCallbacks] act on the bridge: neither end notices but by what is
// missing.
//
// The programs of a server see a root directory of their own, which lies in the
// cell's directory; nothing of the machine's /etc/openafs, /var/lib/openafs or
// /vicep* is read or written. All that exists outside the cell's directory are
// the namespaces and one link, all called afscellN, and processes. [Cell.Stop]
// ends and removes everything; so does the next [Start] for a cell whose process
// died without.
//
// Up to four cells run at a time, each with a network of its own (of RFC 5737 and
// RFC 2544, so none the machine needs). Everyone may read and write every
// read-write volume that [Cell.CreateVolume] makes: there are no users.
//
// It needs Linux, root, and the Debian packages that [Need] asks for.
package cell
