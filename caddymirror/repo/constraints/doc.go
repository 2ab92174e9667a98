// Package constraints reads requirement and constraint files of pip, such as
// OpenStack's upper-constraints.txt: one requirement of PEP 508 a line, with pip's
// comments, continued lines, hashes and options.
//
// A line that cannot be read is reported with its file and number; the others count.
// Several files, such as one for each branch, are read into one [List], which has each
// version that any of them names.
package constraints

import "fmt"

// Limits on what is read. A file beyond them is refused as a whole.
const (
	// MaxFile is how many bytes a file may have.
	MaxFile = 16 << 20

	// MaxLine is how many bytes a line may have, with those that continue it.
	MaxLine = 64 << 10

	// MaxFiles is how many files may be read into one list, those that are included by
	// others among them.
	MaxFiles = 100

	// MaxRequirements is how many requirements a list may have.
	MaxRequirements = 200_000

	// MaxProblems is how many problems, and how many remarks, a list keeps. Of more it
	// keeps the number.
	MaxProblems = 1_000
)

// Problem is a line that cannot be used, or an option that is not.
type Problem struct {
	File   string
	Line   int    // the first is 1
	Text   string // of the line, cut if it is long
	Reason string
}

func (p Problem) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", p.File, p.Line, p.Reason, p.Text)
}
