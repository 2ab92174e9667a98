package constraints

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	pep440 "github.com/aquasecurity/go-pep440-version"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

// Environment is what markers ask about a Python, by the names of PEP 508:
// "python_version" is "3.11".
type Environment map[string]string

// Variables are the names that markers may use.
var Variables = []string{
	"python_version", "python_full_version", "os_name", "sys_platform", "platform_release",
	"platform_system", "platform_version", "platform_machine", "platform_python_implementation",
	"implementation_name", "implementation_version", "extra",
}

// oldNames are names that setuptools had before PEP 508.
var oldNames = map[string]string{
	"os.name": "os_name", "sys.platform": "sys_platform", "platform.version": "platform_version",
	"platform.machine": "platform_machine", "platform.python_implementation": "platform_python_implementation",
	"python_implementation": "platform_python_implementation",
}

// Marker is a condition on the Python that a requirement is for. The zero one holds always.
type Marker struct{ root node }

// Holds reports whether the condition holds. What the environment does not have is empty.
func (m Marker) Holds(env Environment) bool { return m.root == nil || m.root.holds(env) }

type node interface{ holds(Environment) bool }

type (
	anyOf []node
	allOf []node
)

func (n anyOf) holds(env Environment) bool {
	return slices.ContainsFunc(n, func(m node) bool { return m.holds(env) })
}

func (n allOf) holds(env Environment) bool {
	return !slices.ContainsFunc(n, func(m node) bool { return !m.holds(env) })
}

// value is one side of a comparison.
type value struct {
	text     string
	variable bool
}

func (v value) in(env Environment) string {
	if v.variable {
		return env[v.text]
	}
	return v.text
}

type comparison struct {
	left, right value
	op          string
}

// holds compares versions if the right side is one, and texts if not (PEP 508).
func (c comparison) holds(env Environment) bool {
	left, right := c.left.in(env), c.right.in(env)
	switch c.op {
	case "in":
		return strings.Contains(right, left)
	case "not in":
		return !strings.Contains(right, left)
	case "===":
		return strings.EqualFold(left, right)
	}
	s := Specifier{c.op, right}
	if v, err := pep440.Parse(left); err == nil && s.valid() == nil {
		return s.check(v)
	}
	switch c.op {
	case "==":
		return left == right
	case "!=":
		return left != right
	case "<":
		return left < right
	case "<=":
		return left <= right
	case ">":
		return left > right
	case ">=":
		return left >= right
	}
	return false // ~= of what are no versions
}

const maxMarkerDepth = 64

// ParseMarker reads a condition: `python_version >= "3.8" and sys_platform == "linux"`.
func ParseMarker(text string) (Marker, error) {
	p := markerParser{rest: text}
	n, err := p.or(0)
	if err != nil {
		return Marker{}, err
	}
	if p.skip(); p.rest != "" {
		return Marker{}, fmt.Errorf("%q is too much", fault.Show(p.rest))
	}
	return Marker{n}, nil
}

type markerParser struct{ rest string }

func (p *markerParser) skip() { p.rest = strings.TrimLeft(p.rest, " \t") }

// take takes a token if it is next, and nothing that only begins like it.
func (p *markerParser) take(token string) bool {
	p.skip()
	rest, ok := strings.CutPrefix(p.rest, token)
	if !ok || wordByte(token[len(token)-1]) && rest != "" && wordByte(rest[0]) {
		return false
	}
	p.rest = rest
	return true
}

func wordByte(b byte) bool {
	return b == '_' || b == '.' || '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z'
}

func (p *markerParser) or(depth int) (node, error) {
	var all anyOf
	for {
		n, err := p.and(depth)
		if err != nil {
			return nil, err
		}
		if all = append(all, n); !p.take("or") {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

func (p *markerParser) and(depth int) (node, error) {
	var all allOf
	for {
		n, err := p.one(depth)
		if err != nil {
			return nil, err
		}
		if all = append(all, n); !p.take("and") {
			break
		}
	}
	if len(all) == 1 {
		return all[0], nil
	}
	return all, nil
}

func (p *markerParser) one(depth int) (node, error) {
	if depth > maxMarkerDepth {
		return nil, errors.New("parentheses are too deep")
	}
	if p.take("(") {
		n, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.take(")") {
			return nil, errors.New("a parenthesis has no end")
		}
		return n, nil
	}
	left, err := p.value()
	if err != nil {
		return nil, err
	}
	op, err := p.operator()
	if err != nil {
		return nil, err
	}
	right, err := p.value()
	if err != nil {
		return nil, err
	}
	if !left.variable && !right.variable {
		return nil, errors.New("a comparison of two texts")
	}
	return comparison{left, right, op}, nil
}

func (p *markerParser) operator() (string, error) {
	for _, op := range operators {
		if p.take(op) {
			return op, nil
		}
	}
	if p.take("in") {
		return "in", nil
	}
	if p.take("not") && p.take("in") {
		return "not in", nil
	}
	return "", fmt.Errorf("a comparison is missing at %q", fault.Show(p.rest))
}

func (p *markerParser) value() (value, error) {
	p.skip()
	if p.rest == "" {
		return value{}, errors.New("it has no end")
	}
	if q := p.rest[0]; q == '"' || q == '\'' {
		text, rest, ok := strings.Cut(p.rest[1:], string(q))
		if !ok {
			return value{}, errors.New("a quotation mark is missing")
		}
		p.rest = rest
		return value{text: text}, nil
	}
	n := 0
	for n < len(p.rest) && wordByte(p.rest[n]) {
		n++
	}
	name := p.rest[:n]
	if now := oldNames[name]; now != "" {
		name = now
	}
	if !slices.Contains(Variables, name) {
		return value{}, fmt.Errorf("%q is neither a variable of PEP 508 nor in quotation marks", fault.Show(p.rest[:max(n, min(1, len(p.rest)))]))
	}
	p.rest = p.rest[n:]
	return value{name, true}, nil
}
