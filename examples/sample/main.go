// Command sample makes the small repositories that Caddyfile.example serves, so that
// a fresh machine has something to mirror:
//
//	sample [-o DIRECTORY] [wheels] [files]
//
// They are made and not checked in: the wheel can be read as source, and the
// tests make others with the same code. What is as it should be already is left alone.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/unifiedmirrors/mirror/examples/sample/wheel"
)

func main() {
	out := flag.String("o", "bin/sample/rw", "`directory` to write the repositories to")
	flag.Parse()
	names := flag.Args()
	if len(names) == 0 {
		names = []string{"wheels", "files"}
	}
	for _, name := range names {
		if err := write(filepath.Join(*out, name), name); err != nil {
			fmt.Fprintln(os.Stderr, "sample:", err)
			os.Exit(1)
		}
	}
}

// write makes one of the repositories.
func write(dir, name string) error {
	switch name {
	case "wheels":
		return writeWheels(dir)
	case "files":
		return writeFiles(dir)
	}
	return fmt.Errorf("there is no repository %q", name)
}

const hello = "Hello from the mirror.\n"

const module = `"""A package to try a mirror with."""


def hello():
    return "Hello from the mirror."


if __name__ == "__main__":
    print(hello())
`

func writeWheels(dir string) error {
	return wheel.WriteIndex(dir, wheel.Wheel{
		Name:    "mirror-sample",
		Version: "1.0",
		Summary: "A package to try a mirror with",
		Files:   map[string]string{"mirror_sample.py": module},
	})
}

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
