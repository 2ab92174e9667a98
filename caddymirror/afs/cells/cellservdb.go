package cells

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// maxCellServDB is how large a CellServDB may be, in bytes: that of the world has 50,000.
const maxCellServDB = 16 << 20

// ParseCellServDB reads a CellServDB file, and returns its cells by their names in
// lower case:
//
//	>example.org         # a cell, and what people call it
//	192.0.2.11           # afsdb1.example.org
//	[192.0.2.12]         # afsdb2.example.org
//
// The host is needed, though it looks like a comment. An address in brackets is of
// a clone, a server that has no vote but answers all the same. A second name after
// that of a cell links the two, and is ignored; so are empty lines, and those that
// begin with a #. Of cells with one name the last counts, and of servers the first
// [MaxServers].
//
// An error names the line that is wrong.
func ParseCellServDB(r io.Reader) (map[string]Cell, error) {
	cells := make(map[string]Cell)
	var cell Cell
	in := &io.LimitedReader{R: r, N: maxCellServDB + 1}
	lines := bufio.NewScanner(in)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if rest, ok := strings.CutPrefix(line, ">"); ok {
			name, err := parseCell(rest)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			cell = Cell{Name: name}
			cells[name] = cell
			continue
		}
		if cell.Name == "" {
			return nil, fmt.Errorf("line %d: server %q before any cell", n, line)
		}
		server, err := parseServer(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: cell %s: %w", n, cell.Name, err)
		}
		if len(cell.Servers) < MaxServers {
			cell.Servers = append(cell.Servers, server)
			cells[cell.Name] = cell
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading cells: %w", err)
	}
	if in.N <= 0 {
		return nil, fmt.Errorf("reading cells: there are more than %d bytes", maxCellServDB)
	}
	return cells, nil
}

func parseCell(line string) (string, error) {
	line, _, _ = strings.Cut(line, "#")
	names := strings.Fields(line)
	if len(names) < 1 || len(names) > 2 {
		return "", fmt.Errorf("cell %q: want a name, or two", strings.TrimSpace(line))
	}
	for _, name := range names {
		if !ValidName(name) {
			return "", fmt.Errorf("bad cell name %q", name)
		}
	}
	return strings.ToLower(names[0]), nil
}

func parseServer(line string) (Server, error) {
	addr, comment, _ := strings.Cut(line, "#")
	addr = strings.TrimSpace(addr)
	host := strings.Fields(comment)
	if len(host) == 0 {
		return Server{}, fmt.Errorf("server %q has no host name after a #", addr)
	}
	if clone, ok := strings.CutPrefix(addr, "["); ok {
		if addr, ok = strings.CutSuffix(clone, "]"); !ok {
			return Server{}, fmt.Errorf("server %q lacks a closing bracket", clone)
		}
	}
	a, err := netip.ParseAddr(strings.TrimSpace(addr))
	if err != nil || !usable(a) {
		return Server{}, fmt.Errorf("server %q: want an IPv4 address", addr)
	}
	return Server{Host: host[0], Addr: netip.AddrPortFrom(a, Port)}, nil
}

// usable says whether a server can be there.
func usable(a netip.Addr) bool {
	return a.Is4() && !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
