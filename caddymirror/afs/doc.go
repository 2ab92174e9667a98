// Package afs reads files of AFS, the distributed file system, without a kernel
// module: anonymously, and from read-only volumes unless asked otherwise.
//
// A [Client] is one UDP socket, for calls to servers and for their callbacks. A
// [Tree] is a part of a cell's name space: what lies below a path, across mount
// points and symbolic links, or below the root of a volume.
//
// # Releases
//
// A read-only volume has copies at several sites, and `vos release` brings them
// to a new state one after the other. Each answer of a file server carries the
// date of the state, the release, that it was given from. What a Tree returns is
// of the newest release that was seen, and never of an older one after that; a
// File keeps to the one it was opened in. Three rules see to that:
//
//   - A site is believed only while the volume location database lists it for
//     use. After it has failed in any way that is read again first: a copy that
//     was broken off half-way comes back under the old date.
//   - A newer date than known is believed after another look at the database;
//     an older one never is, and the site counts as failed.
//   - Which version of a file belongs to the release is confirmed, before anything
//     is given away, by a look at the database that began later: a site is struck
//     off before it is written to.
//
// Contents are known by FID and data version. A file server tells the version with
// every answer, and replaces a file as a whole. Both outlast a release in which a
// file did not change.
//
// # Failures
//
// Every call has a deadline, and a server that falls silent is left for another
// after two seconds; it is not asked again until it answers a probe. Errors wrap
// [fs.ErrNotExist], [fs.ErrPermission], [fs.ErrInvalid], [ErrChanged] or
// [ErrUnavailable].
//
// # Locks
//
// In the order they may be taken: Tree.mu, volume.mu, server.mu. Client.mu and
// cell.mu are leaves: under them no other lock is taken. No lock is held while
// waiting for the network.
package afs
