package diskcache

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"
)

// golden is a file under testdata.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// place puts a file where the entry of a key is looked for.
func place(t testing.TB, dir string, key Key, file []byte) string {
	t.Helper()
	path := fileOf(dir, key)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestVersion1 reads files that the first version of this package wrote.
func TestVersion1(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		key  Key
		meta Meta
		body string
	}{
		"cmirror1-bare": {key: Key{"/g", "bare"}},
		"cmirror1": {
			key: Key{"/g", "caf\xe9.tar"},
			meta: Meta{
				Size: 20, ModTime: time.Unix(1e9, 123456789).UTC(), DateWeak: true, Validator: "v\xe9",
				Header: map[string][]string{"Etag": {`"x"`}, "X-Latin": {"\xe9"}, "X-Mark": {"\uFFFDa"}, "X-Empty": {""}},
			},
			body: "The object's bytes.\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := place(t, dir, want.key, golden(t, name))
			c := open(t, dir, Limits{MaxSize: 64 << 20})
			e, ok := c.Get(want.key)
			if !ok {
				t.Fatalf("not found; %+v", c.Stats())
			}
			body, err := io.ReadAll(io.NewSectionReader(e, 0, 1<<20))
			if string(body) != want.body || err != nil {
				t.Errorf("body %q, %v", body, err)
			}
			if fresh := (Freshness{time.UnixMilli(1e12), 7}); !reflect.DeepEqual(*e.Meta(), want.meta) || e.Fresh() != fresh {
				t.Errorf("got %+v, %+v", *e.Meta(), e.Fresh())
			}
			// A validation leaves a file of the version that it is of.
			later := Freshness{time.UnixMilli(2e12), 8}
			e.Refresh(later)
			e.Close()
			c.Close()
			if file, err := os.ReadFile(path); err != nil || !bytes.HasPrefix(file, []byte(magicV1)) {
				t.Errorf("it begins with %q, %v", file[:min(len(file), 8)], err)
			}
			c = open(t, dir, Limits{MaxSize: 64 << 20})
			if e, ok = c.Get(want.key); !ok {
				t.Fatalf("not found after a validation; %+v", c.Stats())
			}
			defer e.Close()
			if !reflect.DeepEqual(*e.Meta(), want.meta) || e.Fresh() != later {
				t.Errorf("after a validation %+v, %+v", *e.Meta(), e.Fresh())
			}
		})
	}
}
