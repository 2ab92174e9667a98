package diskcache

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// Limits bound a cache. They can be changed while it runs, see [Cache.Resize].
type Limits struct {
	// MaxSize is the most bytes that the cache has on disk, counted in
	// allocated blocks. It must be at least 1 MiB. The cache keeps below it by
	// a 512th, 64 KiB to 4 MiB, which is for what a file system adds for itself
	// while it writes files back.
	MaxSize int64

	// MinFree is what the cache leaves free on its file system, whoever uses
	// the rest.
	MinFree Free

	// MaxObject is the largest body that is cached. 0 means no limit but
	// MaxSize.
	MaxObject int64

	// Memory is the most bytes of bodies, with metadata, that are held in
	// memory. Objects of up to a 64th of it, and of at most 1 MiB, are. 0 means
	// none.
	Memory int64

	// Fills is how many fills run at a time; of one group three quarters of
	// these at most. 0 means [DefaultFills].
	Fills int
}

const minMaxSize = 1 << 20

// Validate reports what is wrong with the limits.
func (l Limits) Validate() error {
	switch {
	case l.MaxSize < minMaxSize:
		return fmt.Errorf("maximum size of %d bytes is less than %s", l.MaxSize, humanize.IBytes(minMaxSize))
	case l.MaxObject < 0:
		return errors.New("maximum object size is negative")
	case l.Memory < 0:
		return errors.New("memory is negative")
	case l.Fills < 0:
		return errors.New("number of fills is negative")
	}
	return l.MinFree.validate()
}

func (l Limits) maxObject() int64 {
	if l.MaxObject == 0 {
		return l.MaxSize
	}
	return min(l.MaxObject, l.MaxSize)
}

// Free is an amount of disk space: bytes, or percent of the file system.
type Free struct {
	Bytes   int64
	Percent float64
}

func (f Free) validate() error {
	if f.Bytes < 0 || !(f.Percent >= 0 && f.Percent < 100) {
		return fmt.Errorf("free space of %s: want bytes, or from 0%% to less than 100%%", f)
	}
	return nil
}

// of is the bytes to leave free on a file system of this size.
func (f Free) of(total int64) int64 {
	return max(f.Bytes, int64(f.Percent/100*float64(total)))
}

func (f Free) String() string {
	if f.Percent != 0 {
		return strconv.FormatFloat(f.Percent, 'f', -1, 64) + "%"
	}
	return strconv.FormatInt(f.Bytes, 10)
}

// ParseFree parses "5%" or a size such as "10GiB".
func ParseFree(s string) (Free, error) {
	if p, ok := strings.CutSuffix(s, "%"); ok {
		v, err := strconv.ParseFloat(p, 64)
		if err != nil {
			return Free{}, fmt.Errorf("%q is not a percentage", s)
		}
		f := Free{Percent: v}
		return f, f.validate()
	}
	n, err := ParseSize(s)
	return Free{Bytes: n}, err
}

// ParseSize parses a size as go-humanize does ("50GB", "64MiB", "4096"), and
// refuses what does not fit.
func ParseSize(s string) (int64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size such as 50GB or 64MiB", s)
	}
	if n > 1<<62 {
		return 0, fmt.Errorf("size %q is too large", s)
	}
	return int64(n), nil
}

// MarshalText writes what ParseFree reads.
func (f Free) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText is ParseFree.
func (f *Free) UnmarshalText(b []byte) error {
	v, err := ParseFree(string(b))
	if err != nil {
		return err
	}
	*f = v
	return nil
}
