package cells

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

const srvPrefix = "_afs3-vlserver._udp."

// ErrNotFound says that DNS knows no servers of a cell, and is sure of it.
var ErrNotFound = errors.New("no such cell in DNS")

// Resolver finds cells in DNS. Its zero value asks the servers that the system
// asks.
//
// It asks them itself, and not by way of [net.Resolver], which knows no AFSDB
// records and tells no times to live. So /etc/hosts, search domains and whatever
// else the system resolves names by do not count.
type Resolver struct {
	// Servers of DNS, in the order to ask them. Default: those of
	// /etc/resolv.conf, which is read each time; without any, 127.0.0.1.
	Servers []netip.AddrPort

	// Timeout of a question to a server, after which the next one is asked, and
	// then all of them once more. Default: 2 s.
	Timeout time.Duration

	// Log is told of bugs that an answer brings out. Default: nobody is.
	Log *zap.Logger
}

// Resolve finds the volume location servers of a cell, and says for how long that
// holds, which may be for no time at all.
//
// SRV records (RFC 5864) are asked for first, and AFSDB records (RFC 1183) if
// there are none. Servers are ordered by priority, and by chance and weight within
// one (RFC 2782). Hosts that have no address are left out. If the addresses of
// some could not be asked for, the others hold for a minute at most.
//
// The error is [ErrNotFound] if there is no such cell; any other means that it is
// worth to try again. The context bounds it all.
func (r *Resolver) Resolve(ctx context.Context, cell string) (Cell, time.Duration, error) {
	if !ValidName(cell) {
		return Cell{}, 0, fmt.Errorf("bad cell name %q", cell)
	}
	cell = strings.ToLower(cell)
	servers, ttl, err := r.servers(ctx, cell)
	if err != nil {
		return Cell{}, 0, fmt.Errorf("resolving cell %s: %w", cell, err)
	}
	return Cell{Name: cell, Servers: servers}, ttl, nil
}

const (
	// maxTTL is the longest time that DNS can tell (RFC 2181 section 8).
	maxTTL time.Duration = (1<<31 - 1) * time.Second

	// partlyTTL is how long at most some servers will do if others may be there.
	partlyTTL = time.Minute
)

// record is what an SRV or an AFSDB record says.
type record struct {
	host             string
	port             uint16
	priority, weight uint16
	ttl              time.Duration
}

func (r *Resolver) servers(ctx context.Context, cell string) ([]Server, time.Duration, error) {
	ttl := maxTTL
	a, srvErr := r.ask(ctx, srvPrefix+cell, dnsmessage.TypeSRV)
	if srvErr != nil {
		// There are name servers that fail for names with underscores.
		ttl = partlyTTL
	}
	if len(a.records) == 0 {
		var err error
		if a, err = r.ask(ctx, cell, typeAFSDB); len(a.records) == 0 {
			return nil, 0, cmp.Or(errors.Join(srvErr, err), ErrNotFound)
		}
	}

	records := order(a.records)
	records = records[:min(len(records), 2*MaxServers)]
	answers, errs := r.hosts(ctx, records)

	var servers []Server
	for i, rec := range records {
		if errs[i] != nil {
			ttl = min(ttl, partlyTTL)
		}
		for _, a := range answers[i].addrs {
			s := Server{Host: strings.TrimSuffix(rec.host, "."), Addr: netip.AddrPortFrom(a, rec.port)}
			known := slices.ContainsFunc(servers, func(o Server) bool { return o.Addr == s.Addr })
			if known || len(servers) == MaxServers {
				continue
			}
			servers = append(servers, s)
			ttl = min(ttl, rec.ttl, answers[i].ttl)
		}
	}
	if len(servers) == 0 {
		return nil, 0, cmp.Or(errors.Join(errs...), ErrNotFound)
	}
	return servers, ttl, nil
}

// hosts asks for the addresses of the records' hosts, of all at once.
func (r *Resolver) hosts(ctx context.Context, records []record) ([]answer, []error) {
	answers, errs := make([]answer, len(records)), make([]error, len(records))
	var asked sync.WaitGroup
	for i, rec := range records {
		if rec.host == "." { // there is decidedly no such service
			continue
		}
		asked.Go(func() {
			defer panics.Recover(r.Log, "afs dns", &errs[i])
			answers[i], errs[i] = r.ask(ctx, rec.host, dnsmessage.TypeA)
		})
	}
	asked.Wait()
	return answers, errs
}

// order sorts by priority, and shuffles within one by weight.
func order(records []record) []record {
	//nolint:gosec // spreads load, keeps no secret
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	slices.SortStableFunc(records, func(a, b record) int { return cmp.Compare(a.priority, b.priority) })
	for rest := records; len(rest) > 0; rest = rest[1:] {
		n, sum := 0, 0
		for n < len(rest) && rest[n].priority == rest[0].priority {
			sum += int(rest[n].weight)
			n++
		}
		if sum == 0 {
			continue
		}
		draw := rand.IntN(sum) //nolint:gosec // spreads load, keeps no secret
		for i := range n {
			if draw -= int(rest[i].weight); draw < 0 {
				rest[0], rest[i] = rest[i], rest[0]
				break
			}
		}
	}
	return records
}
