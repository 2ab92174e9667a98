// Package diskcache is a bounded LRU of objects on disk.
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
// so a million entries cost about a hundred megabytes; recency is the file's
// modification time, written back once a minute.
package diskcache
