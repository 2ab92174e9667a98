package digest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// The checksums of "abc" (FIPS 180-4 and RFC 1321 have them as examples).
var abc = map[string]string{
	"md5":    "900150983cd24fb0d6963f7d28e17f72",
	"sha1":   "a9993e364706816aba3e25717850c26c9cd0d89d",
	"sha224": "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
	"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
	"sha384": "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
	"sha512": "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
}

func TestDigest(t *testing.T) {
	if len(abc) != len(Kinds) {
		t.Errorf("%d kinds", len(Kinds))
	}
	for _, kind := range Kinds {
		want, err := Parse(kind, abc[kind])
		if err != nil || want.Kind != kind {
			t.Errorf("%s: %v, %v", kind, want, err)
		}
		if upper, err := Parse(kind, strings.ToUpper(abc[kind])); err != nil || upper != want {
			t.Errorf("%s in upper case: %v, %v", kind, upper, err)
		}
		if got, err := Of(t.Context(), strings.NewReader("abc"), kind); err != nil || got != want {
			t.Errorf("%s: %v, %v", kind, got, err)
		}
		for _, text := range []string{"", "x", abc[kind][2:], abc[kind] + "00", "0x" + abc[kind][2:]} {
			if got, err := Parse(kind, text); !fault.Is(err) || got != (Digest{}) {
				t.Errorf("%s %q: %v, %v", kind, text, got, err)
			}
		}
	}
	if _, err := Parse("crc32", "00000000"); !fault.Is(err) || !strings.Contains(err.Error(), "unknown kind, crc32") {
		t.Error(err)
	}
	a, b := Digest{"md5", "\x00\x01"}, Digest{"md5", "\x00\x02"}
	if err := Differ(a, b, "Release"); err.Error() != "its md5 is 0001, Release says 0002" {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Of(ctx, strings.NewReader("abc"), "md5"); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
