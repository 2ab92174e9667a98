package step

import (
	"fmt"
	"io"
	"os"

	"github.com/dustin/go-humanize"
)

const (
	// MaxConfig is how large a file may be that people write: configurations, keyrings.
	MaxConfig = 16 << 20

	// MaxState is how large a file may be that a step keeps from one run to the next, or
	// that a program of a step does.
	MaxState = 1 << 30
)

// ReadFile reads a file as [os.ReadFile] does, if it has no more than limit bytes. No more
// is read of one that grows, or of a device that has no end.
func ReadFile(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("reading %s: it is larger than %s", name, humanize.IBytes(uint64(limit)))
	}
	if err != nil {
		return nil, err
	}
	return text, nil
}
