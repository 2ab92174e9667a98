package origin

import (
	"bytes"
	"cmp"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestETags: what was replaced has another ETag, even if size and mtime are the
// same.
func TestETags(t *testing.T) {
	root := t.TempDir()
	d := newDir(t, root)
	then := time.Now().Add(-time.Hour)
	put := func(name string, size int, at time.Time) (stat, open Info) {
		t.Helper()
		p := filepath.Join(root, name)
		if err := os.WriteFile(p+".new", make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p+".new", at, at); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(p+".new", p); err != nil {
			t.Fatal(err)
		}
		stat, err := d.Stat(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.Open(t.Context(), name, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		return stat, b.Info()
	}
	tag := func(i Info) string {
		if i.ETag == "" && i.Validator != "" {
			return ETagOf(i.Validator)
		}
		return i.ETag
	}
	for name, size := range map[string]int{"small": 100, "limit": smallFile, "large": smallFile + 1} {
		one, opened := put(name, size, then)
		two, _ := put(name, size, then)
		if tag(one) == "" || tag(one) != tag(opened) {
			t.Errorf("%s: ETag is %s by Stat, %s by Open", name, tag(one), tag(opened))
		}
		if tag(one) == tag(two) {
			t.Errorf("%s: two files have the ETag %s", name, tag(one))
		}
		if strings.Contains(tag(one), one.Validator) {
			t.Errorf("%s: ETag %s discloses the validator %s", name, tag(one), one.Validator)
		}
	}
	if racy, _ := put("large", smallFile+1, time.Now()); tag(racy) != "" {
		t.Errorf("a file that is being changed has the ETag %s", tag(racy))
	}
}

// TestInodeUsedAgain: a file that was removed leaves its inode number to the next one,
// on ext4 at once. Neither validator nor ETag takes the one for the other.
func TestInodeUsedAgain(t *testing.T) {
	for name, size := range map[string]int{"small": 100, "large": smallFile + 1} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			d := newDir(t, root)
			p := filepath.Join(root, name)
			then := time.Now().Add(-time.Hour)
			tags := map[string]int{}
			for n := range 4 {
				if err := os.WriteFile(p, bytes.Repeat([]byte{'0' + byte(n)}, size), 0o644); err != nil {
					t.Fatal(err)
				}
				if err := os.Chtimes(p, then, then); err != nil {
					t.Fatal(err)
				}
				i, err := d.Stat(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				tag := cmp.Or(i.ETag, i.Validator)
				if was, ok := tags[tag]; ok {
					t.Errorf("versions %d and %d are both %s", was, n, tag)
				}
				tags[tag] = n
				// A link changes nothing.
				if err := os.Link(p, p+".link"); err != nil {
					t.Fatal(err)
				}
				b, err := d.Open(t.Context(), name, 0)
				if err != nil {
					t.Fatal(err)
				}
				if got := b.Info(); got.Validator != i.Validator || got.ETag != i.ETag {
					t.Errorf("linked and opened it is %v, not %v", got, i)
				}
				b.Close()
				for _, gone := range []string{p, p + ".link"} {
					if err := os.Remove(gone); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(tick) // the clock of file times
			}
		})
	}
}
