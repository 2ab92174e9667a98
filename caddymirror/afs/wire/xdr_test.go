package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// unhex reads bytes as people write them, in groups, with comments after "//".
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(s) {
		line, _, _ = strings.Cut(line, "//")
		for f := range strings.FieldsSeq(line) {
			digits.WriteString(f)
		}
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func words(n int) string { return strings.Repeat("00000000 ", n) }

func equalBytes(t *testing.T, name string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s is\n%s, want\n%s", name, hex.Dump(got), hex.Dump(want))
	}
}

// malformed wants a FormatError whose text has the words.
func malformed(t *testing.T, err error, words ...string) {
	t.Helper()
	if _, ok := errors.AsType[*FormatError](err); !ok {
		t.Errorf("error is %v, want a FormatError", err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error is %q, and does not say %q", err, w)
		}
	}
}

// cuts decodes every beginning of a good reply, and the reply with more behind it:
// none is good.
func cuts(t *testing.T, b []byte, decode func([]byte) error) {
	t.Helper()
	if err := decode(b); err != nil {
		t.Fatalf("whole: %v", err)
	}
	for n := range b {
		if decode(b[:n:n]) == nil {
			t.Errorf("no error with %d of %d bytes", n, len(b))
		}
	}
	for _, n := range []int{1, 4, 120} {
		if decode(append(bytes.Clone(b), make([]byte, n)...)) == nil {
			t.Errorf("no error with %d bytes more", n)
		}
	}
}

func TestOpaque(t *testing.T) {
	for _, s := range []string{"", "a", "ab", "abc", "abcd", "abcde"} {
		b := appendString(nil, s)
		if len(b)%4 != 0 || len(b) < 4+len(s) || len(b) > 7+len(s) {
			t.Errorf("%q takes %d bytes", s, len(b))
		}
		d := decoder{what: "string", b: b}
		if got := d.str(5); got != s || d.end() != nil {
			t.Errorf("%q becomes %q, %v", s, got, d.end())
		}
	}

	d := decoder{what: "string", b: unhex(t, "00000006 61626364 65660000")}
	d.str(5)
	malformed(t, d.end(), "string", "6", "at most 5")

	d = decoder{what: "string", b: unhex(t, "ffffffff 61626364")}
	d.str(1<<32 - 1)
	malformed(t, d.end(), "4294967295", "4 bytes left")

	// The padding is missing.
	d = decoder{what: "string", b: unhex(t, "00000003 616263")}
	d.str(5)
	malformed(t, d.end(), "cut short", "1 missing")
}

func TestFirstErrorStays(t *testing.T) {
	d := decoder{what: "thing", b: make([]byte, 4)}
	d.u64()
	d.fail("another problem")
	malformed(t, d.end(), "malformed thing: cut short: 4 bytes, 4 missing")
	if d.u32() != 0 {
		t.Error("reads on after an error")
	}
}

func TestUUID(t *testing.T) {
	u := UUID(unhex(t, "00112233 4455 4677 83 99 aa 7b cc 0d ee ff"))
	if got := u.String(); got != "00112233-4455-4677-8399-aa7bcc0deeff" {
		t.Errorf("UUID is %s", got)
	}
	encoded := unhex(t, `
		00112233 00004455 00004677
		ffffff83 ffffff99
		ffffffaa 0000007b ffffffcc 0000000d ffffffee ffffffff`)
	equalBytes(t, "encoded UUID", appendUUID(nil, u), encoded)

	d := decoder{b: encoded}
	if got := d.uuid(); got != u || d.end() != nil {
		t.Errorf("decoded UUID is %v, %v", got, d.end())
	}

	// Some do not extend the signs.
	for i := 12; i < len(encoded); i += 4 {
		copy(encoded[i:], []byte{0, 0, 0})
	}
	d = decoder{b: encoded}
	if got := d.uuid(); got != u || d.end() != nil {
		t.Errorf("decoded UUID without signs is %v, %v", got, d.end())
	}

	a, b := NewUUID(), NewUUID()
	if a == b || a.IsZero() || !(UUID{}).IsZero() {
		t.Errorf("new UUIDs are %v and %v", a, b)
	}
	if s := a.String(); s[14] != '4' || !strings.Contains("89ab", s[19:20]) {
		t.Errorf("%s is of no version 4", s)
	}
}
