package mirror

import (
	"strings"
	"testing"
)

// fakeMount counts what it is asked.
type fakeMount struct {
	purges   []string
	statuses int
}

func (m *fakeMount) Status() MountStatus {
	m.statuses++
	return MountStatus{}
}

func (m *fakeMount) Purge(path, prefix string) (int, error) {
	m.purges = append(m.purges, path+"|"+prefix)
	return 2, nil
}

// TestPurge asks the mounts of one prefix, and no mount for its status: that counts
// entries and asks origins.
func TestPurge(t *testing.T) {
	app := new(App)
	var a, b, other, root fakeMount
	app.AddMount("/pypi", &a)
	app.AddMount("/pypi", &b) // of another site
	app.AddMount("/pypi2", &other)
	app.AddMount("/", &root)
	for _, mount := range []string{"/pypi", "/pypi/"} {
		if n, err := app.Purge(mount, "/x", ""); n != 4 || err != nil {
			t.Errorf("purging %s: %d, %v", mount, n, err)
		}
	}
	if n, err := app.Purge("/", "", "/y"); n != 2 || err != nil {
		t.Errorf("purging the root: %d, %v", n, err)
	}
	if _, err := app.Purge("/nope", "", ""); err == nil || !strings.Contains(err.Error(), "/nope") {
		t.Errorf("purging a mount that is not there: %v", err)
	}
	if len(a.purges) != 2 || len(b.purges) != 2 || len(other.purges) != 0 || len(root.purges) != 1 || root.purges[0] != "|/y" {
		t.Errorf("purged %v %v %v %v", a.purges, b.purges, other.purges, root.purges)
	}
	if n := a.statuses + b.statuses + other.statuses + root.statuses; n != 0 {
		t.Errorf("a purge asks for %d statuses", n)
	}
}
