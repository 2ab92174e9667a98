package testcaddy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"
)

// Status is what tests read of GET /mirror/status. It is a type of its own,
// so that tests notice when the names of the fields change.
type Status struct {
	Caches []Cache `json:"caches"`
	Mounts []struct {
		Prefix  string   `json:"prefix"`
		Cache   string   `json:"cache"`
		Origins []Origin `json:"origins"`
	} `json:"mounts"`
}

// Cache is one cache.
type Cache struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	State   string `json:"state"`
	MaxSize int64  `json:"max_size"`
	Size    int64  `json:"size"`
	Entries int64  `json:"entries"`
}

// Origin is one origin of a mount.
type Origin struct {
	Origin    string `json:"origin"`
	State     string `json:"state"`
	Release   string `json:"release"`
	Reads     uint64 `json:"reads"`
	ReadBytes uint64 `json:"read_bytes"`
	Stats     uint64 `json:"stats"`
	Lists     uint64 `json:"lists"`
	Errors    uint64 `json:"errors"`
}

// Touches is how often the origin was asked for anything but its release.
func (o Origin) Touches() uint64 { return o.Reads + o.Stats + o.Lists }

// Status asks the server for the state of its caches and mounts.
func (s *Server) Status() (Status, error) {
	var st Status
	body, err := s.AdminGet("/mirror/status")
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(body, &st); err != nil {
		return st, fmt.Errorf("reading status: %w:\n%s", err, body)
	}
	return st, nil
}

// Origins are the origins of the mount with this prefix.
func (s *Server) Origins(t testing.TB, prefix string) []Origin {
	t.Helper()
	st, err := s.Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range st.Mounts {
		if m.Prefix == prefix {
			return m.Origins
		}
	}
	t.Fatalf("no mount %s in status: %+v", prefix, st)
	return nil
}

// Touches is how often the origins of a mount were asked for anything but
// their releases.
func (s *Server) Touches(t testing.TB, prefix string) uint64 {
	t.Helper()
	var n uint64
	for _, o := range s.Origins(t, prefix) {
		n += o.Touches()
	}
	return n
}

// WaitReady waits until every cache is ready to store.
func (s *Server) WaitReady(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(startTime); ; time.Sleep(20 * time.Millisecond) {
		st, err := s.Status()
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(st.Caches, func(c Cache) bool { return c.State != "ready" })
		if i < 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("cache %s is still %q after %v", st.Caches[i].Name, st.Caches[i].State, startTime)
		}
	}
}

// Purge drops entries of a mount: one path, or all below a prefix. It returns
// how many.
func (s *Server) Purge(mount, path, prefix string) (int, error) {
	req, err := json.Marshal(struct {
		Mount  string `json:"mount"`
		Path   string `json:"path,omitempty"`
		Prefix string `json:"prefix,omitempty"`
	}{mount, path, prefix})
	if err != nil {
		return 0, err
	}
	body, err := s.admin(http.MethodPost, "/mirror/purge", "application/json", req)
	if err != nil {
		return 0, err
	}
	var answer struct {
		Purged int `json:"purged"`
	}
	return answer.Purged, json.Unmarshal(body, &answer)
}
