package wheels

import (
	"os"
	"path/filepath"
	"testing"
)

// TestPlace: a wheel appears as a whole, over what a killed run has left, and what is there
// stays.
func TestPlace(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "tree", "x", "x", "x-1-py3-none-any.whl")
	part := filepath.Join(filepath.Dir(to), ".x-1-py3-none-any.whl.part")
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	has := func(want string) {
		t.Helper()
		text, err := os.ReadFile(to)
		if err != nil || string(text) != want {
			t.Errorf("it is %q, %v", text, err)
		}
		if _, err := os.Stat(part); err == nil {
			t.Error("a part is left")
		}
	}
	write(from, "one")
	write(part, "something longer")
	if code := helperMain([]string{"place", from, to}); code != 0 {
		t.Fatal(code)
	}
	has("one")
	write(from, "two")
	if err := placeFile(from, to); err != nil {
		t.Fatal(err)
	}
	has("one")
	if err := os.Remove(to); err != nil {
		t.Fatal(err)
	}
	if err := placeFile(filepath.Join(dir, "missing"), to); err == nil {
		t.Error("what is missing is placed")
	}
	if names, err := os.ReadDir(filepath.Dir(to)); err != nil || len(names) > 0 {
		t.Errorf("%v, %v", names, err)
	}
	for _, args := range [][]string{nil, {"place"}, {"remove", from}, {"remove", filepath.Join(dir, "x.whl")}, {"x", from, to}} {
		if helperMain(args) == 0 {
			t.Errorf("%q is done", args)
		}
	}
	write(part, "x")
	if code := helperMain([]string{"remove", part}); code != 0 {
		t.Error(code)
	}
}
