// Command caddy is Caddy with its standard modules and the package mirror.
package main

import (
	_ "time/tzdata"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/unifiedmirrors/mirror/caddymirror"
)

func main() {
	caddycmd.Main()
}
