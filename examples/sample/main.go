// Command sample makes the small repositories that Caddyfile.example serves, so that
// a fresh machine has something to mirror:
//
//	sample [-o DIRECTORY] [wheels] [files]
//
// They are made and not checked in: the wheel can be read as source, and the
// tests make others with the same code. What is as it should be already is left alone.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
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
	tarball, err := archive("mirror-sample-1.0/hello.txt", hello)
	if err != nil {
		return err
	}
	return wheel.WriteFile(filepath.Join(dir, "releases", "mirror-sample-1.0.tar.gz"), tarball)
}

// archive is a compressed tar archive of one file.
func archive(name, data string) ([]byte, error) {
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	err := tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o644, ModTime: wheel.Time})
	if err == nil {
		_, err = tw.Write([]byte(data))
	}
	if err == nil {
		err = tw.Close()
	}
	if err == nil {
		err = gz.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("archiving %s: %w", name, err)
	}
	return buf.Bytes(), nil
}
