// Package caddyafs is AFS in Caddy: the app `afs`, which holds the client that
// all of the process shares, the file system `afs` for file_server and others,
// and the command `caddy afs`.
package caddyafs

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/cells"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App is how the process speaks AFS. It needs no configuration where CellServDB
// or the DNS know the cells.
type App struct {
	// Address is the local UDP address, such as `:7001`. File servers call it: a
	// firewall has to let packets from their port 7000 through to it. Default:
	// any port.
	Address string `json:"address,omitempty"`

	// CellServDB is the file that lists cells and their volume location servers.
	// Default: `/etc/openafs/CellServDB` or `/usr/vice/etc/CellServDB`, if there.
	CellServDB string `json:"cellservdb,omitempty"`

	// Cells are the volume location servers of cells by the cells' names: IPv4
	// addresses, with a port if that is not 7003. Cells that are not among them
	// are looked for in CellServDB, and then in the DNS.
	Cells map[string][]string `json:"cells,omitempty"`

	conf afs.Config
	key  string
	log  *zap.Logger
	open opener
}

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "afs", New: func() caddy.Module { return new(App) }}
}

// Provision sets the app up. It opens no socket.
func (a *App) Provision(ctx caddy.Context) error {
	a.log = ctx.Logger()
	a.conf = afs.Config{Address: a.Address, CellServDB: a.CellServDB, Log: a.log}
	if a.Address != "" {
		if _, err := net.ResolveUDPAddr("udp4", a.Address); err != nil {
			return fmt.Errorf("address: %w", err)
		}
	}
	var err error
	if a.conf.Cells, err = parseCells(a.Cells); err != nil {
		return err
	}
	key, err := json.Marshal(a)
	a.key = string(key)
	return err
}

func parseCells(names map[string][]string) (map[string][]netip.AddrPort, error) {
	parsed := map[string][]netip.AddrPort{}
	for name, servers := range names {
		if !cells.ValidName(name) {
			return nil, fmt.Errorf("%q is not the name of a cell", name)
		}
		if len(servers) == 0 {
			return nil, fmt.Errorf("cell %s has no servers", name)
		}
		for _, s := range servers {
			addr, err := parseServer(s)
			if err != nil {
				return nil, fmt.Errorf("cell %s: %w", name, err)
			}
			parsed[name] = append(parsed[name], addr)
		}
	}
	return parsed, nil
}

func parseServer(s string) (netip.AddrPort, error) {
	if _, _, err := net.SplitHostPort(s); err != nil {
		s = net.JoinHostPort(s, strconv.Itoa(wire.PortLocation))
	}
	addr, err := netip.ParseAddrPort(s)
	if err != nil || !addr.Addr().Is4() || addr.Port() == 0 {
		return addr, fmt.Errorf("%q is not an IPv4 address, with or without a port", s)
	}
	return addr, nil
}

// Start opens no socket: that is done when it is needed. A client that the config
// before this one has is kept.
func (a *App) Start() error {
	if _, ok := clients.References(a.key); !ok {
		return nil
	}
	_, err := a.Client()
	return err
}

// Stop lets go of the client.
func (a *App) Stop() error { return nil }

// Cleanup lets go of the client. If another config has the same settings, it goes
// on with it.
func (a *App) Cleanup() error { return a.open.close(a.key) }

// Client is the process's client. It is the same over config reloads as long as
// the settings are.
func (a *App) Client() (*afs.Client, error) { return a.open.client(a.key, a.conf) }

// DefaultTimeout is how long one call to a tree may take.
const DefaultTimeout = 10 * time.Second

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
