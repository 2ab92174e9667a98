// Package adapt holds how Caddyfiles become JSON, and how wrong ones are
// refused. A fixture, *.caddyfiletest, is a Caddyfile, a line of ten dashes,
// and the JSON, or a part of the error, that it must result in.
//
// "go test ./test/adapt -update" writes what they result in now; read the
// difference before it is kept.
package adapt

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/unifiedmirrors/mirror/caddymirror"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

var update = flag.Bool("update", false, "rewrite what the fixtures expect")

const separator = "\n----------\n"

func TestFixtures(t *testing.T) {
	fixtures, err := filepath.Glob("*.caddyfiletest")
	if err != nil {
		t.Fatal(err)
	}
	if len(fixtures) == 0 {
		t.Fatal("no fixtures")
	}
	t.Setenv("MIRROR_ROOT_FOR_TEST", "/srv")
	for _, name := range fixtures {
		t.Run(strings.TrimSuffix(name, ".caddyfiletest"), func(t *testing.T) {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			input, want, ok := strings.Cut(string(data), separator)
			if !ok {
				t.Fatal("no line of ten dashes")
			}
			input += "\n"
			want = strings.TrimSpace(want)
			config, warnings, err := adapt("Caddyfile", input)
			for _, w := range warnings {
				t.Errorf("warning: %s", w)
			}
			if err == nil {
				// What parses must also provision, and some mistakes are seen only then.
				err = provision(config)
			}
			got := config
			if err != nil {
				got = err.Error()
			}

			if *update {
				if err != nil && want != "" && strings.Contains(got, want) {
					return // it may be a part only
				}
				if err := os.WriteFile(name, []byte(strings.TrimSuffix(input, "\n")+separator+got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			switch {
			case want == "":
				t.Errorf("nothing is expected; it results in:\n%s", got)
			case strings.HasPrefix(want, "{"):
				if got != want {
					t.Errorf("it results in:\n%s\nwant:\n%s", got, want)
				}
			case err == nil:
				t.Errorf("no error, want: %s", want)
			case !strings.Contains(got, want):
				t.Errorf("error is: %s\nwant: %s", got, want)
			}
		})
	}
}

// adapt returns the JSON, indented, and warnings of a Caddyfile.
func adapt(name, input string) (config string, warnings []caddyconfig.Warning, err error) {
	adapter := caddyconfig.GetAdapter("caddyfile")
	out, warnings, err := adapter.Adapt([]byte(input), map[string]any{"filename": name})
	if err != nil {
		return "", warnings, err
	}
	var buf bytes.Buffer
	if err := json.Indent(&buf, out, "", "\t"); err != nil {
		return "", warnings, err
	}
	return buf.String(), warnings, nil
}

// provision does what "caddy validate" does.
func provision(config string) error {
	var cfg caddy.Config
	if err := caddy.StrictUnmarshalJSON([]byte(config), &cfg); err != nil {
		return err
	}
	return caddy.Validate(&cfg)
}

// TestExample holds Caddyfile.example formatted, free of warnings and valid,
// for every set of repositories that it can serve.
func TestExample(t *testing.T) {
	name := filepath.Join(testcaddy.Root(t), "Caddyfile.example")
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if w, different := caddyfile.FormattingDifference(name, data); different {
		t.Errorf("%v", w)
	}
	for _, from := range []string{"", "sample", "afs"} {
		t.Run(from, func(t *testing.T) {
			if from != "" {
				t.Setenv("MIRROR_FROM", from)
			}
			config, warnings, err := adapt(name, string(data))
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range warnings {
				t.Errorf("warning: %s", w)
			}
			if err := provision(config); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestReadme holds the Caddyfiles in the README to the same.
func TestReadme(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(testcaddy.Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "\n```caddyfile\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("no Caddyfile in the README")
	}
	for _, block := range blocks {
		input, _, _ := strings.Cut(block, "```\n")
		config, warnings, err := adapt("README.md", input)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range warnings {
			t.Errorf("warning: %s", w)
		}
		if err := provision(config); err != nil {
			t.Error(err)
		}
	}
}
