package apt

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// deb822 reads the control data of Debian archives: paragraphs of fields, whose
// further lines begin with a blank (deb822(5)). It keeps nothing: what is read may
// be long.
//
// What is off the specification is read as apt does (2.6.1 was asked): a line of blanks
// does not end a paragraph, anything before a colon is the name of a field, and comments
// are fields, too, or else garbage.
type deb822 struct {
	// field gets each line of a field: its name, and the value without the blanks
	// around it. first is whether it is the first line of the field. All is valid
	// until it returns.
	field func(name, value []byte, first bool) error

	// end is called at the end of each paragraph. If it returns errStop, what follows is
	// not read.
	end func() error

	// odd is called with what is off the specification. It may be nil.
	odd func(what string)

	// packages refuses what apt does in a Packages file: two empty lines before the first
	// paragraph, which it takes for one without a Package, and paragraphs of 1 MiB.
	packages bool

	line int // the number of the current one
	name []byte
	open bool // in a paragraph
	size int  // of it, in bytes
}

// maxParagraph is the size of a paragraph of a Packages file that apt refuses.
const maxParagraph = 1 << 20

// errStop ends the reading before the end.
var errStop = errors.New("nothing more is to be read")

// Oddities of control data.
const (
	oddBlanks = "a line of blanks stands within a paragraph"
	oddEmpty  = "it begins with an empty line"
	oddFirst  = "a paragraph begins with the further line of a field; apt ignores it"
	oddName   = "a line begins with what is no name of a field; apt ignores it"
	oddTwice  = "a field stands twice in a paragraph; apt takes the last"
	oddSize   = "there is more than a number in a Size; apt takes what it begins with"
)

func (d *deb822) read(r io.Reader) error {
	b := bufio.NewReaderSize(r, 128<<10)
	for {
		line, err := b.ReadSlice('\n')
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if len(line) > 0 {
			d.line++
			d.size += len(line)
			if err := d.take(bytes.TrimRight(line, "\r\n")); err != nil {
				return stopped(err)
			}
		}
		for errors.Is(err, bufio.ErrBufferFull) { // no line that matters is that long
			line, err = b.ReadSlice('\n')
			d.size += len(line)
		}
		if d.packages && d.size >= maxParagraph {
			return fault.Errorf("has a paragraph of more than %d bytes, at line %d: apt can not read it", maxParagraph, d.line)
		}
		if err == io.EOF {
			return stopped(d.close())
		}
		if err != nil {
			return err
		}
	}
}

// stopped is nil if the reading was ended on purpose.
func stopped(err error) error {
	if errors.Is(err, errStop) {
		return nil
	}
	return err
}

func (d *deb822) isOdd(what string) {
	if d.odd != nil {
		d.odd(what)
	}
}

func (d *deb822) take(line []byte) error {
	switch {
	case len(line) == 0:
		if d.name == nil && d.packages {
			if d.line > 1 {
				return fault.Errorf("begins with empty lines, which apt can not read")
			}
			d.isOdd(oddEmpty)
		}
		return d.close()
	case line[0] == ' ' || line[0] == '\t':
		value := bytes.Trim(line, " \t")
		switch {
		case len(value) == 0:
			d.isOdd(oddBlanks)
		case !d.open:
			d.isOdd(oddFirst)
		default:
			return d.field(d.name, value, false)
		}
		return nil
	}
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok {
		return fault.Errorf("line %d is not a field", d.line)
	}
	name = bytes.TrimRight(name, " \t")
	if !isFieldName(name) {
		d.isOdd(oddName)
	}
	d.name = append(d.name[:0], name...)
	d.open = true
	return d.field(d.name, bytes.Trim(value, " \t"), true)
}

func (d *deb822) close() error {
	d.size = 0
	if !d.open {
		return nil
	}
	d.open = false
	return d.end()
}

func isFieldName(name []byte) bool {
	if len(name) > 0 && name[0] == '#' {
		return false
	}
	for _, c := range name {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(name) > 0
}

// is reports whether the name of a field is this one, in lower case.
func is(name []byte, lower string) bool {
	return len(name) == len(lower) && strings.EqualFold(string(name), lower)
}
