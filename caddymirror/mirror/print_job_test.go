package mirror

import "testing"

// TestOneLine: what commands print does not upset a terminal.
func TestOneLine(t *testing.T) {
	if got := oneLine("a\x1b[2Jb\x00\r\n\tc  d é\u202e"); got != "a?[2Jb? c d é?" {
		t.Errorf("%q", got)
	}
}
