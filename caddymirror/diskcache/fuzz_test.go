package diskcache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// encode is a whole file of an entry.
func encode(t testing.TB, key Key, m Meta, fresh Freshness, body []byte) []byte {
	t.Helper()
	line, err := encodeMeta(key, m)
	if err != nil {
		t.Fatal(err)
	}
	head := withRoom(line)
	var sums []uint32
	for n := range int(blocks(int64(len(body)))) {
		sums = append(sums, crc32.Checksum(blockOf(body, n), castagnoli))
	}
	file := append(encodeHeader(head, int64(len(body)), fresh), head...)
	return append(append(file, body...), encodeSums(sums)...)
}

// resum makes the checksums of a header and its metadata right, so that the
// fuzzer gets past them.
func resum(file []byte) []byte {
	if len(file) < headerLen {
		return file
	}
	file = bytes.Clone(file)
	if string(file[:len(magic)]) != magicV1 {
		copy(file, magic)
	}
	if n := int64(binary.BigEndian.Uint32(file[8:])); headerLen+n <= int64(len(file)) {
		binary.BigEndian.PutUint32(file[12:], crc32.Checksum(file[headerLen:headerLen+n], castagnoli))
	}
	binary.BigEndian.PutUint32(file[28:], crc32.Checksum(file[:28], castagnoli))
	return file
}

func FuzzReadContents(f *testing.F) {
	key := Key{"/pypi", "simple/x/"}
	meta := Meta{ModTime: time.Unix(1e9, 5).UTC(), Validator: `"v1"`, Header: map[string][]string{"Content-Type": {"text/html"}, "X": {"\xff", ""}}}
	whole := encode(f, key, meta, Freshness{At: time.UnixMilli(1e12), Release: 3}, random(3000, 1))
	f.Add(whole, false)
	f.Add(encode(f, Key{}, Meta{}, Freshness{}, nil), false)
	for _, name := range []string{"cmirror1", "cmirror1-bare"} {
		v1 := golden(f, name)
		f.Add(v1, false)
		f.Add(v1[:len(v1)-1], true)
	}
	f.Add(whole[:len(whole)-1], true)
	f.Add([]byte{}, false)
	for _, lie := range []struct {
		off int
		n   uint64
	}{{16, 1 << 62}, {16, 1<<64 - 1}, {16, 1<<63 - 1}, {16, 0}, {4, 1<<32 - 1}, {4, 1 << 20}, {4, 0}} {
		b := bytes.Clone(whole)
		binary.BigEndian.PutUint64(b[lie.off:], lie.n)
		f.Add(b, true)
	}
	f.Fuzz(func(t *testing.T, file []byte, resummed bool) {
		if resummed {
			file = resum(file)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c, err := readContents(bytes.NewReader(file), int64(len(file)))
		runtime.ReadMemStats(&after)
		// What it may cost is bounded by what is there, not by what it says.
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<10+uint64(len(file))*64 {
			t.Errorf("allocated %d bytes for a file of %d", n, len(file))
		}
		if err != nil {
			if !errors.Is(err, errCorrupt) {
				t.Errorf("error is of the disk, not of the file: %v", err)
			}
			return
		}
		body := c.meta.Size
		if body < 0 || c.bodyOff < headerLen || c.bodyOff+body+trailerLen(body) != int64(len(file)) || int64(len(c.sums)) != blocks(body) {
			t.Fatalf("body of %d at %d with %d sums in a file of %d", body, c.bodyOff, len(c.sums), len(file))
		}
	})
}

// TestEncoding writes what readContents has to read.
func TestEncoding(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 1000, blockSize - 1, blockSize, blockSize + 1, 3 * blockSize} {
		for _, long := range []int{0, 10, 900, 70_000} {
			key := Key{"/g", strings.Repeat("n", long)}
			meta := Meta{Size: int64(size), ModTime: time.Unix(1e9, 123456789).UTC(), Validator: "v", Header: map[string][]string{"A": {"b"}}}
			fresh := Freshness{At: time.UnixMilli(1e12), Release: 1<<64 - 1}
			file := encode(t, key, meta, fresh, random(size, 1))
			c, err := readContents(bytes.NewReader(file), int64(len(file)))
			if err != nil {
				t.Fatalf("size %d: %v", size, err)
			}
			if c.meta.Key != key || !reflect.DeepEqual(c.meta.Meta, meta) || c.fresh != fresh {
				t.Errorf("size %d: got %+v, %+v", size, c.meta, c.fresh)
			}
		}
	}
	// What is encoded can be read, up to the last byte.
	for n := range 60 {
		key := Key{"/g", strings.Repeat("n", maxMeta-n)}
		line, err := encodeMeta(key, Meta{})
		if err != nil {
			continue
		}
		if n == 0 {
			t.Error("encoded metadata that nobody would read")
		}
		head := withRoom(line)
		file := slices.Concat(encodeHeader(head, 0, Freshness{}), head, encodeSums(nil))
		if _, err := readContents(bytes.NewReader(file), int64(len(file))); err != nil {
			t.Errorf("metadata of %d bytes: %v", len(head), err)
		}
	}
}

func FuzzParseName(f *testing.F) {
	f.Add(fileName(key(1).id(), 7)[3:])
	f.Add("")
	f.Add(strings.Repeat("v", idLen) + ".ffffffff")
	f.Add(strings.Repeat("0", idLen) + ".FFFFFFFF")
	f.Add(strings.Repeat("\n", idLen) + ".00000000")
	f.Fuzz(func(t *testing.T, name string) {
		i, group, ok := parseName(name)
		if !ok {
			return
		}
		// One file, one name.
		if want := shardName(shardOf(i)) + "/" + name; fileName(i, group) != want {
			t.Errorf("%q parses, but is written %q", want, fileName(i, group))
		}
	})
}

func FuzzText(f *testing.F) {
	for _, s := range []string{"", "a", "\xff", quoteMark, quoteMark + `"x"`, "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := fromUTF8(toUTF8(s)); got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int64{"0": 0, "4096": 4096, "50GB": 50e9, "64MiB": 64 << 20, "1.5k": 1500} {
		if got, err := ParseSize(in); got != want || err != nil {
			t.Errorf("%s: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "x", "-1", "10XB", "99999999999GB", "1e400", "NaN"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%s: %d", in, got)
		}
	}
	for in, want := range map[string]Free{"0%": {}, "2%": {Percent: 2}, "0.5%": {Percent: .5}, "10GiB": {Bytes: 10 << 30}} {
		if got, err := ParseFree(in); got != want || err != nil {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
		b, _ := want.MarshalText()
		var again Free
		if err := again.UnmarshalText(b); again != want || err != nil {
			t.Errorf("%s: %s, %v", in, b, err)
		}
	}
	for _, in := range []string{"100%", "-1%", "%", "x%", "NaN%", "Inf%", "1e400%", "-5", ""} {
		if got, err := ParseFree(in); err == nil {
			t.Errorf("%s: %+v", in, got)
		}
	}
}
