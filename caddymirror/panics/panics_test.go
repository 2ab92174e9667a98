package panics

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func fails(log *zap.Logger, place string, v any) (err error) {
	defer Recover(log, place, &err)
	panic(v)
}

func TestRecover(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	log := zap.New(core)
	var e *Error
	for range 3 {
		if err := fails(log, "test_recover", errors.New("index out of range")); !errors.As(err, &e) {
			t.Fatalf("got %v", err)
		}
	}
	if e.Error() != "panic in test_recover: index out of range" {
		t.Errorf("text: %s", e)
	}
	if !strings.Contains(string(e.Stack), "panics.fails") {
		t.Errorf("the stack does not show where:\n%s", e.Stack)
	}
	if n := Counts()["test_recover"]; n != 3 {
		t.Errorf("%d counted, want 3", n)
	}
	if logs.Len() != 1 {
		t.Fatalf("logged %d times, want once", logs.Len())
	}
	if stack := logs.All()[0].ContextMap()["stack"].(string); !strings.Contains(stack, "panics.fails") {
		t.Errorf("the stack that is logged does not show where:\n%s", stack)
	}

	if err := fails(log, "test_another", "x"); err == nil || logs.Len() != 2 {
		t.Errorf("another place: %v, %d logged", err, logs.Len())
	}
	if _, tell := count("test_recover", time.Now().Add(2*logEvery)); !tell {
		t.Error("not logged again a while later")
	}
}

// TestNoPanic: an error that is there already stays.
func TestNoPanic(t *testing.T) {
	want := errors.New("no panic")
	got := func() (err error) {
		defer Recover(nil, "test_none", &err)
		return want
	}()
	if got != want || Counts()["test_none"] != 0 {
		t.Errorf("got %v, %d counted", got, Counts()["test_none"])
	}
}

type badError struct{}

func (badError) Error() string { panic("again") }

// TestText: what a panic says is safe to be shown, whatever it says.
func TestText(t *testing.T) {
	for _, tc := range []struct {
		value any
		want  string
	}{
		{"two\nlines\x1b[31m", `panic in test_text: two\nlines\x1b[31m`},
		{`a "word"`, `panic in test_text: a "word"`},
		{strings.Repeat("x", 1000), "panic in test_text: " + strings.Repeat("x", maxValue)},
		{strings.Repeat("\x00", 1000), "panic in test_text: " + strings.Repeat(`\x00`, maxValue/4)},
		{badError{}, "panic in test_text: panics.badError"},
		{42, "panic in test_text: 42"},
	} {
		if got := fails(nil, "test_text", tc.value).Error(); got != tc.want {
			t.Errorf("%v: got %s, want %s", tc.value, got, tc.want)
		}
	}
}
