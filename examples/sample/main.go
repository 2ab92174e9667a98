// Command sample makes the small repositories that Caddyfile.example releases and serves,
// so that a fresh machine has something to mirror:
//
//	sample [-o DIRECTORY] [pypi] [wheel] [files]
//
// They are made and not checked in: the packages can be read as source, and the tests make
// others with the same code. What is as it should be already is left alone.
//
// Without names it makes all that a host can have before its jobs have run: not the wheel
// that they build, but a file of constraints, beside DIRECTORY, that names it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
)

func main() {
	out := flag.String("o", "bin/sample/rw", "`directory` to write the repositories to")
	flag.Parse()
	err := run(*out, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "sample:", err)
		os.Exit(1)
	}
}

func run(out string, names []string) error {
	if len(names) == 0 {
		names = []string{"pypi", "files"}
		if err := os.MkdirAll(filepath.Join(out, "wheel"), 0o755); err != nil {
			return err
		}
		if err := wheel.WriteFile(filepath.Join(out, "../upper-constraints.txt"), []byte(constraints)); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := write(filepath.Join(out, name), name); err != nil {
			return err
		}
	}
	return nil
}

// write makes one of the repositories.
func write(dir, name string) error {
	switch name {
	case "pypi":
		return wheel.Bandersnatch{Dir: dir, Serial: 1}.Write(app, words, source.Sdist())
	case "wheel":
		return writeWheel(dir)
	case "files":
		return writeFiles(dir)
	}
	return fmt.Errorf("there is no repository %q", name)
}

// The packages: an application, what it needs, and what it needs of which PyPI has only the
// source.
var (
	app = wheel.Wheel{
		Name: "mirror-sample", Version: "1.0", Summary: "A package to try a mirror with",
		Requires: []string{"mirror-sample-words", "mirror-sample-source"},
		Files:    map[string]string{"mirror_sample.py": module},
	}
	words = wheel.Wheel{
		Name: "mirror-sample-words", Version: "1.0", Summary: "Words for mirror-sample",
		Files: map[string]string{"mirror_sample_words.py": "greeting = \"Hello from\"\n"},
	}
	source = wheel.Wheel{
		Name: "mirror-sample-source", Version: "1.0", Summary: "A package that wheels are built of",
		Files: map[string]string{"mirror_sample_source.py": "name = \"the mirror\"\n"},
	}
)

const module = `"""A package to try a mirror with."""

from mirror_sample_source import name
from mirror_sample_words import greeting


def hello():
    return greeting + " " + name + "."


if __name__ == "__main__":
    print(hello())
`

// constraints are what the job wheel builds: what PyPI has a wheel of it leaves out.
const constraints = `mirror-sample===1.0
mirror-sample-words===1.0
mirror-sample-source===1.0
`

// writeWheel makes the wheel that the job builds, for hosts that have no Python.
func writeWheel(dir string) error {
	d, err := source.Dist()
	if err != nil {
		return err
	}
	arch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	if arch == "" {
		arch = runtime.GOARCH
	}
	project := d.Project()
	return wheel.WriteFile(filepath.Join(dir, "sample-1-"+arch, project[:1], project, d.Filename), d.Data)
}

const hello = "Hello from the mirror.\n"

func writeFiles(dir string) error {
	if err := wheel.WriteFile(filepath.Join(dir, "hello.txt"), []byte(hello)); err != nil {
		return err
	}
	tarball, err := wheel.Tarball("mirror-sample-1.0", map[string]string{"hello.txt": hello})
	if err != nil {
		return err
	}
	return wheel.WriteFile(filepath.Join(dir, "releases", "mirror-sample-1.0.tar.gz"), tarball)
}
