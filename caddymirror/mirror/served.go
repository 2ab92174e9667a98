package mirror

import (
	"net"
	"regexp"
	"strings"
)

// Server is a handler that serves mounts. Others find it in the routes of a site, to
// tell clients what is mirrored there.
type Server interface {
	Served() []Served
}

// Served is a mount, as clients see it.
type Served struct {
	Prefix   string   // of its paths, without a slash at its end; "" is the root
	Format   string   // its name, such as "plain"
	OldNames []string // hosts at whose root it is served, in lower case
}

// HostName is the name in a Host field: in lower case, without the port and the dot of
// the root.
func HostName(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

var hostName = regexp.MustCompile(`^(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?$`)

// IsHostName reports whether a name, in the form of [HostName], is one of a host. Such a
// name needs no quotes wherever it is put.
func IsHostName(name string) bool { return len(name) <= 253 && hostName.MatchString(name) }
