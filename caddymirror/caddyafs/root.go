package caddyafs

import (
	"errors"
	"fmt"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
)

// Scheme is what roots of trees in AFS begin with.
const Scheme = "afs://"

// ParseRoot reads where a tree begins:
//
//	afs://CELL/PATH         from the root of the cell
//	afs://CELL:VOLUME/PATH  from the root of a volume
func ParseRoot(s string) (afs.Root, error) {
	rest, ok := strings.CutPrefix(s, Scheme)
	if !ok {
		return afs.Root{}, errors.New("it does not begin with " + Scheme)
	}
	host, path, _ := strings.Cut(rest, "/")
	var r afs.Root
	var named bool
	r.Cell, r.Volume, named = strings.Cut(host, ":")
	r.Path = strings.Trim(path, "/")
	if named && r.Volume == "" {
		return r, errors.New("there is no volume after the colon")
	}
	if err := r.Validate(); err != nil {
		return r, fmt.Errorf("it should be %sCELL/PATH or %sCELL:VOLUME/PATH: %w", Scheme, Scheme, err)
	}
	return r, nil
}
