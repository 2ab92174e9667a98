package check

import (
	"fmt"
	"testing"
)

// TestWheelsBySimple: where a platform's index is below simple/, what the directory itself
// lists is no list of projects.
func TestWheelsBySimple(t *testing.T) {
	s := newSite(t)
	const dir, name = "laid/debian-12-x86_64/", "three-1.0-cp311-cp311-linux_x86_64.whl"
	whl := random("wheel", 20000)
	s.put(dir+"t/three/"+name, whl)
	s.put(dir+"simple/index.html", page(`<a href="three/">three</a>`))
	s.put(dir+"simple/three/index.html", page(fmt.Sprintf(`<a href="../../t/three/%s#sha256=%s">three</a>`, name, sum256(whl))))
	base := serve(t, s, both)
	for _, m := range []Mount{{Kind: Wheel, Path: "/laid"}, {Kind: Wheel, Path: "/laid", Names: []string{"debian-12-x86_64"}}, {Kind: Wheel, Path: "/laid/debian-12-x86_64"}} {
		r, faults := run(t, Options{URL: base, Mounts: []Mount{m}, All: true})
		if len(faults) > 0 {
			t.Errorf("%v: %v", m, faults)
		}
		if got := r.Mounts[0].Files; got < 1 {
			t.Errorf("%v: %d files are fetched", m, got)
		}
	}
	s.flip(dir + "t/three/" + name)
	if _, faults := run(t, Options{URL: base, Mounts: []Mount{{Kind: Wheel, Path: "/laid"}}}); len(faults) == 0 {
		t.Error("a byte is wrong, and nothing is found")
	}
}
