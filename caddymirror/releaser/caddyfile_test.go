package releaser

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/process"
	"github.com/unifiedmirrors/mirror/caddymirror/program"
)

func TestCaddyfile(t *testing.T) {
	for _, test := range []struct {
		config string
		want   string // JSON, or what the error says
	}{
		{"snapshot /srv/a", `{"link":"/srv/a"}`},
		{"snapshot /srv/rw /srv/a/ {\n keep 5\n}", `{"tree":"/srv/rw","link":"/srv/a/","keep":5}`},
		{"snapshot", `Testfile:1`},
		{"snapshot a b c", `wrong argument count`},
		{"snapshot /a {\n\n keep none\n}", `'none' is not a number from 1 to 1000, at Testfile:3`},
		{"snapshot /a {\n keep 0\n}", `Testfile:2`},
		{"snapshot /a {\n keep 3\n keep 3\n}", `keep already specified, at Testfile:3`},
		{"snapshot /a {\n keep\n}", `Testfile:2`},
		{"snapshot /a {\n prune 3\n}", `unrecognized option 'prune', at Testfile:2`},
		{`exec make "a b"`, `{"command":["make","a b"]}`},
		{"exec x {\n shell\n finish\n unchanged 100\n releases a b\n queue q\n}", `{"command":["x"],"shell":true,"unchanged":100,"finish":true,"releases":["a","b"],"queue":"q"}`},
		{"exec", `Testfile:1`},
		{`exec " "`, `Testfile:1`},
		{"exec x {\n shell yes\n}", `Testfile:2`},
		{"exec x {\n unchanged 0\n}", `'0' is not an exit status from 1 to 255, at Testfile:2`},
		{"exec x {\n releases\n}", `Testfile:2`},
		{"exec x {\n queue\n}", `Testfile:2`},
		{"exec x {\n bogus\n}", `unrecognized option 'bogus', at Testfile:2`},
	} {
		d := caddyfile.NewTestDispenser(test.config)
		var m caddyfile.Unmarshaler = new(Exec)
		if strings.HasPrefix(test.config, "snapshot") {
			m = new(Snapshot)
		}
		err := m.UnmarshalCaddyfile(d)
		if err != nil {
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%q: %v, want %q", test.config, err, test.want)
			}
			continue
		}
		if got, _ := json.Marshal(m); string(got) != test.want {
			t.Errorf("%q: %s, want %s", test.config, got, test.want)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, s := range []*Snapshot{
		{},
		{Link: "relative"},
		{Link: "/"},
		{Link: "/a", Keep: -1},
		{Link: "/a", Tree: "b"},
		{Link: "/a", Tree: "/a"},
		{Link: "/a/b", Tree: "/a"},
		{Link: "/a", Tree: "/a/b"},
		{Link: "/a", Tree: "/a.releases/x"},
		{Link: "/a\x00", Tree: "/b"},
		{Link: "/{env.SURELY_NOT_SET}/a"},
	} {
		if err := errors.Join(s.Provision(caddy.Context{}), s.Validate()); err == nil {
			t.Errorf("%+v is valid", s)
		}
	}
	for _, e := range []*program.Program{{}, {Command: []string{""}}, {Command: []string{"a\x00"}}, {Command: []string{"a"}, Unchanged: 256}} {
		if e.Validate() == nil {
			t.Errorf("%+v is valid", e)
		}
	}
	s := newSnapshot(t, "/rw", "/srv/../srv/ro/")
	if got := s.Targets(); len(got) != 1 || got[0] != "dir:/srv/ro" || s.Lane() != "" || s.Keep != 3 {
		t.Error(got, s.Lane(), s.Keep)
	}
}

func TestExec(t *testing.T) {
	for _, test := range []struct {
		e        Exec
		released bool
		code     int
	}{
		{Exec{Program: program.Program{Command: []string{"true"}}}, true, 0},
		{Exec{Program: program.Program{Command: []string{"false"}}}, false, 1},
		{Exec{Program: program.Program{Command: []string{"sh", "-c", "exit 100"}}}, false, 100},
		{Exec{Program: program.Program{Command: []string{"sh", "-c", "exit 100"}, Unchanged: 100}}, false, 0},
		{Exec{Program: program.Program{Command: []string{"sh", "-c", "exit 99"}, Unchanged: 100}}, false, 99},
		{Exec{Program: program.Program{Command: []string{`test "$1" = "a  b" && test "$2" = '$1' && exit 7`, "a  b", "$1"}, Shell: true, Unchanged: 7}}, false, 0},
		{Exec{Program: program.Program{Command: []string{"sh", "-c", `test "$0" = '*'`, "*"}}}, true, 0},
		{Exec{Program: program.Program{Command: []string{"kill -9 $$"}, Shell: true}}, false, -1},
	} {
		released, err := test.e.Release(t.Context(), newRun(t))
		code := 0
		if exit, ok := errors.AsType[*process.ExitError](err); ok {
			code = exit.Status.ExitStatus()
		}
		if released != test.released || code != test.code || (err != nil) != (code != 0) {
			t.Errorf("%v: released %v, %v", test.e.Command, released, err)
		}
	}
	if _, err := (&Exec{Program: program.Program{Command: []string{"/nonexistent"}}}).Release(t.Context(), newRun(t)); err == nil {
		t.Error("what is not there was run")
	}
	e := Exec{Program: program.Program{Command: []string{"x"}}, Releases: []string{"a"}, Queue: "afs:c"}
	if e.Lane() != "afs:c" || e.Targets()[0] != "a" {
		t.Error(e.Lane(), e.Targets())
	}
}
