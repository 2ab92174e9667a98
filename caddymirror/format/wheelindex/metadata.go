package wheelindex

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
)

// metadata is METADATA of the wheel that a name with `.metadata` at its end stands for
// (PEP 658); ok is false if there is no such wheel.
func (x *Index) metadata(ctx context.Context, name string) (b *blob, ok bool, err error) {
	file, ok := strings.CutSuffix(name, ".metadata")
	if !ok || !strings.HasSuffix(file, ".whl") {
		return nil, false, nil
	}
	info, err := x.from.Stat(ctx, file)
	if errors.Is(err, fs.ErrNotExist) {
		if file, ok = x.alias(ctx, file); !ok {
			return nil, false, nil
		}
		info, err = x.from.Stat(ctx, file)
	}
	switch {
	case err != nil:
	case info.Dir:
		err = fs.ErrNotExist
	case info.Validator == "":
		err = origin.ErrNotYet // it was changed just now
	}
	b = &blob{info: origin.Info{Name: path.Base(name), ModTime: info.ModTime}}
	if err != nil {
		return b, true, err
	}
	if b.bytes, err = x.metadataOf(ctx, file, info); err != nil {
		return b, true, err
	}
	b.info.Size, b.info.Validator = int64(len(b.bytes)), sumOf(b.bytes)
	return b, true, nil
}

// metadataOf is METADATA of a wheel as it is kept, or read from the wheel.
func (x *Index) metadataOf(ctx context.Context, file string, info origin.Info) ([]byte, error) {
	if kept, ok := x.conf.Facts.Get(factName(file)); ok {
		k, metadata, err := decodeFact(kept, true)
		switch {
		case err != nil || k.Validator != info.Validator:
		case k.Reason != "":
			return nil, fmt.Errorf("%w: %s %s", fs.ErrNotExist, file, k.Reason)
		case k.MetadataSHA256 != "":
			return metadata, nil
		}
	}
	open := x.opener(ctx, file, info, func() bool { return true })
	w, err := wheel.OpenFrom(ctx, path.Base(file), info.Size, open)
	switch {
	case fault.Is(err):
		return nil, fmt.Errorf("%w: %s %v", fs.ErrNotExist, file, err)
	case errors.Is(err, errOther):
		return nil, fmt.Errorf("%w: %v", origin.ErrAway, err)
	case err != nil:
		return nil, err
	}
	return w.Metadata.Bytes, nil
}

func errOffset(name string, offset int64) error {
	return fmt.Errorf("open %q at %d: %w", name, offset, fs.ErrInvalid)
}
