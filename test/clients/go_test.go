package clients

import (
	"testing"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
	"github.com/unifiedmirrors/mirror/test/testclients"
)

// TestGo downloads modules from the download directory of a module cache.
func TestGo(t *testing.T) {
	testcaddy.Need(t, "go")

	// Small ones; one of them has upper-case letters, which a proxy sees as !b and !s.
	m := testclients.NewGoModules(t, "github.com/google/uuid", "github.com/rs/xid", "github.com/Masterminds/goutils")
	coldWarmAway(t, m.Dir, m.Download)
}
