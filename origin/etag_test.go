package origin

import (
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
