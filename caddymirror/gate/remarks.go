package gate

import (
	"fmt"
	"io"
	"sync"
)

// remarks are what a gate lets pass although the format's specification has it otherwise,
// since clients take it. They go to the log of the run.
type remarks struct {
	mu  sync.Mutex
	all []remark
}

// A remark is one kind of oddity: the first file that has it, and how often it was seen.
type remark struct {
	file, text string
	count      int
}

// add notes an oddity of a file. text is one of a few sentences: it holds nothing that
// differs from file to file.
func (m *remarks) add(file, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.all {
		if m.all[i].text == text {
			m.all[i].count++
			return
		}
	}
	m.all = append(m.all, remark{file, text, 1})
}

// write writes a line for each kind, and forgets them.
func (m *remarks) write(w io.Writer, gate string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.all {
		more := ""
		if r.count > 1 {
			more = fmt.Sprintf(" (%d times in all)", r.count)
		}
		fmt.Fprintf(w, "gate %s: note: %s%s\n", gate, Problem{r.file, r.text}, more)
	}
	m.all = nil
}
