// Package caddymirror makes a Caddy a package mirror. Import it for its
// modules:
//
//   - http.handlers.mirror_cache, the directive: trees under URL prefixes,
//     each served through a bounded disk cache
//   - http.handlers.mirror_clients: configuration for clients of what is mirrored
//   - mirror, the app: the caches, and the jobs
//   - admin.api.mirror, and the command `caddy mirror`
//   - mirror.syncers.*, mirror.gates.*, mirror.releasers.*, the steps of a job
//   - mirror.origins.*, where bytes come from
//   - afs, the app, and caddy.fs.afs: AFS for all of Caddy; `caddy afs`
//   - mirror.formats.*, how the names of a repository are answered
package caddymirror

import (
	// What registers itself.
	_ "github.com/unifiedmirrors/mirror/caddymirror/caddyafs"
	_ "github.com/unifiedmirrors/mirror/caddymirror/format"
	_ "github.com/unifiedmirrors/mirror/caddymirror/gate"
	_ "github.com/unifiedmirrors/mirror/caddymirror/mirror"
	_ "github.com/unifiedmirrors/mirror/caddymirror/mirrorcache"
	_ "github.com/unifiedmirrors/mirror/caddymirror/mirrorpages"
	_ "github.com/unifiedmirrors/mirror/caddymirror/origin"
	_ "github.com/unifiedmirrors/mirror/caddymirror/releaser"
	_ "github.com/unifiedmirrors/mirror/caddymirror/syncer"
	_ "github.com/unifiedmirrors/mirror/caddymirror/syncer/wheels"
)
