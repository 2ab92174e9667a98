package origin

import (
	"errors"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/panics"
)

func TestRecover(t *testing.T) {
	err := func() (err error) {
		defer Recover(nil, "test_origin", &err)
		panic("bad page")
	}()
	p, ok := errors.AsType[*panics.Error](err)
	if !ok || !errors.Is(err, ErrAway) || Class(err) != "away" || p.Place != "test_origin" {
		t.Errorf("got %v", err)
	}
}
