package syncer

import (
	"regexp"
	"strconv"
	"strings"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// output reads what rsync prints.
type output struct {
	report func(step.Progress)

	// deleting is called with each name that is deleted; directories end in a slash.
	deleting func(name string)

	// changing is called with each name that is changed, "" if it is not known;
	// directories end in a slash.
	changing func(name string)

	reason  string // the first error
	full    bool   // there is no space left
	missing bool   // upstream does not have the directory
	blocked bool   // a directory stands where a link or a file is to be
	files   int    // that upstream has
	cut     int    // names too long to be told

	literal, sofar int64
}

// maxLine is more than which a line may have been cut.
const maxLine = 4000

var (
	itemized = regexp.MustCompile(`^[<>ch.][fdLDS][.+? a-zA-Z]{9} `)
	progress = regexp.MustCompile(`^ *([0-9,]+) +([0-9]+)% +(\S+/s) +[0-9:]+(?: \(xfr#([0-9,]+), (ir|to)-chk=([0-9,]+)/([0-9,]+)\))? *$`)
)

func (o *output) line(line string) {
	switch {
	case strings.HasPrefix(line, "*deleting "):
		// Padded to the width of the others.
		o.delete(strings.TrimPrefix(line[len("*deleting "):], "  "), len(line))
	case itemized.MatchString(line):
		// The time of a directory is set again after whatever was done in it.
		if o.changing != nil && !strings.HasPrefix(line, ".d..t...... ") {
			o.changing(itemName(line))
		}
	case strings.HasPrefix(line, "rsync: "), strings.HasPrefix(line, "@ERROR"):
		o.failure(line)
	case strings.HasPrefix(line, "could not make way for "):
		o.failure(line)
		o.blocked = true
	case progress.MatchString(line):
		o.progress(progress.FindStringSubmatch(line))
	default:
		o.stats(line)
	}
}

func (o *output) delete(name string, length int) {
	if length >= maxLine {
		o.cut++
		name = ""
	}
	switch {
	case name == "" && o.deleting != nil:
	case o.deleting != nil:
		o.deleting(unescape(name))
	case o.changing != nil:
		o.changing(unescape(name))
	}
}

// itemName is the name in a line of changes, "" if the line was cut. Of a link, or of what
// is linked to another, it is what stands before the arrow.
func itemName(line string) string {
	if len(line) >= maxLine {
		return ""
	}
	name := line[len("cL+++++++++ "):]
	arrow := ""
	switch {
	case line[1] == 'L':
		arrow = " -> "
	case line[0] == 'h':
		arrow = " => "
	}
	if arrow != "" {
		name, _, _ = strings.Cut(name, arrow)
	}
	return unescape(name)
}

// failure notes the first error: the last that rsync prints says only where in its
// source it gave up.
func (o *output) failure(line string) {
	const limit = 300
	if o.reason == "" {
		o.reason = line[:min(len(line), limit)]
	}
	o.full = o.full || strings.Contains(line, "No space left on device") || strings.Contains(line, "Disk quota exceeded")
	o.missing = o.missing || strings.Contains(line, "change_dir")
}

// progress reports how far it is: m is what the expression has found.
func (o *output) progress(m []string) {
	o.sofar = number(m[1])
	p := step.Progress{Done: -1, Detail: m[1] + " bytes, " + m[3]}
	if m[5] != "" {
		left, all := number(m[6]), number(m[7])
		p.Detail += ", " + strconv.FormatInt(all-left, 10) + " of " + m[7] + " files"
		// While it is still listing ("ir"), the total only grows.
		if m[5] == "to" && all > 0 {
			p.Done = float64(all-left) / float64(all)
		}
	}
	o.report(p)
}

func (o *output) stats(line string) {
	if rest, ok := strings.CutPrefix(line, "Literal data: "); ok {
		o.literal = number(strings.TrimSuffix(rest, " bytes"))
	} else if rest, ok := strings.CutPrefix(line, "Number of files: "); ok {
		rest, _, _ = strings.Cut(rest, " ")
		o.files = int(number(rest))
	}
}

// bytes is how much was fetched, or, of a run that did not come to its end, about
// how much.
func (o *output) bytes() int64 {
	if o.literal > 0 {
		return o.literal
	}
	return o.sofar
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(strings.ReplaceAll(text, ",", ""), 10, 64)
	return n
}

// unescape gives a name back the bytes that rsync prints as \#ooo, in octal. It does
// so with all that are not printable, and with a backslash where a # follows.
func unescape(name string) string {
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if i+5 <= len(name) && name[i] == '\\' && name[i+1] == '#' {
			if c, err := strconv.ParseUint(name[i+2:i+5], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 4
				continue
			}
		}
		b.WriteByte(name[i])
	}
	return b.String()
}
