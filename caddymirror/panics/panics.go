// Package panics turns a panic into an error of the one thing that was being
// done, so that a bad packet or page does not end the process.
//
// It is for goroutines that parse what comes from a network or a file system,
// or that call others who do. Locks must be released by defer there.
//
// What the runtime itself ends the process for is not a panic: concurrent map
// writes, a deadlock, no memory, a stack that is too deep.
package panics

import (
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// logEvery is how often one place may log a stack.
	logEvery = time.Minute

	// maxValue bounds the text of a panic: it may quote what was parsed.
	maxValue = 200

	// maxStack bounds the stack that is logged.
	maxStack = 16 << 10
)

// Error is a panic that was recovered.
type Error struct {
	// Place is what was being done: a constant, such as "fill".
	Place string

	// Value is what the panic said, on one line of at most 200 bytes.
	Value string

	// Stack is that of the goroutine, as [debug.Stack] has it. It is not part of
	// the error's text.
	Stack []byte
}

// Error is a sentence that may be shown and logged: it has one line, and no stack.
func (e *Error) Error() string { return "panic in " + e.Place + ": " + e.Value }

// Recover is to be deferred. It turns a panic into an *[Error] in *err, counts it,
// and logs it with its stack, once a minute for each place. Without a panic it does
// nothing.
//
// place is a constant that says what is being done: it is a label of a metric.
func Recover(log *zap.Logger, place string, err *error) {
	if v := recover(); v != nil {
		*err = New(log, place, v)
	}
}

// New counts and logs a panic as [Recover] does, for those who call recover
// themselves. value is what recover returned.
func New(log *zap.Logger, place string, value any) *Error {
	e := &Error{Place: place, Value: line(value), Stack: debug.Stack()}
	n, tell := count(place, time.Now())
	if tell && log != nil {
		log.Error("panic contained: this is a bug, please report it",
			zap.String("place", place),
			zap.String("panic", e.Value),
			zap.Uint64("count", n),
			zap.ByteString("stack", e.Stack[:min(len(e.Stack), maxStack)]))
	}
	return e
}

// line is the text of a panic's value, safe to be shown.
func line(v any) (text string) {
	defer func() {
		if recover() != nil { // by its Error or String method
			text = fmt.Sprintf("%T", v)
		}
	}()
	switch v := v.(type) {
	case error:
		text = v.Error()
	case fmt.Stringer:
		text = v.String()
	default:
		text = fmt.Sprint(v)
	}
	text = strconv.Quote(text[:min(len(text), maxValue)])
	text = strings.ReplaceAll(text[1:len(text)-1], `\"`, `"`)
	return text[:min(len(text), maxValue)]
}

// places counts panics. There are only so many places.
var places = struct {
	sync.Mutex
	m map[string]*tally
}{m: map[string]*tally{}}

type tally struct {
	n    uint64
	told time.Time
}

// count counts a panic, and reports whether it is to be logged.
func count(place string, now time.Time) (n uint64, tell bool) {
	places.Lock()
	defer places.Unlock()
	t := places.m[place]
	if t == nil {
		t = new(tally)
		places.m[place] = t
	}
	t.n++
	if tell = t.n == 1 || now.Sub(t.told) >= logEvery; tell {
		t.told = now
	}
	return t.n, tell
}

// Counts returns how many panics were recovered in each place since the process
// began.
func Counts() map[string]uint64 {
	places.Lock()
	defer places.Unlock()
	counts := make(map[string]uint64, len(places.m))
	for place, t := range places.m {
		counts[place] = t.n
	}
	return counts
}
