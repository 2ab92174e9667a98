package main

import (
	"context"
	"fmt"
	"io/fs"
	"testing/fstest"
	"time"

	"github.com/unifiedmirrors/mirror/test/afscell/cell"
)

// demo is what up puts into the volumes of the cell.
var demo = map[string]fstest.MapFS{
	"mirror": {
		"README": file("The volume mirror. In pypi another one is mounted.\n"),
	},
	"mirror.pypi": {
		"simple/index.html":                 file("<!DOCTYPE html>\n<a href=\"/pypi/simple/sampleproject/\">sampleproject</a>\n"),
		"simple/sampleproject/index.html":   file("<!DOCTYPE html>\n<a href=\"/pypi/packages/sampleproject-1.0.tar.gz\">sampleproject-1.0.tar.gz</a>\n"),
		"packages/sampleproject-1.0.tar.gz": file("not really an archive\n"),
		"packages/latest.tar.gz":            link("sampleproject-1.0.tar.gz"),
	},
}

func file(text string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(text), Mode: 0o644, ModTime: demoTime}
}

func link(target string) *fstest.MapFile {
	f := file(target)
	f.Mode = 0o777 | fs.ModeSymlink
	return f
}

var demoTime = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// fill makes the volumes: root.cell, mirror in it and mirror.pypi in that, with a
// read-only copy of each at both file servers.
func fill(ctx context.Context, c *cell.Cell) error {
	root, err := c.Open(ctx, "root.cell")
	if err != nil {
		return err
	}
	for name, tree := range demo {
		v, err := c.CreateVolume(ctx, name, c.FS1, "a")
		if err != nil {
			return err
		}
		if err := v.WriteTree(ctx, tree, "."); err != nil {
			return err
		}
	}
	mirror, err := c.Open(ctx, "mirror")
	if err != nil {
		return err
	}
	if err := mirror.Mount(ctx, "pypi", "mirror.pypi"); err != nil {
		return err
	}
	if err := root.Mount(ctx, "mirror", "mirror"); err != nil {
		return err
	}
	return publish(ctx, c, "root.cell", "mirror", "mirror.pypi")
}

func publish(ctx context.Context, c *cell.Cell, volumes ...string) error {
	for _, v := range volumes {
		for _, h := range []*cell.Host{c.FS1, c.FS2} {
			if err := c.AddSite(ctx, v, h, "a"); err != nil {
				return err
			}
		}
	}
	// Each takes six seconds, most of which vos sleeps.
	return cell.Each(volumes, func(v string) error { return c.Release(ctx, v) })
}

// describe says how to use the cell.
func describe(c *cell.Cell) {
	fmt.Printf(`The cell %[1]s is up. Its file server fs1 has the read-write volumes root.cell,
mirror and mirror.pypi; fs1 and fs2 have read-only copies. Anyone may read and write.

CellServDB:

%[2]s
Caddyfile:

	{
		afs {
			cell %[1]s %[3]s
		}
	}
	:8080 {
		mirror_cache {
			mount /pypi afs://%[1]s/mirror/pypi
		}
	}

Look at it:

	caddy afs ls --server %[3]s afs://%[1]s/mirror
	caddy afs volume --server %[3]s %[1]s mirror.pypi

Change and publish something:

	go run ./test/afscell write mirror.pypi packages DIRECTORY
	go run ./test/afscell vos release mirror.pypi

Database server %[3]s, file servers %[4]s and %[5]s.
All files are in %[6]s.
go run ./test/afscell without arguments shows what else there is; down ends it.
`, c.Name, c.CellServDB(), c.DB.Addr, c.FS1.Addr, c.FS2.Addr, c.Dir)
}
