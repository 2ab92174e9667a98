package mirrorcache

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// TestDiskEndsWithinARead: when the disk of the cache fails in the middle of a read, of
// which it has given a part, the rest comes from the origin.
func TestDiskEndsWithinARead(t *testing.T) {
	content := make([]byte, 3<<20)
	for n := range content {
		content[n] = byte(rand.Uint32())
	}
	tree := t.TempDir()
	write(t, tree, "f", content)
	for _, hurry := range []bool{false, true} {
		t.Run(fmt.Sprint("hurry ", hurry), func(t *testing.T) {
			s := newSite(t, mount("/t", "", tree))
			s.awaitScan(t)
			m := s.h.Mounts[0]
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			g, err := m.fetch(ctx, origin.Request{Name: "f"})
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			meta := g.src.meta(g.Info)
			fill, _ := m.cache.Open().Fill(m.key("f"))
			if err := fill.Start(meta, diskcache.Freshness{At: time.Now()}); err != nil {
				t.Fatal(err)
			}
			if _, err := fill.Write(content[:2<<20]); err != nil {
				t.Fatal(err)
			}
			temps, err := filepath.Glob(filepath.Join(s.dir, "tmp", "*"))
			if err != nil || len(temps) != 1 {
				t.Fatalf("temporary files: %q, %v", temps, err)
			}
			if err := os.Truncate(temps[0], 1<<20+1000); err != nil {
				t.Fatal(err)
			}
			fill.Fail(diskcache.ErrBypass)
			b := &body{m: m, key: "f", meta: meta, fill: fill, hurry: hurry}
			defer b.close()
			var got bytes.Buffer
			if n, err := b.copyRange(ctx, &got, 0, -1); err != nil || n != int64(len(content)) || !bytes.Equal(got.Bytes(), content) {
				t.Errorf("%d bytes of %d, %v; they are right: %v", n, len(content), err, bytes.HasPrefix(content, got.Bytes()))
			}
		})
	}
}
