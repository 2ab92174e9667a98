package job

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/gate"
	"github.com/unifiedmirrors/mirror/caddymirror/program"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
	"github.com/unifiedmirrors/mirror/caddymirror/syncer"
)

// TestReady: what the operator has to provide is missed at start, with the job's name.
func TestReady(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "jobs")
	keytab := t.TempDir() + "/keytab"
	job := func(j Job, s syncer.Syncer, gates ...namedGate) *Job {
		made := testJob(t, "x", j, none)
		made.syncer, made.gates = s, gates
		return made
	}
	missing := &syncer.Exec{Program: program.Program{Command: []string{"no-such-program"}}}
	for _, c := range []struct {
		j    *Job
		want string
	}{
		{job(Job{Kerberos: &step.Kerberos{Keytab: "/nonexistent", Principal: "me", Command: "true"}}, nil), "job x: kerberos: keytab: open /nonexistent"},
		{job(Job{Kerberos: &step.Kerberos{Keytab: keytab, Principal: "me", Command: "no-such-k5start"}}, nil), "job x: kerberos: no-such-k5start: executable"},
		{job(Job{}, missing), "job x: sync exec: no-such-program: executable"},
		{job(Job{}, &syncer.Exec{Program: program.Program{Command: []string{"/no/such/program"}}}), "job x: sync exec: /no/such/program: "},
		{job(Job{}, nil, namedGate{&gate.Apt{Keyring: "/no/such.asc"}, "apt"}), "job x: gate apt: keyring: open /no/such.asc"},
		{job(Job{}, nil, namedGate{&gate.Exec{Command: []string{"no-such-program"}}, "exec"}), "job x: gate exec: no-such-program: executable"},
	} {
		_, err := Start(dir, map[string]*Job{"x": c.j}, nil, nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	for _, s := range []syncer.Syncer{&syncer.Exec{Program: program.Program{Shell: true, Command: []string{"no-such-program"}}}, &syncer.Exec{Program: program.Program{Command: []string{"bin/later"}}}} {
		if err := job(Job{}, s).Ready(); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}
