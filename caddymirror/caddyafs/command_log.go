package caddyafs

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// notes writes what the client warns of as lines for a person, as that file servers
// cannot call back.
type notes struct {
	zapcore.LevelEnabler
	w    io.Writer
	with []zapcore.Field
}

func newNotes(w io.Writer) *zap.Logger {
	return zap.New(&notes{LevelEnabler: zapcore.WarnLevel, w: w})
}

// With implements [zapcore.Core].
func (n *notes) With(fields []zapcore.Field) zapcore.Core {
	c := *n
	c.with = slices.Concat(c.with, fields)
	return &c
}

// Check implements [zapcore.Core].
func (n *notes) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !n.Enabled(e.Level) {
		return c
	}
	return c.AddCore(e, n)
}

// Write implements [zapcore.Core].
func (n *notes) Write(e zapcore.Entry, fields []zapcore.Field) error {
	var text strings.Builder
	text.WriteString("Note: " + e.Message)
	enc := zapcore.NewMapObjectEncoder()
	for i, f := range slices.Concat(n.with, fields) {
		f.AddTo(enc)
		if i == 0 {
			text.WriteString(":")
		}
		fmt.Fprintf(&text, " %s %v;", f.Key, enc.Fields[f.Key])
	}
	_, err := fmt.Fprintln(n.w, strings.TrimSuffix(text.String(), ";"))
	return err
}

// Sync implements [zapcore.Core].
func (*notes) Sync() error { return nil }
