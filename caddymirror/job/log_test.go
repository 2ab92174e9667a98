package job

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func logText(t *testing.T, dir, id string, last int64) string {
	t.Helper()
	var b bytes.Buffer
	if err := readRunLog(&b, dir, id, last); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRunLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	l := openRunLog(new(disk), dir, "a", 1000)
	var all strings.Builder
	for n := range 500 {
		line := fmt.Sprintf("line %d\n", n)
		all.WriteString(line)
		fmt.Fprint(l, line)
		if got := logText(t, dir, "a", 1<<20); len(got) > 1000 || !strings.HasSuffix(all.String(), got) || n > 100 && len(got) < 450 {
			t.Fatalf("after %d lines the log is %q", n, got)
		}
	}
	for _, last := range []int64{0, 1, 9, 600, 1 << 40} {
		got := logText(t, dir, "a", last)
		if int64(len(got)) > last || !strings.HasSuffix(all.String(), got) || last < 400 && int64(len(got)) != last {
			t.Errorf("the last %d bytes are %q", last, got)
		}
	}
	l.Close()
	fmt.Fprint(l, "too late")
	if strings.Contains(logText(t, dir, "a", 100), "late") || l.problem() != nil {
		t.Errorf("written after its end, or a problem: %v", l.problem())
	}
	for _, name := range []string{"b.log", "b.log.1", "c.log", "other"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pruneLogs(dir, []string{"b"})
	left, _ := filepath.Glob(dir + "/*")
	if got := strings.ReplaceAll(strings.Join(left, " "), dir+"/", ""); got != "b.log b.log.1 other" {
		t.Errorf("left are %s", got)
	}
	if err := readRunLog(new(bytes.Buffer), dir, "a", 10); !os.IsNotExist(err) {
		t.Errorf("reading what is gone: %v", err)
	}
}

// TestNoLog: a log that cannot be kept takes what is written, and says why it is lost.
func TestNoLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := openRunLog(new(disk), filepath.Join(file, "log"), "a", 100)
	for range 10 {
		if n, err := fmt.Fprint(l, strings.Repeat("x", 60)); n != 60 || err != nil {
			t.Fatal(n, err)
		}
	}
	if l.problem() == nil {
		t.Error("no problem")
	}
	l.Close()

	dir := t.TempDir()
	l = openRunLog(new(disk), dir, "b", 100)
	if err := os.Mkdir(filepath.Join(dir, "b.log.1"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if n, err := fmt.Fprint(l, strings.Repeat("x", 60)); n != 60 || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := l.problem(); err == nil {
		t.Error("it cannot be turned, and that is no problem")
	} else if _, err := os.Stat(l.name); err != nil && !os.IsNotExist(err) {
		t.Error(err)
	}
	l.Close()
}

func TestState(t *testing.T) {
	dir := t.TempDir()
	now := at("2026-03-01T12:00:00Z")
	s, interrupted, err := loadState(dir, now)
	if err != nil || interrupted != nil {
		t.Fatal(interrupted, err)
	}
	for n := range 50 {
		s.record(&Run{ID: fmt.Sprint(n), Outcome: []Outcome{Failed, Failed, Busy}[n%3], Ended: now}, maxRuns)
	}
	if len(s.Runs) != maxRuns || s.Runs[0].ID != "49" || s.Failures != 34 {
		t.Errorf("%d runs, the last is %s, %d failures", len(s.Runs), s.Runs[0].ID, s.Failures)
	}
	s.record(&Run{ID: "good", Outcome: Unchanged, Ended: now}, maxRuns)
	if s.Failures != 0 || !s.LastSuccess.Equal(now) || !s.LastRelease.IsZero() {
		t.Errorf("after a success: %+v", s)
	}
	s.Hold = &Hold{Reason: "why", Since: now}
	s.Current = &Run{ID: "cut", PID: 42, Stage: "sync"}
	text, err := s.text()
	if err == nil {
		err = saveState(dir, text)
	}
	if err != nil {
		t.Fatal(err)
	}
	s, interrupted, err = loadState(dir, now)
	if err != nil || interrupted == nil || interrupted.ID != "cut" || s.Runs[0] != interrupted || s.Current != nil ||
		interrupted.Outcome != Interrupted || interrupted.PID != 42 || s.Hold.Reason != "why" || s.Failures != 1 {
		t.Errorf("%+v, %+v, %v", s, interrupted, err)
	}
	if left, _ := filepath.Glob(dir + "/*.tmp"); len(left) > 0 {
		t.Errorf("left over: %s", left)
	}
}

// TestTornState: what nobody can read is put aside, and the job is held: it may have
// been.
func TestTornState(t *testing.T) {
	for _, text := range []string{"", "{", `{"runs": 1}`, "\x00\x00"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, stateName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, _, err := loadState(dir, at("2026-03-01T12:00:00Z"))
		if err == nil || s.Hold == nil || !strings.Contains(s.Hold.Reason, stateName) {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, stateName+".bad")); err != nil || string(got) != text {
			t.Errorf("%q put aside: %q, %v", text, got, err)
		}
		if _, err := os.Stat(filepath.Join(dir, stateName)); !os.IsNotExist(err) {
			t.Errorf("it is still there: %v", err)
		}
	}
}

// TestBusy: a job that often finds its lock taken remembers its real runs, and their
// logs.
func TestBusy(t *testing.T) {
	var s state
	s.record(&Run{ID: "good", Outcome: Unchanged}, maxRuns)
	for n := range 100 {
		s.record(&Run{ID: fmt.Sprint("busy", n), Outcome: Busy}, maxRuns)
	}
	if len(s.Runs) != 2 || s.Runs[0].ID != "busy99" || s.Runs[1].ID != "good" {
		t.Errorf("%d runs, the last is %s", len(s.Runs), s.Runs[0].ID)
	}
}
