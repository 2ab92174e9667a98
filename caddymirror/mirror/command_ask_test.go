package mirror

import (
	"strings"
	"testing"
)

// TestReadAnswer checks that an answer without an end does not fill memory.
func TestReadAnswer(t *testing.T) {
	const answer = `{"a":"b"}`
	for limit, want := range map[int64]string{int64(len(answer)): "", 5: "larger than 5 B"} {
		var into map[string]string
		err := readAnswer(strings.NewReader(answer), limit, &into)
		if want == "" && (err != nil || into["a"] != "b") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%d: %v, %v", limit, into, err)
		}
	}
}
