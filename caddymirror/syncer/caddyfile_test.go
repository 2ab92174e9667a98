package syncer

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/program"
)

func module(t *testing.T, config string) interface {
	caddyfile.Unmarshaler
	Syncer
} {
	switch name, _, _ := strings.Cut(config, " "); name {
	case "exec":
		return new(Exec)
	case "rsync":
		return new(Rsync)
	case "reprepro":
		return new(Reprepro)
	case "bandersnatch":
		return new(Bandersnatch)
	default:
		t.Fatal(name)
		return nil
	}
}

func TestCaddyfile(t *testing.T) {
	for _, test := range []struct {
		config string
		want   string // JSON, or what the error says
	}{
		{`exec a "b c"`, `{"command":["a","b c"]}`},
		{"exec a {\n shell\n unchanged 3\n}", `{"command":["a"],"shell":true,"unchanged":3}`},
		{"exec", `wrong argument count`},
		{`exec ""`, `Testfile:1`},
		{"exec a {\n shell bash\n}", `Testfile:2`},
		{"exec a {\n unchanged none\n}", `'none' is not an exit status from 1 to 255, at Testfile:2`},
		{"exec a {\n unchanged 256\n}", `Testfile:2`},
		{"exec a {\n dir /x\n}", `unrecognized option 'dir', at Testfile:2`},

		{"rsync rsync://a/b c::d", `{"sources":["rsync://a/b","c::d"]}`},
		{
			"rsync a {\n exclude x y\n exclude z\n include i\n two_phase off\n indexes p\n delete_after 2\n max_delete 10%\n keep k\n timeout 1h\n connect_timeout 5s\n bwlimit 1.5m\n args -H\n command /x/rsync\n}",
			`{"sources":["a"],"excludes":["x","y","z"],"includes":["i"],"one_phase":true,"indexes":["p"],"delete_after":2,"max_delete":"10%","keep":["k"],"timeout":3600000000000,"connect_timeout":5000000000,"bwlimit":"1.5m","args":["-H"],"command":"/x/rsync"}`,
		},
		{"rsync a {\n two_phase on\n delete_after never\n}", `{"sources":["a"],"delete_after":-1}`},
		{"rsync", `wrong argument count`},
		{"rsync a {\n exclude\n}", `Testfile:2`},
		{"rsync a {\n two_phase maybe\n}", `'maybe' is neither on nor off, at Testfile:2`},
		{"rsync a {\n delete_after -1\n}", `Testfile:2`},
		{"rsync a {\n max_delete 101%\n}", `'101%' is not a percentage`},
		{"rsync a {\n max_delete -5\n}", `'-5' is neither a number nor a percentage, at Testfile:2`},
		{"rsync a {\n timeout 5\n}", `'5' is not a duration`},
		{"rsync a {\n timeout 5ms\n}", `less than a second`},
		{"rsync a {\n timeout 5s\n timeout 6s\n}", `timeout already specified, at Testfile:3`},
		{"rsync a {\n bwlimit fast\n}", `'fast' is not a rate`},
		{"rsync a {\n\n\n delete\n}", `unrecognized option 'delete', at Testfile:4`},

		{"reprepro /etc/r", `{"confdir":"/etc/r"}`},
		{
			"reprepro /etc/r {\n update a b\n basedir /b\n outdir /o\n dbdir /d\n listdir /l\n check off\n args --gnupghome /g\n command x\n}",
			`{"confdir":"/etc/r","update":["a","b"],"basedir":"/b","outdir":"/o","dbdir":"/d","listdir":"/l","no_check":true,"args":["--gnupghome","/g"],"command":"x"}`,
		},
		{"reprepro", `Testfile:1`},
		{"reprepro a b", `wrong argument count`},
		{"reprepro a {\n update\n}", `Testfile:2`},
		{"reprepro a {\n check never\n}", `Testfile:2`},
		{"reprepro a {\n check off\n args --dbdir /d\n}", `args: --dbdir: use the option dbdir, at Testfile:3`},
		{"reprepro a {\n confdir b\n}", `unrecognized option 'confdir', at Testfile:2`},

		{"bandersnatch /etc/b.conf", `{"config":"/etc/b.conf"}`},
		{"bandersnatch c {\n directory /d\n max_todo 5\n command x\n}", `{"config":"c","directory":"/d","max_todo":5,"command":"x"}`},
		{"bandersnatch", `Testfile:1`},
		{"bandersnatch c {\n max_todo many\n}", `'many' is not a number of packages, at Testfile:2`},
		{"bandersnatch c {\n workers 5\n}", `unrecognized option 'workers', at Testfile:2`},
	} {
		m := module(t, test.config)
		err := m.UnmarshalCaddyfile(caddyfile.NewTestDispenser(test.config))
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
	t.Setenv("MIRROR_TEST_HOST", "example.org")
	s := provision(t, &Rsync{Sources: []string{"rsync://{env.MIRROR_TEST_HOST}/x"}})
	if s.Sources[0] != "rsync://example.org/x" || s.Command != "rsync" || *s.DeleteAfter != 1 || s.MaxDelete != "50%" {
		t.Errorf("%+v", s)
	}
	for _, m := range []caddy.Validator{
		new(Exec), &Exec{Program: program.Program{Command: []string{"a", "\x00"}}}, &Exec{Program: program.Program{Command: []string{"a"}, Unchanged: -1}},
		new(Rsync), &Rsync{Sources: []string{"-e x"}}, &Rsync{Sources: []string{"a", ""}}, &Rsync{Sources: []string{"{env.SURELY_NOT_SET}"}},
		&Rsync{Sources: []string{"a"}, Excludes: []string{" "}}, &Rsync{Sources: []string{"a"}, Keep: []string{"a\nb"}},
		&Rsync{Sources: []string{"a"}, DeleteAfter: new(-2)}, &Rsync{Sources: []string{"a"}, Timeout: 1},
		&Rsync{Sources: []string{"a"}, BWLimit: "1 m"}, &Rsync{Sources: []string{"a"}, MaxDelete: "NaN%"},
		new(Reprepro), &Reprepro{ConfDir: "a", Update: []string{"--delete"}},
		&Reprepro{ConfDir: "a", Args: []string{"--silent", "--outdir=/o"}},
		new(Bandersnatch), &Bandersnatch{Config: "a", MaxTodo: -1},
	} {
		var err error
		if p, ok := m.(caddy.Provisioner); ok {
			err = p.Provision(caddy.Context{})
		}
		if errors.Join(err, m.Validate()) == nil {
			t.Errorf("%+v is valid", m)
		}
	}
}
