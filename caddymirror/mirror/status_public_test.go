package mirror

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/job"
	"github.com/unifiedmirrors/mirror/caddymirror/origin"
	"github.com/unifiedmirrors/mirror/caddymirror/releaser"
)

// What clients may know of each field of a [Status], by its path. A path without fields
// of its own stands for all below it. Whoever adds a field decides on it here.
const (
	secret  = "secret"  // never
	shown   = "shown"   // as it is
	derived = "derived" // something that is made of it; never as it is
	instead = "instead" // as it is, where there is nothing better
)

var decisions = map[string]string{
	"Caches": secret,
	"Panics": secret,

	"Mounts.Prefix":            shown,
	"Mounts.Format":            secret,
	"Mounts.Cache":             secret,
	"Mounts.Entries":           secret,
	"Mounts.Bytes":             secret,
	"Mounts.Filling":           secret,
	"Mounts.Waiting":           secret,
	"Mounts.Origins.Origin":    secret,
	"Mounts.Origins.State":     derived,
	"Mounts.Origins.Release":   secret, // names directories, or volumes
	"Mounts.Origins.Seen":      instead,
	"Mounts.Origins.Reads":     secret,
	"Mounts.Origins.ReadBytes": secret,
	"Mounts.Origins.Stats":     secret,
	"Mounts.Origins.Lists":     secret,
	"Mounts.Origins.Errors":    secret,
	"Mounts.Origins.Timeouts":  secret,
	"Mounts.Origins.Panics":    secret,
	"Mounts.Origins.Busy":      secret,
	"Mounts.Origins.Stuck":     secret,
	"Mounts.Origins.LastError": secret,
	"Mounts.Origins.Index":     secret,  // names files
	"Mounts.Origins.Upstreams": derived, // the state of the mount

	"Jobs.Name":          shown,
	"Jobs.State":         derived,
	"Jobs.Next":          shown,
	"Jobs.Last":          secret,
	"Jobs.LastSuccess":   shown,
	"Jobs.LastRelease":   instead, // if no copy tells when it was written
	"Jobs.Failures":      secret,
	"Jobs.Hold":          secret,
	"Jobs.Pending":       secret,
	"Jobs.Seen":          shown,
	"Jobs.Serial":        secret,
	"Jobs.Upstream":      shown,
	"Jobs.Copies.Target": secret,
	"Jobs.Copies.Stage":  secret,
	"Jobs.Copies.Site":   secret,
	"Jobs.Copies.At":     instead,
	"Jobs.Copies.Error":  secret,
	"Jobs.Waits":         secret,
	"Jobs.Current":       secret,
	"Jobs.Progress":      secret,
	"Jobs.Estimate":      secret,
	"Jobs.Runs":          secret,
	"Jobs.Problem":       secret,
}

// filler gives each field a value of its own, and notes what it looks like in JSON.
type filler struct {
	t     *testing.T
	n     int64
	marks map[string][]string // by the path of the field
}

func (f *filler) mark(path, text string) { f.marks[path] = append(f.marks[path], text) }

