package origin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/upstream"
)

// What is known of upstreams outlives a config, if the next one has them, too.
var (
	healths   = caddy.NewUsagePool() // of sharedHealth, by what healthKey says
	limits    = caddy.NewUsagePool() // of *httpLimits, by httpLimitKey
	httpCount sync.Map               // of *counters, by the origin's name; it forgets nothing, as dirCosts
)

// countersOf are those of an origin since the process began.
func countersOf(name string) *counters {
	c, _ := httpCount.LoadOrStore(name, new(counters))
	return c.(*counters)
}

type sharedHealth struct{ *upstream.Health }

// Destruct implements [caddy.Destructor].
func (s sharedHealth) Destruct() error {
	s.Close()
	return nil
}

// shareHealth is what is known of an upstream, as it answers to those who ask like h:
// another transport or other credentials may get other answers.
func (h *HTTP) shareHealth(url string, transport json.RawMessage, header http.Header) (*upstream.Health, error) {
	key := healthKey(url, transport, header)
	s, _, err := healths.LoadOrNew(key, func() (caddy.Destructor, error) {
		return sharedHealth{upstream.NewHealth()}, nil
	})
	if err != nil {
		return nil, err
	}
	h.shared = append(h.shared, func() error { _, err := healths.Delete(key); return err })
	return s.(sharedHealth).Health, nil
}

// healthKey is a digest, since header has secrets.
func healthKey(url string, transport json.RawMessage, header http.Header) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q", url, transport)
	names := make([]string, 0, len(header))
	for name := range header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(sum, " %q %q", name, header[name])
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// processToken tells this process from all others.
var processToken = func() (token [16]byte) {
	rand.Read(token[:])
	return token
}()

// pseudonymOf is what requests of an origin name this mirror by, in Via. Each origin has a
// name of its own: a mount may be the upstream of another on the same host, and only a
// request that comes back to where it has been is in a loop.
func pseudonymOf(name string) string {
	sum := sha256.Sum256(append(processToken[:], name...))
	return "caddymirror-" + hex.EncodeToString(sum[:6])
}

// Looped reports whether a request with these lines of Via was made necessary by one that
// this origin has sent.
func (h *HTTP) Looped(via []string) bool { return upstream.Looped(via, h.pseudonym) }
