// Package upstreams has the mirror in front of real HTTP upstreams, with real clients
// before it, and of upstreams that are broken on purpose.
package upstreams

import (
	"flag"
	"os"
	"testing"
)

// TestMain has many tests run at once, however few cores there are: they wait most of the
// time.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "12"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}
