package step

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "x")
	if _, err := ReadFile(name, 10); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for n, ok := range map[int]bool{0: true, 9: true, 10: true, 11: false, 1000: false} {
		if err := os.WriteFile(name, []byte(strings.Repeat("x", n)), 0o600); err != nil {
			t.Fatal(err)
		}
		text, err := ReadFile(name, 10)
		if (err == nil) != ok || ok && len(text) != n {
			t.Errorf("%d bytes: %d, %v", n, len(text), err)
		}
		if err != nil && (!strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "larger than 10 B")) {
			t.Error(err)
		}
	}
	if _, err := ReadFile("/dev/zero", MaxConfig); err == nil {
		t.Error("all of /dev/zero was read")
	}
}
