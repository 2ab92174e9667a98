// Package diskcache is a bounded cache of objects on disk.
//
// # Contract
//
//   - The bytes that the cache has on disk never exceed Limits.MaxSize, at any
//     instant: allocated blocks of objects, of temporary files, of directories
//     and of files that are unlinked but still open. Bytes are reserved before
//     they are written.
//   - An entry is either whole or not there. A file gets its name under
//     objects/ only when all of its bytes are written and its source has
//     confirmed them.
//   - No byte is handed out before the checksum of its block was verified,
//     once after its file was opened. Any doubt is a miss.
//   - Whatever goes wrong with the disk, the caller can go on: Get misses, and
//     a Fill fails with [ErrBypass], upon which its readers go to the origin.
//   - However long the disk takes, what is in memory does not wait for it, nor
//     does [Cache.Stats].
//
// # What is evicted
//
// A new entry is on probation. A second use makes it a protected one; uses
// within a minute after it came count as its first, and those within a further
// second for each MiB of it: they may be one client's, which asks for range
// after range, or looks whether it has changed. A new version of an object has
// the place of the old one.
//
// Entries on probation are evicted first, the least recently used one first, so
// that a crawler, which gets everything once, evicts what it got itself and
// little of what others use. Protected entries have at most four fifths of the
// bytes, whatever the sizes of objects; above that the least recently used ones
// go back on probation. Nothing is evicted, and nothing of this shows, before
// the cache is full.
//
// A crawl writes each object that it gets once, as any client's first request
// does: who follows a fill reads from its file, and a second client comes soon
// more often than not.
//
// # On disk
//
// A cache directory holds
//
//	lock                     flock'ed by the process that uses the directory
//	objects/XX/ID.GROUP      one file per entry, see file.go
//	tmp/N                    fills under way, removed at start
//
// ID is derived from the key, GROUP from its group, XX are the first two
// letters of ID. The index is rebuilt from the names alone and holds no keys,
// so a million entries cost about a hundred megabytes. Recency is the file's
// modification time, and files of protected entries, and no others, have mode
// 0700 instead of 0600. Both are written back once a minute: after a kill an
// entry may be found where it was a minute before.
//
// So are validations and new metadata, see [Entry.Refresh] and [Entry.Update],
// each in place in the entry's file: after a kill an entry may have the metadata
// and the validation of a minute before, but never one without the other.
package diskcache
