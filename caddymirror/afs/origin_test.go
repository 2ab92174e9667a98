package afs_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/origin/origintest"
)

// TestOriginConforms runs the suite of all origins on a tree in AFS.
func TestOriginConforms(t *testing.T) {
	origintest.Run(t, func(t *testing.T) *origintest.Tree {
		cell := afs.NewFakeCell(t)
		app, err := json.Marshal(map[string]any{"cells": map[string][]string{cell.Name: cell.Locators}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, err := caddy.ProvisionContext(&caddy.Config{AppsRaw: caddy.ModuleMap{"afs": app}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := caddy.NewContext(ctx)
		t.Cleanup(cancel)
		mod, err := ctx.LoadModuleByID("mirror.origins.afs", []byte(`{"root": "afs://`+cell.Name+`/", "release_check": "20ms"}`))
		if err != nil {
			t.Fatal(err)
		}
		o := mod.(origin.Tree)
		noticed := func(t testing.TB, date uint32) {
			t.Helper()
			for end := time.Now().Add(10 * time.Second); !strings.HasSuffix(o.Release(t.Context()).Token, fmt.Sprint("@", date)); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("the release is not noticed: %+v", o.Status())
				}
			}
		}
		return &origintest.Tree{
			Tree:     o,
			Put:      func(t testing.TB, files map[string][]byte) { noticed(t, cell.Put(files)) },
			Twin:     func(t testing.TB, name string, body []byte) { noticed(t, cell.Twin(name, body)) },
			Releases: true,
		}
	})
}
