package step

import (
	"fmt"
	"slices"
	"testing"
)

func TestChanges(t *testing.T) {
	var c Changes
	if names, more := c.Names(); len(names) > 0 || more > 0 || c.Count() > 0 {
		t.Errorf("none are %q and %d more", names, more)
	}
	for _, name := range []string{"b", "a", "b"} {
		c.Add(name)
	}
	if names, more := c.Names(); !slices.Equal(names, []string{"a", "b"}) || more > 0 || c.Count() != 2 {
		t.Errorf("two are %q and %d more", names, more)
	}
	for n := range MaxChanges {
		c.Add(fmt.Sprint(n))
	}
	c.Add("a")
	if names, more := c.Names(); len(names) != MaxChanges || more != 2 || c.Count() != MaxChanges+2 {
		t.Errorf("many are %d and %d more", len(names), more)
	}
}
