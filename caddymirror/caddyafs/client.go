package caddyafs

import (
	"errors"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
)

// clients are the clients in use, by their settings.
var clients = caddy.NewUsagePool()

type pooled struct{ *afs.Client }

// Destruct implements caddy.Destructor.
func (p pooled) Destruct() error { return p.Close() }

// opener holds a config's use of a client.
type opener struct {
	mu     sync.Mutex
	c      *afs.Client
	err    error
	tried  time.Time
	closed bool
}

// retryOpen is how long the reason why no socket could be opened is repeated: the
// address may still be in use by a config that is on its way out.
const retryOpen = time.Second

func (o *opener) client(key string, conf afs.Config) (*afs.Client, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.closed:
		return nil, errors.New("config is gone")
	case o.c != nil:
		return o.c, nil
	case o.err != nil && time.Since(o.tried) < retryOpen:
		return nil, o.err
	}
	v, _, err := clients.LoadOrNew(key, func() (caddy.Destructor, error) {
		c, err := afs.New(conf)
		return pooled{c}, err
	})
	o.tried = time.Now()
	if o.err = err; err != nil {
		return nil, err
	}
	o.c = v.(pooled).Client
	return o.c, nil
}

func (o *opener) close(key string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.c == nil {
		return nil
	}
	o.c = nil
	_, err := clients.Delete(key)
	return err
}
