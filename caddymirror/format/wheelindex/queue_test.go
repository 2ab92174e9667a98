package wheelindex

import (
	"sync"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

// TestUrgentWhileRead: a file that is being read when somebody begins to wait for it does
// not give way to clients any more: the one who waits is among them.
func TestUrgentWhileRead(t *testing.T) {
	var mu sync.Mutex
	var q queue
	q.init(&mu)
	f := &file{path: "a", info: origin.Info{Name: "a", Validator: "1"}}
	add := func(urgent bool) *job {
		mu.Lock()
		defer mu.Unlock()
		return q.add(f, urgent)
	}
	j := add(false)
	if q.take(false) != j || j.urgent.Load() {
		t.Fatal("the job is urgent, or another")
	}
	if add(true) != j || !j.urgent.Load() {
		t.Error("the job is not urgent, though somebody waits for it")
	}
	if len(q.urgent) != 0 {
		t.Error("a job that is being read is in the queue")
	}
}
