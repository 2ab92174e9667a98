// Package jobs tests the jobs of a running Caddy from outside, by real commands,
// signals, reloads and crashes.
package jobs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// job is what tests read of a job's status. It is a type of its own, so that tests
// notice when the names of the fields change.
type job struct {
	Name        string    `json:"name"`
	State       string    `json:"state"`
	Next        time.Time `json:"next"`
	Last        *run      `json:"last"`
	Current     *run      `json:"current"`
	LastSuccess time.Time `json:"last_success"`
	LastRelease time.Time `json:"last_release"`
	Failures    int       `json:"failures"`
	Hold        *struct {
		Reason string    `json:"reason"`
		Since  time.Time `json:"since"`
	} `json:"hold"`
	Pending *struct {
		Since   time.Time `json:"since"`
		Changes int       `json:"changes"`
		Names   []string  `json:"names"`
		Why     string    `json:"why"`
		Due     time.Time `json:"due"`
	} `json:"pending"`
	Seen     time.Time `json:"seen"`
	Upstream time.Time `json:"upstream"`
	Serial   int64     `json:"serial"`

	Waits    string `json:"waits"`
	Problem  string `json:"problem"`
	Progress *struct {
		Detail string
	} `json:"progress"`
}

type run struct {
	ID      string             `json:"id"`
	Trigger string             `json:"trigger"`
	Began   time.Time          `json:"began"`
	Ended   time.Time          `json:"ended"`
	Outcome string             `json:"outcome"`
	Stage   string             `json:"stage"`
	Error   string             `json:"error"`
	Code    int                `json:"exit_code"`
	PID     int                `json:"pid"`
	Tail    string             `json:"tail"`
	Stages  map[string]float64 `json:"stages"`
}

// jobs is a configuration with jobs, each a name and its options.
func jobs(list ...string) string {
	var b strings.Builder
	b.WriteString("{\n\tmirror {\n")
	for _, j := range list {
		name, options, _ := strings.Cut(j, " ")
		fmt.Fprintf(&b, "\t\tjob %s {\n\t\t\t%s\n\t\t}\n", name, strings.ReplaceAll(options, ";;", "\n\t\t\t"))
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// shell is a syncer that runs a script.
func shell(script string) string { return "sync exec `" + script + "` {;;shell;;}" }

// call asks the admin API.
func call(t testing.TB, srv *testcaddy.Server, method, path, body string, into any) int {
	t.Helper()
	send := func() (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+srv.Admin+path, strings.NewReader(body))
		if err != nil {
			return nil, err
		}
		req.Close = true
		return http.DefaultClient.Do(req)
	}
	resp, err := send()
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) { // a reload has just replaced the admin endpoint
		resp, err = send()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil && resp.StatusCode < 300 {
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatalf("%s: %v: %s", path, err, text)
		}
	}
	return resp.StatusCode
}

// status is that of a job; a job that is not there has no name.
func status(t testing.TB, srv *testcaddy.Server, name string) job {
	t.Helper()
	var j job
	call(t, srv, http.MethodGet, "/mirror/jobs/"+name, "", &j)
	return j
}

// start has a job run.
func start(t testing.TB, srv *testcaddy.Server, name string) (id string) {
	t.Helper()
	var reply struct {
		ID string `json:"id"`
	}
	if code := call(t, srv, http.MethodPost, "/mirror/jobs/"+name+"/run", "", &reply); code != http.StatusAccepted {
		t.Fatalf("starting %s: status %d", name, code)
	}
	return reply.ID
}

// until waits until a job is as it should be.
func until(t testing.TB, srv *testcaddy.Server, name, what string, is func(j job) bool) job {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(30 * time.Millisecond) {
		j := status(t, srv, name)
		if is(j) {
			return j
		}
		if time.Now().After(deadline) {
			t.Fatalf("job %s is never %s: %+v, last %+v, current %+v", name, what, j, j.Last, j.Current)
		}
	}
}

// ended waits for the end of a run.
func ended(t testing.TB, srv *testcaddy.Server, name, id string) run {
	t.Helper()
	var r run
	if code := call(t, srv, http.MethodGet, "/mirror/jobs/"+name+"/runs/"+id+"?wait=30s", "", &r); code != http.StatusOK || r.Outcome == "" {
		t.Fatalf("run %s of %s: status %d, %+v", id, name, code, r)
	}
	return r
}

func running(j job) bool { return j.State == "running" && j.Current.PID != 0 }
func idle(j job) bool    { return j.State == "idle" }
func waiting(j job) bool { return j.State == "waiting" }

// alive reports whether a process of a group is there that has not ended.
func alive(pgid int) bool {
	procs, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, p := range procs {
		b, err := os.ReadFile(p)
		if err != nil {
			continue
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if f[2] == strconv.Itoa(pgid) && f[0] != "Z" {
			return true
		}
	}
	return false
}

// read is the text of a file, or empty.
func read(name string) string {
	b, _ := os.ReadFile(name)
	return string(b)
}

// killGroup ends what a test has started and the server has not ended.
func killGroup(t testing.TB, pgid int) {
	t.Cleanup(func() {
		if pgid > 1 {
			_ = syscall.Kill(-pgid, syscall.SIGKILL)
		}
	})
}

func state(srv *testcaddy.Server, name string) string {
	return filepath.Join(srv.Home, "data", "caddy", "mirror", "jobs", name)
}
