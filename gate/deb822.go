package gate

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
)

// deb822 reads the control data of Debian archives: paragraphs of fields, whose
// further lines begin with a blank (deb822(5)). It keeps nothing: what is read may
// be long.
type deb822 struct {
	// field gets each line of a field: its name, and the value without the blanks
	// around it. first is whether it is the first line of the field. All is valid
	// until it returns.
	field func(name, value []byte, first bool) error

	// end is called at the end of each paragraph.
	end func() error

	line int // the number of the current one
	name []byte
	open bool // in a paragraph
}

func (d *deb822) read(r io.Reader) error {
	b := bufio.NewReaderSize(r, bufferSize)
	for {
		line, err := b.ReadSlice('\n')
		if err != nil && err != io.EOF && !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
		if len(line) > 0 {
			d.line++
			if err := d.take(bytes.TrimRight(line, " \t\r\n")); err != nil {
				return err
			}
		}
		for errors.Is(err, bufio.ErrBufferFull) { // no line that matters is that long
			_, err = b.ReadSlice('\n')
		}
		if err == io.EOF {
			return d.close()
		}
		if err != nil {
			return err
		}
	}
}

func (d *deb822) take(line []byte) error {
	switch {
	case len(line) == 0:
		return d.close()
	case line[0] == '#':
		return nil
	case line[0] == ' ' || line[0] == '\t':
		if !d.open {
			return bad("line %d belongs to no field", d.line)
		}
		return d.field(d.name, bytes.TrimLeft(line, " \t"), false)
	}
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || !isFieldName(name) {
		return bad("line %d is not a field", d.line)
	}
	d.name = append(d.name[:0], name...)
	d.open = true
	return d.field(d.name, bytes.TrimLeft(value, " \t"), true)
}

func (d *deb822) close() error {
	if !d.open {
		return nil
	}
	d.open = false
	return d.end()
}

func isFieldName(name []byte) bool {
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
