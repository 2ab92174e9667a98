// Package cells finds the volume location servers of AFS cells: in a CellServDB
// file, or in DNS (RFC 5864).
package cells

import (
	"net/netip"
	"strings"
)

const (
	// Port is where volume location servers listen, unless DNS says otherwise.
	Port = 7003

	// MaxServers is how many servers of a cell are taken, like by other clients.
	MaxServers = 8
)

// Cell is a cell and its volume location servers. Each server can answer for all;
// from DNS they come in the order to try them.
type Cell struct {
	Name    string
	Servers []Server
}

// Server is a volume location server, at one of its addresses. AFS knows IPv4
// only.
type Server struct {
	Host string
	Addr netip.AddrPort
}

// ValidName says whether a cell may have this name: a domain name of letters,
// digits, hyphens and underscores, without a final dot, and short enough for the
// SRV record before it. Upper and lower case are the same.
func ValidName(name string) bool { return validDomain(name, maxDNSName-1-len(srvPrefix)) }

func validDomain(name string, longest int) bool {
	const chars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
	if len(name) > longest {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, chars) != "" {
			return false
		}
	}
	return true
}
