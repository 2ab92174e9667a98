package constraints

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	pep440 "github.com/aquasecurity/go-pep440-version"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
)

// Requirement is one line: a package, and which versions of it (PEP 508).
type Requirement struct {
	// Name is normalised (PEP 503), Written as the line has it.
	Name, Written string

	Extras     []string    // normalised and sorted
	Specifiers []Specifier // all must hold; empty if any version does, or it is a URL
	URL        string      // where the package is, if the line says so
	Marker     Marker      // when the requirement counts
	Hashes     []string    // "sha256:HEX": its files must have one of them, if there are any

	File string
	Line int
}

// Specifier is one clause on versions (PEP 440): "==" and "1.0", ">=" and "2". The version
// of "==" and "!=" may end in ".*".
type Specifier struct{ Op, Version string }

func (s Specifier) String() string { return s.Op + s.Version }

// NormalVersion is a version as PEP 440 writes it, "1.0-ALPHA1" as "1.0a1". What is no
// such version stays as it is.
func NormalVersion(version string) string {
	v, err := wheel.ParseVersion(version)
	if err != nil {
		return version
	}
	return v.String()
}

// Pin returns the one version that the requirement allows, and false if it allows others
// or is a URL.
func (r Requirement) Pin() (version string, ok bool) {
	if len(r.Specifiers) != 1 {
		return "", false
	}
	s := r.Specifiers[0]
	switch {
	case s.Op == "===":
		return NormalVersion(s.Version), true
	case s.Op == "==" && !strings.HasSuffix(s.Version, ".*"):
		return NormalVersion(s.Version), true
	}
	return "", false
}

// Allows reports whether the requirement allows a version. It allows a pre-release only
// if its specifiers name one.
func (r Requirement) Allows(version string) bool {
	v, err := pep440.Parse(version)
	named := false
	for _, s := range r.Specifiers {
		if s.Op == "===" {
			if !strings.EqualFold(s.Version, version) && NormalVersion(s.Version) != NormalVersion(version) {
				return false
			}
			named = true
			continue
		}
		if err != nil || !s.check(v) {
			return false
		}
		if w, err := pep440.Parse(strings.TrimSuffix(s.Version, ".*")); err == nil && w.IsPreRelease() && s.Op != "!=" {
			named = true
		}
	}
	return err == nil && !v.IsPreRelease() || named
}

func (s Specifier) check(v pep440.Version) bool {
	c, err := s.condition(pep440.WithPreRelease(true))
	return err == nil && c.Check(v)
}

// condition is the clause with its version as PEP 440 writes it, the only form that the
// library takes.
func (s Specifier) condition(options ...pep440.SpecifierOption) (pep440.Specifiers, error) {
	version, all := strings.CutSuffix(s.Version, ".*")
	version = NormalVersion(version)
	if all {
		version += ".*"
	}
	return pep440.NewSpecifiers(s.Op+version, options...)
}

// Key is the same for all requirements that ask for the same: the name and the version,
// specifiers or URL.
func (r Requirement) Key() string {
	if v, ok := r.Pin(); ok {
		return r.Name + "==" + v
	}
	if r.URL != "" {
		return r.Name + " @ " + r.URL
	}
	return r.Name + joinSpecifiers(r.Specifiers)
}

// String is the requirement as pip takes it, without its marker and hashes.
func (r Requirement) String() string {
	text := r.Written
	if len(r.Extras) > 0 {
		text += "[" + strings.Join(r.Extras, ",") + "]"
	}
	if r.URL != "" {
		return text + " @ " + r.URL
	}
	return text + joinSpecifiers(r.Specifiers)
}

// Redacted is String without the password that there may be in a URL.
func (r Requirement) Redacted() string { return Redacted(r.String()) }

func joinSpecifiers(all []Specifier) string {
	texts := make([]string, 0, len(all))
	for _, s := range all {
		texts = append(texts, s.String())
	}
	slices.Sort(texts)
	return strings.Join(texts, ",")
}

var (
	nameAtStart = regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?`)
	aloneURL    = regexp.MustCompile(`^(?:(?:git|hg|svn|bzr)\+)?[A-Za-z][A-Za-z0-9.-]*://`)
	archive     = regexp.MustCompile(`^(.+?)-([0-9][^-]*)\.(?:tar\.gz|zip|tar\.bz2|tgz|tar\.xz)$`)
	wheelFile   = regexp.MustCompile(`^([^-]+)-([^-]+)(?:-[0-9][^-]*)?-[^-]+-[^-]+-[^-]+\.whl$`)
)

