package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	_ "github.com/caddyserver/caddy/v2/modules/filestorage"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
	_ "github.com/unifiedmirrors/mirror/caddymirror/syncer"
)

func init() {
	caddy.RegisterModule(new(listener))
}

// listener is a handler of events that keeps those it has heard.
type listener struct{}

var heard struct {
	sync.Mutex
	events []string
}

func (*listener) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test_listener", New: func() caddy.Module { return new(listener) }}
}

func (*listener) Handle(_ context.Context, e caddy.Event) error {
	heard.Lock()
	defer heard.Unlock()
	if job, ok := e.Data["job"]; ok {
		text := fmt.Sprintf("%s of %v (%v)", e.Name(), job, e.Data["stage"])
		for _, name := range []string{"target", "targets", "error"} {
			if v := e.Data[name]; v != nil {
				text += fmt.Sprint(" ", v)
			}
		}
		heard.events = append(heard.events, text)
	}
	return nil
}

// TestEvents are those of jobs that go well and that do not, in a Caddy, from the
// first run on.
func TestEvents(t *testing.T) {
	t.Setenv("XDG_DATA_HOME", t.TempDir())
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		job.Shutdown() // runs have told all, and may still note it
	})
	sh := func(script string) string {
		return fmt.Sprintf(`"sync": {"syncer": "exec", "shell": true, "command": [%q]}`, script)
	}
	err := caddy.Load([]byte(`{
		"admin": {"disabled": true, "config": {"persist": false}},
		"storage": {"module": "file_system", "root": "`+t.TempDir()+`"},
		"logging": {"logs": {"default": {"writer": {"output": "discard"}}}},
		"apps": {
			"events": {"subscriptions": [{"handlers": [{"handler": "test_listener"}]}]},
			"mirror": {"jobs": {
				"good": {"every": "10h", "exclusive": true, `+sh("true")+`, "releases": [{"releaser": "exec", "command": ["true"], "releases": ["web"]}]},
				"sync": {"every": "10h", `+sh("exit 3")+`},
				"gate": {"every": "10h", `+sh("true")+`, "gates": [{"gate": "exec", "command": ["false"]}], "releases": [{"releaser": "exec", "command": ["true"]}]},
				"release": {"every": "10h", `+sh("true")+`, "releases": [{"releaser": "exec", "command": ["false"], "releases": ["bad"]}]}
			}}
		}
	}`), true)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"gate_failed of gate (gate exec) exec: false exited with 1",
		"job_failed of gate (gate exec) gate exec: false exited with 1",
		"job_failed of release (release) release: false: exit status 1",
		"job_failed of sync (sync) sync: /bin/sh: exit status 3",
		"release_failed of release (release) [bad] false: exit status 1",
		"sync_failed of sync (sync) /bin/sh: exit status 3",
		"sync_started of gate (sync)", "sync_started of good (sync)",
		"sync_started of release (sync)", "sync_started of sync (sync)",
		"volume_released of good (release) web",
	}
	sorted := func() []string {
		heard.Lock()
		defer heard.Unlock()
		return slices.Sorted(slices.Values(heard.events))
	}
	for deadline := time.Now().Add(10 * time.Second); len(sorted()) < len(want) && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if got := sorted(); !slices.Equal(got, want) {
		t.Errorf("events are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
