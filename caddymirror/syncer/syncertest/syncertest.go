// Package syncertest has stand-ins for programs that tests cannot have.
package syncertest

import _ "embed"

// Bandersnatch is a shell script in the place of bandersnatch, for tests have no PyPI to
// mirror. It behaves as bandersnatch does: it has the serial that it has come to in
// `status`, what is left to do in `todo` while there is any, writes an example if it has
// no configuration, and its exit status is 0 even if packages failed, unless it was told
// to stop on errors. It writes the same files: in each run `.lock`, `generation` and, if
// all went well, `web/last-modified` and `status`; the list of all projects if anything
// changed at PyPI, whether that is mirrored or not; pages of the packages.
//
// What to do it reads as assignments from the file `do` beside its configuration: serial,
// packages, failures (of these); away, if PyPI is; mute, if it logs nothing; stop, on
// errors; die, after the first package.
//
//go:embed bandersnatch.sh
var Bandersnatch string
