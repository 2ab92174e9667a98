package constraints

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// Read reads a file of requirements into the list. Its name is for messages, and what it
// includes is relative to it. The files that it includes are returned. An error says that
// the file cannot be read at all, or is beyond a limit.
func (l *List) Read(name string, r io.Reader) (included []string, err error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", Redacted(name), err)
	}
	if len(text) > MaxFile {
		return nil, fmt.Errorf("reading %s: it is larger than %d MiB", Redacted(name), MaxFile>>20)
	}
	// Windows' editors begin files with a byte order mark, also of UTF-16.
	if slices.ContainsFunc([]string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"}, func(bom string) bool { return strings.HasPrefix(string(text[:min(3, len(text))]), bom) }) {
		text, _, err = transform.Bytes(unicode.BOMOverride(unicode.UTF8.NewDecoder()), text)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", Redacted(name), err)
		}
	}
	for line, number := range joined(string(text)) {
		at := Problem{File: Redacted(name), Line: number, Text: fault.Show(Redacted(strings.TrimSpace(line)))}
		if len(line) > MaxLine {
			at.Reason = fmt.Sprintf("longer than %d KiB", MaxLine>>10)
			l.problem(at)
			continue
		}
		if strings.TrimSpace(withoutComment(line)) == "" {
			continue
		}
		if err := l.line(&at, name, strings.TrimSpace(withoutComment(line)), &included); err != nil {
			at.Reason = err.Error()
			l.problem(at)
		}
		if len(l.Requirements) > MaxRequirements {
			return nil, fmt.Errorf("reading %s: more than %d requirements", name, MaxRequirements)
		}
	}
	return included, nil
}

// comment is what pip takes for one: a # at the start, or after a space.
var comment = regexp.MustCompile(`(?:^|\s+)#.*$`)

func withoutComment(line string) string { return comment.ReplaceAllString(line, "") }

// joined yields the lines of a text with those that continue them, and the number of
// each's first. As pip has it, a line that is nothing but a comment is not continued.
func joined(text string) func(yield func(string, int) bool) {
	return func(yield func(string, int) bool) {
		var begun strings.Builder
		first := 0
		for number := 1; text != ""; number++ {
			var line string
			line, text = nextLine(text)
			if first == 0 {
				first = number
			}
			alone := strings.HasPrefix(strings.TrimSpace(line), "#")
			switch head, more := strings.CutSuffix(line, `\`); {
			case more && !alone:
				if begun.Len() <= MaxLine { // beyond, it is a problem whatever follows
					begun.WriteString(head)
				}
				continue
			case alone && begun.Len() > 0:
				begun.WriteString(" ") // so that it is seen as a comment
			}
			if begun.Len() <= MaxLine {
				begun.WriteString(line)
			}
			if !yield(begun.String(), first) {
				return
			}
			begun.Reset()
			first = 0
		}
		if first != 0 {
			yield(begun.String(), first)
		}
	}
}

// nextLine cuts a line off, whichever way it ends.
func nextLine(text string) (line, rest string) {
	i := strings.IndexAny(text, "\r\n")
	if i < 0 {
		return text, ""
	}
	line, rest = text[:i], text[i+1:]
	if text[i] == '\r' {
		rest = strings.TrimPrefix(rest, "\n")
	}
	return line, rest
}

// line reads a line that is neither empty nor a comment.
func (l *List) line(at *Problem, base, line string, included *[]string) error {
	if !utf8.ValidString(line) {
		return errors.New("not UTF-8")
	}
	if strings.ContainsRune(line, 0) {
		return errors.New("has a NUL byte")
	}
	if line[0] == '-' {
		return l.option(at, base, line, included)
	}
	line, options := cutOptions(line)
	r, err := Parse(line)
	if err != nil {
		return err
	}
	if r.Hashes, err = hashes(options); err != nil {
		return err
	}
	r.File, r.Line = at.File, at.Line
	l.Requirements = append(l.Requirements, r)
	return nil
}

// cutOptions parts a requirement from its own options: words that begin with a dash.
func cutOptions(line string) (requirement string, options []string) {
	words := strings.Fields(line)
	for i, w := range words {
		if w[0] == '-' {
			return strings.Join(words[:i], " "), words[i:]
		}
	}
	return line, nil
}

// algorithms are those that pip takes for --hash.
var algorithms = []string{"sha256", "sha384", "sha512"}

func hashes(options []string) (all []string, err error) {
	for i := 0; i < len(options); i++ {
		value, ok := strings.CutPrefix(options[i], "--hash")
		switch {
		case !ok:
			return nil, fmt.Errorf("the option %s is not known here", fault.Show(options[i]))
		case value == "" && i+1 < len(options):
			i++
			value = options[i]
		case value == "" || value[0] != '=':
			return nil, errors.New("--hash without a hash")
		default:
			value = value[1:]
		}
		algorithm, sum, _ := strings.Cut(value, ":")
		if _, err := digest.Parse(algorithm, sum); err != nil || !slices.Contains(algorithms, algorithm) {
			return nil, fmt.Errorf("%s is not a hash such as sha256:<64 hex digits>", fault.Show(value))
		}
		all = append(all, algorithm+":"+strings.ToLower(sum))
	}
	return all, nil
}

// passedOver are the options of whole files that say where and how pip looks for packages,
// and whether they have an argument.
var passedOver = map[string]bool{
	"-i": true, "--index-url": true, "--pypi-url": true, "--extra-index-url": true, "--no-index": false,
	"-f": true, "--find-links": true, "--no-binary": true, "--only-binary": true, "--prefer-binary": false,
	"--require-hashes": false, "--pre": false, "--trusted-host": true, "--use-feature": true,
}

// option reads a line that is an option of the whole file base.
func (l *List) option(at *Problem, base, line string, included *[]string) error {
	name, value := cutOption(line)
	switch name {
	case "-r", "--requirement", "-c", "--constraint":
		if value == "" {
			return fmt.Errorf("%s without a file", name)
		}
		other, err := relative(base, value)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*included = append(*included, other)
		return nil
	case "-e", "--editable":
		return errors.New("an editable requirement is a directory of somebody's, and no package")
	}
	argument, ok := passedOver[name]
	switch {
	case !ok:
		return fmt.Errorf("the option %s is not known", fault.Show(name))
	case argument && value == "":
		return fmt.Errorf("%s without an argument", name)
	case !argument && value != "":
		return fmt.Errorf("%s has no argument", name)
	}
	p := *at
	p.Reason = name + " is passed over"
	l.remark(p)
	return nil
}

// cutOption parts an option from its argument: "-rfile", "-r file", "--name=value",
// "--name value".
func cutOption(line string) (name, value string) {
	end := strings.IndexAny(line, "= \t")
	if !strings.HasPrefix(line, "--") && len(line) > 2 {
		end = 2
	}
	if end < 0 {
		return line, ""
	}
	value = strings.TrimSpace(line[end:])
	value = strings.TrimSpace(strings.TrimPrefix(value, "="))
	return line[:end], strings.Trim(value, `"'`)
}
