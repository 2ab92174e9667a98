package wheelindex

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"

	"github.com/klauspost/compress/zstd"
)

// A fact is what was found out of a file by reading it.
type fact struct {
	// Validator is that of the file: it is the identity of what was read.
	Validator string `json:"validator"`

	// SHA256 is the checksum of the file, and MetadataSHA256 that of a wheel's METADATA.
	SHA256         string `json:"sha256,omitempty"`
	MetadataSHA256 string `json:"metadata_sha256,omitempty"`

	RequiresPython string `json:"requires_python,omitempty"`

	// Reason is why the file is left out, empty if it is not.
	Reason string `json:"reason,omitempty"`

	passing bool // it may be otherwise the next time, and is not kept
	other   bool // the file was another one: nothing is known until it is listed again
}

// factName is the name of what is kept of a file. Its first part is the version of what
// is found out and how it is written: others are not understood.
func factName(path string) string { return "1/" + path }

// maxUnpacked bounds METADATA as it is kept.
const maxUnpacked = 4 << 20

var (
	packer, _   = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	unpacker, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpacked), zstd.WithDecoderLowmem(true))
)

// encode returns a fact as it is kept: a line of JSON, and METADATA, compressed.
func (k *fact) encode(metadata []byte) []byte {
	line, _ := json.Marshal(k) // of strings
	line = append(line, '\n')
	if metadata == nil {
		return line
	}
	return packer.EncodeAll(metadata, line)
}

var errFact = errors.New("is no fact")

// decodeFact reads a fact. metadata are read only if they are asked for.
func decodeFact(b []byte, withMetadata bool) (k *fact, metadata []byte, err error) {
	line, packed, ok := bytes.Cut(b, []byte("\n"))
	k = new(fact)
	if !ok || json.Unmarshal(line, k) != nil {
		return nil, nil, errFact
	}
	if k.Reason == "" && len(k.SHA256) != 2*sha256.Size {
		return nil, nil, errFact
	}
	if !withMetadata || k.MetadataSHA256 == "" {
		return k, nil, nil
	}
	if metadata, err = unpacker.DecodeAll(packed, nil); err != nil {
		return nil, nil, errFact
	}
	if sum := sha256.Sum256(metadata); hex.EncodeToString(sum[:]) != k.MetadataSHA256 {
		return nil, nil, errFact
	}
	return k, metadata, nil
}