func (f *filler) fill(path string, v reflect.Value) {
	f.n++
	if v.Type() == reflect.TypeFor[time.Time]() {
		at := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(f.n) * time.Hour)
		v.Set(reflect.ValueOf(at))
		f.mark(path, at.Format(time.RFC3339))
		return
	}
	switch v.Kind() {
	case reflect.String:
		text := fmt.Sprintf("mark-%d-/etc/%s@192.0.2.%d", f.n, path, f.n%250)
		v.SetString(text)
		f.mark(path, text)
	case reflect.Int, reflect.Int64:
		v.SetInt(7_700_000 + f.n)
		f.mark(path, fmt.Sprint(v.Int()))
	case reflect.Uint64:
		v.SetUint(uint64(7_700_000 + f.n))
		f.mark(path, fmt.Sprint(v.Uint()))
	case reflect.Bool:
		if d, _ := decided(path); d != secret {
			f.t.Errorf("%s has no mark to be found by, and is not secret", path)
		}
	case reflect.Float64:
		v.SetFloat(float64(7_700_000+f.n) + 0.5)
		f.mark(path, fmt.Sprint(7_700_000+f.n)+".5")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(path, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for n := range v.Len() {
			f.fill(path, v.Index(n))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		f.fill(path, key)
		f.fill(path, elem)
		v.SetMapIndex(key, elem)
	case reflect.Struct:
		for n := range v.NumField() {
			field := v.Type().Field(n)
			at := path
			if !field.Anonymous {
				at = strings.TrimPrefix(path+"."+field.Name, ".")
			}
			f.fill(at, v.Field(n))
		}
	default:
		f.t.Errorf("%s is of a kind that this test does not know: %v", path, v.Type())
	}
}

// decided is the decision on a field, and the path that it is made for.
func decided(path string) (decision, by string) {
	for p := path; p != ""; p = p[:max(strings.LastIndex(p, "."), 0)] {
		if d, ok := decisions[p]; ok {
			return d, p
		}
	}
	return "", ""
}

// TestPublic: of a status in which every field has a mark, only those marks get to
// clients that were decided on.
func TestPublic(t *testing.T) {
	f := &filler{t: t, marks: map[string][]string{}}
	var s Status
	f.fill("", reflect.ValueOf(&s).Elem())
	text, err := json.Marshal(s.Public())
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(f.marks)) {
		decision, by := decided(path)
		used[by] = true
		for _, mark := range f.marks[path] {
			got := strings.Contains(string(text), mark)
			switch {
			case decision == "":
				t.Errorf("nobody has decided whether clients may know %s of a status: say so in this test, and in Status.Public if they may", path)
			case got && (decision == secret || decision == derived):
				t.Errorf("%s is %s, and is shown: %s", path, decision, text)
			case !got && decision == shown:
				t.Errorf("%s is not shown: %s", path, text)
			}
		}
	}
	for path := range decisions {
		if !used[path] {
			t.Errorf("%s is decided on, and there is no such field", path)
		}
	}
	if len(f.marks) < 60 {
		t.Errorf("only %d fields were filled", len(f.marks))
	}
}

// TestPublicStates: what clients are told instead of what operators are.
func TestPublicStates(t *testing.T) {
	at := func(h int) time.Time { return time.Date(2026, 1, 1, h, 0, 0, 0, time.UTC) }
	up, away := origin.Status{State: "up", Seen: at(1)}, origin.Status{State: "away", Seen: at(2)}
	half := up
	half.Upstreams = []origin.UpstreamStatus{{State: "up"}, {State: "paused"}}
	for _, c := range []struct {
		origins []origin.Status
		state   string
		seen    time.Time
	}{
		{[]origin.Status{up}, "up", at(1)},
		{[]origin.Status{up, up}, "up", at(1)},
		{[]origin.Status{away, up}, "degraded", at(2)},
		{[]origin.Status{up, away}, "degraded", at(1)},
		{[]origin.Status{away}, "away", at(2)},
		{[]origin.Status{away, away}, "away", at(2)},
		{[]origin.Status{half}, "degraded", at(1)},
		{nil, "up", time.Time{}},
	} {
		p := Status{Mounts: []MountStatus{{Prefix: "/a", Origins: c.origins}}}.Public().Mounts[0]
		if p.State != c.state || !p.Seen.Equal(c.seen) || p.Prefix != "/a" {
			t.Errorf("%+v: %+v", c.origins, p)
		}
	}
	for _, state := range jobStates {
		if p := (Status{Jobs: []job.Status{{State: state}}}).Public().Jobs[0]; p.State != state {
			t.Errorf("%s becomes %s", state, p.State)
		}
	}
	j := job.Status{Name: "a", State: "/etc/passwd", LastRelease: at(9), Copies: []releaser.Copy{
		{Stage: releaser.ReadWrite, At: at(1)}, {Stage: releaser.ReadOnly, At: at(5)}, {Stage: releaser.ReadOnly, At: at(4)},
	}}
	if p := (Status{Jobs: []job.Status{j}}).Public().Jobs[0]; p.State != "unknown" || !p.Served.Equal(at(4)) {
		t.Errorf("%+v", p)
	}
	if text, err := json.Marshal((Status{}).Public()); err != nil || string(text) != `{"mounts":[],"jobs":[]}` {
		t.Errorf("nothing is %s, %v", text, err)
	}
}
