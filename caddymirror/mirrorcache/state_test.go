package mirrorcache

import (
	"context"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// lookingOrigin is still looking at its release for the first time.
type lookingOrigin struct{ origin.Tree }

func (lookingOrigin) Release(ctx context.Context) origin.Release {
	<-ctx.Done()
	return origin.Release{}
}

// TestSlowFirstLook: a mount is slow when its origin has used up the mount's
// patience, and not when the client has left or had less of it.
func TestSlowFirstLook(t *testing.T) {
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	leaves, cancel := context.WithCancel(t.Context())
	defer time.AfterFunc(20*time.Millisecond, cancel).Stop()
	hurried, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for _, tc := range []struct {
		name     string
		client   context.Context //nolint:containedctx // a test's table
		patience time.Duration
		slow     bool
	}{
		{"a client that is gone", canceled, time.Minute, false},
		{"a client that leaves", leaves, time.Minute, false},
		{"a client with a deadline", hurried, time.Minute, false},
		{"a client that stays", t.Context(), 20 * time.Millisecond, true},
	} {
		m := &Mount{RevalidateTimeout: caddy.Duration(tc.patience), origins: []source{{Tree: lookingOrigin{}, tag: "tag:"}}}
		m.state(tc.client)
		if m.slow.Load() != tc.slow {
			t.Errorf("%s: slow is %v", tc.name, m.slow.Load())
		}
	}
}
