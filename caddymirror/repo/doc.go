// Package repo is about the contents of package repositories. The packages repo/apt,
// repo/rpm and repo/pypi read indexes, repo/wheel reads wheels, repo/constraints reads
// pip's requirement files; the others are what these share. Gates, formats and `caddy
// mirror check` read a repository with the same code. None of these packages imports
// Caddy, or knows where the bytes come from.
package repo
