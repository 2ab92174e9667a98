// Cachehandler is Caddy with its cache-handler: a peer of the bench. It is a module of its
// own, so that what it needs is nothing that the project needs.
package main

import (
	_ "github.com/caddyserver/cache-handler"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

func main() { caddycmd.Main() }
