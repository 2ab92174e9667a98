package mirrorpages

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

var (
	// What apt and dnf read files of.
	fileName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	suite    = regexp.MustCompile(`^[A-Za-z0-9./_~+-]+$`)
	word     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9/._~+-]*$`)
	section  = regexp.MustCompile(`^[A-Za-z0-9_.:-]+$`)
	variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// Validate makes sure that what is configured can be written into the files: there are
// no quotes in most of them.
func (c *Clients) Validate() error {
	if err := checkPath(c.Path); err != nil || c.Path == "/" {
		return fmt.Errorf("path %q is not a URL path below the root", c.Path)
	}
	if c.URL != "" {
		var err error
		if c.url, err = parseURL(c.URL); err != nil {
			return err
		}
	}
	for _, p := range c.PyPI {
		if err := checkPath(p); err != nil {
			return fmt.Errorf("pypi: %w", err)
		}
	}
	for _, w := range c.Wheels {
		if err := w.check(); err != nil {
			return fmt.Errorf("wheel: %w", err)
		}
	}
	for i := range c.Apt {
		if err := c.Apt[i].check(); err != nil {
			return fmt.Errorf("apt %s: %w", c.Apt[i].File, err)
		}
	}
	sections := map[string]bool{}
	for i := range c.RPM {
		repo := &c.RPM[i]
		if err := repo.check(); err != nil {
			return fmt.Errorf("rpm %s: %w", repo.File, err)
		}
		if key := repo.File + " " + repo.ID; sections[key] {
			return fmt.Errorf("rpm %s: %s is there twice", repo.File, repo.ID)
		} else {
			sections[key] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Variables)) {
		if !variable.MatchString(name) {
			return fmt.Errorf("variable %q: not a name that shells take", name)
		}
		if err := checkPath(c.Variables[name]); err != nil {
			return fmt.Errorf("variable %s: %w", name, err)
		}
	}
	return nil
}

// checkPath makes sure that it is a URL path, which may end in a slash.
func checkPath(p string) error {
	if !strings.HasPrefix(p, "/") || path.Clean(p) != p && path.Clean(p)+"/" != p || strings.ContainsFunc(p, unicode.IsControl) {
		return fmt.Errorf("%q is not a plain URL path", p)
	}
	return nil
}

func (w Wheels) check() error {
	if w.Flat && len(w.Platforms) > 0 {
		return errors.New("flat, and yet with platforms")
	}
	for _, p := range w.Platforms {
		if !platformName.MatchString(p) {
			return fmt.Errorf("platform %q is not of the form ubuntu-22.04-x86_64", p)
		}
	}
	return checkPath(w.Path)
}

func (a *Apt) check() error {
	if !fileName.MatchString(a.File) {
		return fmt.Errorf("name %q is not made of letters, digits, '-' and '_'", a.File)
	}
	if err := checkPath(a.Path); err != nil {
		return err
	}
	if len(a.Suites) == 0 {
		return errors.New("there are no suites")
	}
	if a.exact() && (len(a.Components) > 0 || !allOf(a.Suites, isExact)) {
		return errors.New("suites that end in a slash have no components, and stand by themselves")
	}
	if !allOf(a.Suites, suite.MatchString) {
		return fmt.Errorf("suites %q: not all are names", a.Suites)
	}
	if !allOf(a.Components, word.MatchString) {
		return fmt.Errorf("components %q: not all are names", a.Components)
	}
	if !allOf(a.Architectures, word.MatchString) {
		return fmt.Errorf("architectures %q: not all are names", a.Architectures)
	}
	if !allOf(a.Types, func(t string) bool { return t == "deb" || t == "deb-src" }) {
		return fmt.Errorf("types %q: there are deb and deb-src", a.Types)
	}
	if a.SignedBy != "" && (!path.IsAbs(a.SignedBy) || strings.ContainsFunc(a.SignedBy, unsafe)) {
		return fmt.Errorf("signed_by %q is not an absolute path without spaces", a.SignedBy)
	}
	if a.SignedBy != "" && a.Trusted {
		return errors.New("trusted would have the signature not looked at")
	}
	return nil
}

func (repo *RPM) check() error {
	if !fileName.MatchString(repo.File) {
		return fmt.Errorf("name %q is not made of letters, digits, '-' and '_'", repo.File)
	}
	if !section.MatchString(repo.ID) || repo.ID == "main" {
		return fmt.Errorf("id %q is not made of letters, digits, '-', '_', '.' and ':', or is 'main'", repo.ID)
	}
	if err := checkPath(repo.Path); err != nil {
		return err
	}
	if strings.ContainsFunc(repo.Name, unicode.IsControl) {
		return fmt.Errorf("name %q has control characters", repo.Name)
	}
	for _, key := range repo.GPGKeys {
		u, err := url.Parse(key)
		if err != nil || !slices.Contains([]string{"file", "http", "https"}, u.Scheme) || strings.ContainsFunc(key, unsafe) {
			return fmt.Errorf("gpgkey %q is not a URL: file, http or https", key)
		}
	}
	if repo.Unsigned && len(repo.GPGKeys) > 0 {
		return errors.New("unsigned packages have no keys")
	}
	return nil
}

// unsafe tells what must not be in a value that is one of several.
func unsafe(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == ',' }

func allOf(values []string, ok func(string) bool) bool {
	return !slices.ContainsFunc(values, func(v string) bool { return !ok(v) })
}
