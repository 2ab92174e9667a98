package mirror

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/cactus/go-statsd-client/v5/statsd"
	"go.uber.org/zap"
)

// Statsd is where timers are sent to, by the names that OpenDev's graphs use:
// `afs.release.mirror.ubuntu` is how long the release of the volume mirror.ubuntu
// took.
type Statsd struct {
	// Address is the host and port of a statsd, over UDP. Required.
	Address string `json:"address,omitempty"`

	// Prefix is put in front of all names, with a dot. Default: none.
	Prefix string `json:"prefix,omitempty"`
}

func (s *Statsd) check() error {
	host, port, err := net.SplitHostPort(s.Address)
	if err != nil {
		return err
	}
	if host == "" || port == "" {
		return fmt.Errorf("%q is not a host and a port", s.Address)
	}
	if strings.ContainsAny(s.Prefix, ":|@ \t\n") {
		return fmt.Errorf("prefix %q cannot be part of a name", s.Prefix)
	}
	return nil
}

// released sends how long a release took. It is UDP: who does not listen misses it.
func (s *Statsd) released(target string, took time.Duration, log *zap.Logger) {
	kind, rest, _ := strings.Cut(target, ":")
	_, volume, _ := strings.Cut(rest, ":")
	if kind != "afs" || volume == "" {
		return
	}
	client, err := statsd.NewClientWithConfig(&statsd.ClientConfig{Address: s.Address, Prefix: s.Prefix})
	if err == nil {
		err = errors.Join(client.TimingDuration("afs.release."+volume, took, 1), client.Close())
	}
	if err != nil {
		log.Warn("sending a timer to statsd", zap.String("address", s.Address), zap.Error(err))
	}
}
