package jobs

import (
	"bytes"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/syncer/wheels/wheelstest"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// TestWheels: a job builds wheels, shows how far it is, releases them, and releases nothing
// when nothing is new; a build ends with a server that is killed, and the next server
// builds the same.
func TestWheels(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.CommandContext(t.Context(), python, "-c", "import ensurepip, venv").Run(); err != nil {
		testcaddy.Missing(t, "python3-venv")
	}
	index := wheelstest.New(t)
	index.Sdist("pure", "1.0", nil)
	index.Sdist("native", "1.0", map[string]string{"ext.c": wheelstest.Ext})
	index.Sdist("bad", "1.0", map[string]string{"evil.py": "raise Exception('this is why')"})
	index.Sdist("slow", "1.0", map[string]string{"evil.py": "import os, time, urllib.request\ntry: urllib.request.urlopen(os.environ['PIP_INDEX_URL'].replace('simple/', 'files/building')).read()\nexcept OSError: pass"})
	dir := t.TempDir()
	constraints := filepath.Join(dir, "constraints.txt")
	want := func(lines string) {
		t.Helper()
		if err := os.WriteFile(constraints, []byte(lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"tree", "work"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	config := jobs("wheels timeout 10m;;directory " + dir + "/tree;;env SECRET x;;sync wheels {;;constraints " + constraints + ";;python " + python +
		";;index " + index.URL + "/simple/;;platform debian-12-x86_64;;max_failures 1;;work_dir " + dir + "/work;;};;gate wheel;;release snapshot " + dir + "/ro")
	srv := testcaddy.Start(t, config)

	want("pure==1.0\nnative==1.0\nbad==1.0\n")
	out, errText, code := srv.Exec("mirror", "run", "wheels", "--wait")
	if code != 0 || !strings.Contains(out, "released") {
		t.Fatalf("%d: %s%s%s", code, out, errText, srv.Logs())
	}
	for _, file := range []string{"p/pure/pure-1.0-py3-none-any.whl", "n/native"} {
		if _, err := os.Stat(filepath.Join(dir, "ro/debian-12-x86_64", file)); err != nil {
			t.Error(err)
		}
	}
	var s struct {
		Last struct {
			Counts map[string]int `json:"counts"`
		} `json:"last"`
	}
	call(t, srv, http.MethodGet, "/mirror/jobs/wheels", "", &s)
	if s.Last.Counts["built"] != 2 || s.Last.Counts["failed"] != 1 {
		t.Errorf("counts are %v", s.Last.Counts)
	}
	if text, err := srv.Run("mirror", "status", "wheels"); err != nil || !strings.Contains(text, "built 2") || !strings.Contains(text, "failed 1") {
		t.Errorf("%v: %s", err, text)
	}
	if metrics := metricsOf(t, srv); !strings.Contains(metrics, `caddy_mirror_job_items{job="wheels",state="built"} 2`) {
		t.Errorf("the metrics do not count: %s", metrics)
	}
	log, err := os.ReadFile(filepath.Join(state(srv, "wheels"), "wheels.logs", "bad==1.0-cp311.log"))
	if err != nil || !bytes.Contains(log, []byte("this is why")) || bytes.Contains(log, []byte("HOME")) {
		t.Errorf("the log of the bad one: %v, %s", err, log)
	}
	if text, err := srv.Run("mirror", "log", "wheels"); err != nil || !strings.Contains(text, "this is why") {
		t.Errorf("the log of the run: %v, %s", err, text)
	}

	r := ended(t, srv, "wheels", start(t, srv, "wheels"))
	if r.Outcome != "unchanged" {
		t.Errorf("a second run is %+v", r)
	}

	want("pure==1.0\nslow==1.0\n")
	var killed atomic.Bool
	building := make(chan struct{})
	index.Slow(func(file string) {
		if file == "building" && killed.CompareAndSwap(false, true) {
			close(building)
			<-t.Context().Done()
		}
	})
	start(t, srv, "wheels")
	select {
	case <-building:
	case <-time.After(2 * time.Minute):
		t.Fatalf("nothing is built: %s", srv.Logs())
	}
	j := status(t, srv, "wheels")
	if j.Progress == nil || !strings.Contains(j.Progress.Detail, "building slow==1.0") {
		t.Errorf("it says that it does %+v", j.Progress)
	}
	srv.Signal(syscall.SIGKILL)
	<-srv.Done()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		left, err := exec.CommandContext(t.Context(), "pgrep", "-af", filepath.Join(dir, "work")).Output()
		if err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("these live: %s", left)
		}
	}
	srv.Restart(config)
	if r := ended(t, srv, "wheels", start(t, srv, "wheels")); r.Outcome != "released" {
		t.Errorf("after a kill: %+v\n%s", r, srv.Logs())
	}
	if left, err := os.ReadDir(filepath.Join(dir, "work")); err != nil || len(left) > 0 {
		t.Errorf("left in the directory of builds: %v, %v", left, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ro/debian-12-x86_64/s/slow/slow-1.0-py3-none-any.whl")); err != nil {
		t.Error(err)
	}
}

// metricsOf are the metrics of the admin API.
func metricsOf(t *testing.T, srv *testcaddy.Server) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+srv.Admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
