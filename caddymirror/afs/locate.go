package afs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/afs/cells"
)

// Files that list cells, in the order in which they are looked for.
var usualCellServDBs = []string{"/etc/openafs/CellServDB", "/usr/vice/etc/CellServDB"}

// fileTTL is how long what such a file says is used before it is read again.
const fileTTL = 5 * time.Minute

// locate finds the volume location servers of a cell.
func (c *Client) locate(ctx context.Context, name string) ([]netip.AddrPort, time.Duration, error) {
	if addrs := c.conf.Cells[name]; len(addrs) > 0 {
		return addrs, 24 * time.Hour, nil
	}
	paths := usualCellServDBs
	if c.conf.CellServDB != "" {
		paths = []string{c.conf.CellServDB}
	}
	for _, p := range paths {
		addrs, err := readCellServDB(p, name)
		switch {
		case len(addrs) > 0:
			return addrs, fileTTL, nil
		case err != nil && (c.conf.CellServDB != "" || !errors.Is(err, fs.ErrNotExist)):
			return nil, 0, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cell, ttl, err := (&cells.Resolver{Log: c.log}).Resolve(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	return addrsOf(cell), min(max(ttl, time.Minute), 24*time.Hour), nil
}

func readCellServDB(path, name string) ([]netip.AddrPort, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := cells.ParseCellServDB(f)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return addrsOf(all[name]), nil
}

func addrsOf(cell cells.Cell) []netip.AddrPort {
	addrs := make([]netip.AddrPort, 0, len(cell.Servers))
	for _, s := range cell.Servers {
		addrs = append(addrs, s.Addr)
	}
	return addrs
}
