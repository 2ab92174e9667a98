// Package repo holds what package repositories say of themselves: repo/apt, repo/rpm and
// repo/pypi read their indexes, the packages beside them what all of these need. Gates,
// formats and `caddy mirror check` read a repository with the same code. Nothing below it
// imports Caddy, or knows where the bytes come from.
package repo