// Parse reads a requirement. It may also be a URL alone, as pip allows, if the name of the
// package is to be seen in it.
func Parse(line string) (Requirement, error) {
	line = strings.TrimSpace(line)
	if aloneURL.MatchString(line) {
		return parseURL(line)
	}
	var r Requirement
	r.Written = nameAtStart.FindString(line)
	if r.Written == "" {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "/") {
			return r, errors.New("a directory or file of somebody's, and no package")
		}
		return r, errors.New("does not begin with the name of a package")
	}
	r.Name = pypi.Normalize(r.Written)
	rest := strings.TrimSpace(line[len(r.Written):])
	var err error
	if strings.HasPrefix(rest, "[") {
		if r.Extras, rest, err = extras(rest); err != nil {
			return r, err
		}
	}
	var marker string
	var marked bool
	if address, ok := strings.CutPrefix(rest, "@"); ok {
		// The semicolon of a marker needs a space in front here (PEP 508).
		address, marker, marked = cutMarker(address)
		if r.URL, err = checkURL(strings.TrimSpace(address)); err != nil {
			return r, err
		}
	} else {
		rest, marker, marked = strings.Cut(rest, ";")
		if r.Specifiers, err = specifiers(strings.TrimSpace(rest)); err != nil {
			return r, err
		}
	}
	if marked {
		if r.Marker, err = ParseMarker(marker); err != nil {
			return r, fmt.Errorf("marker: %w", err)
		}
	}
	return r, nil
}

func cutMarker(address string) (before, marker string, ok bool) {
	return strings.Cut(address, " ;")
}

func checkURL(text string) (string, error) {
	if text == "" || strings.ContainsAny(text, " \t") {
		return "", fmt.Errorf("%q is not a URL", fault.Show(text))
	}
	if strings.Contains(text, "${") {
		return "", errors.New("variables of the environment are not replaced in URLs")
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" && u.Scheme != "file" {
		return "", fmt.Errorf("%q is not a URL", fault.Show(text))
	}
	if u.Scheme == "file" {
		return "", errors.New("a directory or file of somebody's, and no package")
	}
	return text, nil
}

// parseURL reads a line that is nothing but a URL.
func parseURL(line string) (r Requirement, err error) {
	address, marker, marked := cutMarker(line)
	if r.URL, err = checkURL(strings.TrimSpace(address)); err != nil {
		return r, err
	}
	u, err := url.Parse(r.URL)
	if err != nil {
		return r, err
	}
	fragment, _ := url.ParseQuery(u.Fragment)
	file := path.Base(u.Path)
	switch {
	case fragment.Get("egg") != "":
		r.Written = fragment.Get("egg")
	case archive.MatchString(file):
		r.Written = archive.FindStringSubmatch(file)[1]
	case wheelFile.MatchString(file):
		r.Written = wheelFile.FindStringSubmatch(file)[1]
	}
	if r.Written == "" || nameAtStart.FindString(r.Written) != r.Written {
		return r, errors.New("the URL does not name its package: write NAME @ URL")
	}
	r.Name = pypi.Normalize(r.Written)
	if marked {
		if r.Marker, err = ParseMarker(marker); err != nil {
			return r, fmt.Errorf("marker: %w", err)
		}
	}
	return r, nil
}

// extras reads "[a,b]" at the start of a text.
func extras(text string) (all []string, rest string, err error) {
	inside, rest, ok := strings.Cut(text[1:], "]")
	if !ok {
		return nil, "", errors.New("the extras have no end: ] is missing")
	}
	if strings.TrimSpace(inside) == "" {
		return nil, strings.TrimSpace(rest), nil
	}
	for e := range strings.SplitSeq(inside, ",") {
		e = strings.TrimSpace(e)
		if e == "" || nameAtStart.FindString(e) != e {
			return nil, "", fmt.Errorf("%q is not the name of an extra", fault.Show(e))
		}
		all = append(all, pypi.Normalize(e))
	}
	slices.Sort(all)
	return slices.Compact(all), strings.TrimSpace(rest), nil
}

// maxVersion is how long a version may be, as in the names of wheels.
const maxVersion = 200

// operators are those of PEP 440, the long ones first.
var operators = []string{"===", "==", "~=", "!=", "<=", ">=", "<", ">"}

// specifiers reads clauses on versions: ">=1,<2", with parentheses around them or not.
func specifiers(text string) (all []Specifier, err error) {
	if inside, ok := strings.CutPrefix(text, "("); ok {
		if text, ok = strings.CutSuffix(inside, ")"); !ok {
			return nil, errors.New("the parenthesis has no end")
		}
	}
	if text = strings.TrimSpace(text); text == "" {
		return nil, nil
	}
	for clause := range strings.SplitSeq(text, ",") {
		clause = strings.TrimSpace(clause)
		i := slices.IndexFunc(operators, func(op string) bool { return strings.HasPrefix(clause, op) })
		if i < 0 {
			return nil, fmt.Errorf("%q is not a condition on versions such as ==1.0", fault.Show(clause))
		}
		s := Specifier{operators[i], strings.TrimSpace(clause[len(operators[i]):])}
		if err := s.valid(); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func (s Specifier) valid() error {
	if s.Version == "" || len(s.Version) > maxVersion || strings.ContainsAny(s.Version, " \t;)(") {
		return fmt.Errorf("%q is not a version", fault.Show(s.Version))
	}
	if s.Op == "===" {
		return nil
	}
	if _, err := pep440.Parse(strings.TrimSuffix(s.Version, ".*")); err != nil {
		return fmt.Errorf("%q is not a version (PEP 440); only === takes others", fault.Show(s.Version))
	}
	if _, err := s.condition(); err != nil {
		return fmt.Errorf("%q is not a condition on versions such as ==1.0", fault.Show(s.String()))
	}
	return nil
}
