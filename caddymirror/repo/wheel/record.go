package wheel

import (
	"context"
	"encoding/base64"
	"encoding/csv"
	"hash"
	"io"
	"strconv"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/bounded"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// Verify reads the whole wheel, and compares it with its RECORD: each file has to be in
// that, with its right size, and a right checksum that is sha256 or better, and nothing
// else may be. Signatures of RECORD are not looked at.
//
// Errors are as those of [Open].
func (w *Wheel) Verify(ctx context.Context) error {
	record := w.info + "/RECORD"
	b, err := w.read(record, maxRecord)
	if err != nil {
		return err
	}
	listed := make(map[string]bool, len(w.files))
	in := csv.NewReader(strings.NewReader(string(b)))
	in.FieldsPerRecord, in.ReuseRecord = 3, true
	buf := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, err := in.Read()
		if err == io.EOF {
			break
		}
		if err != nil {
			return fault.Errorf("has a RECORD that can not be read: %v", err)
		}
		name := strings.Clone(line[0])
		if listed[name] {
			return fault.Errorf("has %s in its RECORD twice", fault.Show(name))
		}
		listed[name] = true
		if name == record || name == record+".jws" || name == record+".p7s" {
			continue
		}
		if err := w.verify(ctx, name, line[1], line[2], buf); err != nil {
			return err
		}
	}
	for _, name := range w.names {
		if !listed[name] && name != record && name != record+".jws" && name != record+".p7s" {
			return fault.Errorf("has %s in it, but not in its RECORD", fault.Show(name))
		}
	}
	return nil
}

// verify compares a file with what RECORD has of it.
func (w *Wheel) verify(ctx context.Context, name, sum, size string, buf []byte) error {
	f, ok := w.files[name]
	if !ok {
		return fault.Errorf("has %s in its RECORD, but not in it", fault.Show(name))
	}
	kind, want, _ := strings.Cut(sum, "=")
	h := newHash(kind)
	if h == nil {
		return fault.Errorf("has %s in its RECORD for the checksum of %s; it has to be sha256 or better", fault.Show(sum), fault.Show(name))
	}
	if size != "" && size != strconv.FormatUint(f.UncompressedSize64, 10) {
		return fault.Errorf("has %s in it with %d bytes; its RECORD says %s", fault.Show(name), f.UncompressedSize64, fault.Show(size))
	}
	r, err := w.open(f)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := io.CopyBuffer(h, bounded.WithContext(ctx, r), buf); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return w.in.fault(err)
	}
	if got := base64.RawURLEncoding.EncodeToString(h.Sum(nil)); got != strings.TrimRight(want, "=") {
		return fault.Errorf("has %s in it with the %s %s; its RECORD says %s", fault.Show(name), kind, got, fault.Show(want))
	}
	return nil
}

// newHash returns what computes checksums of a kind that RECORD may have; nil if it is none.
func newHash(kind string) hash.Hash {
	switch kind = strings.ToLower(kind); kind {
	case "sha256", "sha384", "sha512":
		return digest.NewHash(kind)
	}
	return nil
}
