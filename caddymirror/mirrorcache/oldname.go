package mirrorcache

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/unifiedmirrors/mirror/caddymirror/mirror"
)

// oldName is a host name at whose root a mount is served, as it was before it had a
// prefix.
type oldName struct {
	mount    *Mount
	requests prometheus.Counter
}

// oldNamesOf are the old names of mounts. It is nil if there are none: then requests
// cost nothing for it.
func oldNamesOf(mounts []*Mount) (map[string]oldName, error) {
	var names map[string]oldName
	for _, m := range mounts {
		for _, host := range m.OldNames {
			if other, ok := names[host]; ok {
				return nil, fmt.Errorf("mounts %s and %s have the same old name %s", other.mount.Prefix, m.Prefix, host)
			}
			if names == nil {
				names = map[string]oldName{}
			}
			names[host] = oldName{m, oldNameRequests.WithLabelValues(m.Prefix, host)}
		}
	}
	return names, nil
}

// oldName is the old name that a request is for.
func (h *Handler) oldName(r *http.Request) (oldName, bool) {
	o, ok := h.oldNames[mirror.HostName(r.Host)]
	return o, ok
}

// provisionOldNames fills placeholders in, and brings names into the form of mirror.HostName.
func (m *Mount) provisionOldNames() error {
	repl := caddy.NewReplacer()
	names := make([]string, 0, len(m.OldNames))
	for _, written := range m.OldNames {
		name, err := repl.ReplaceOrErr(written, true, true)
		if err != nil {
			return fmt.Errorf("old name %s: %w", written, err)
		}
		if name = strings.ToLower(strings.TrimSuffix(name, ".")); !mirror.IsHostName(name) {
			return fmt.Errorf("old name %q is not a host name", name)
		}
		names = append(names, name)
	}
	m.OldNames = names
	return nil
}
