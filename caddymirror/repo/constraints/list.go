package constraints

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// List is what files of requirements say together.
type List struct {
	// Requirements are in the order of the files and their lines.
	Requirements []Requirement

	// Problems are the lines that cannot be used, and Unlisted how many more there are.
	Problems []Problem
	Unlisted int

	// Remarks are options that were ignored, such as --index-url: the user of the list
	// decides where packages come from.
	Remarks []Problem
}

// Opener opens a file or URL of requirements.
type Opener func(ctx context.Context, name string) (io.ReadCloser, error)

// Load reads files and URLs of requirements, and those that they include by -r or -c,
// whose names are relative to theirs. A file that cannot be opened or read is an error: a
// list without it looks like one from which packages were removed.
func Load(ctx context.Context, open Opener, names ...string) (*List, error) {
	l := new(List)
	queue := slices.Clone(names)
	seen := map[string]bool{}
	for i := 0; i < len(queue); i++ {
		name := queue[i]
		if seen[name] {
			continue
		}
		if len(seen) == MaxFiles {
			return nil, fmt.Errorf("constraints: more than %d files", MaxFiles)
		}
		seen[name] = true
		f, err := open(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("constraints: %w", err)
		}
		included, err := l.Read(name, f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("constraints: %w", err)
		}
		queue = append(queue, included...)
	}
	return l, nil
}

// IsURL reports whether the name of a file of requirements is a URL.
func IsURL(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}

// userinfo is a name and a password in a URL (RFC 3986 section 3.2.1).
var userinfo = regexp.MustCompile(`(://[^/@\s:]*):[^/@\s]*@`)

// Redacted is text without the passwords that there may be in its URLs.
func Redacted(text string) string { return userinfo.ReplaceAllString(text, "$1:xxxxx@") }

// relative is the name of a file that another includes.
func relative(base, name string) (string, error) {
	if IsURL(name) {
		return name, nil
	}
	if !IsURL(base) {
		if filepath.IsAbs(name) {
			return name, nil
		}
		return filepath.Join(filepath.Dir(base), name), nil
	}
	b, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	ref, err := url.Parse(name)
	if err != nil {
		return "", err
	}
	u := b.ResolveReference(ref)
	if u.Scheme != b.Scheme {
		return "", errors.New("it is no URL of the same kind") // file: is none that another host may name
	}
	return u.String(), nil
}

// For returns what the list has for a Python: the requirements whose markers hold, each
// version of a package once. The same version with hashes here and without there has
// those that are known.
func (l *List) For(env Environment) []Requirement {
	var all []Requirement
	at := map[string]int{}
	for _, r := range l.Requirements {
		if !r.Marker.Holds(env) {
			continue
		}
		key := r.Key()
		i, ok := at[key]
		if !ok {
			at[key] = len(all)
			r.Hashes = slices.Clone(r.Hashes)
			all = append(all, r)
			continue
		}
		for _, h := range r.Hashes {
			if !slices.Contains(all[i].Hashes, h) {
				all[i].Hashes = append(all[i].Hashes, h)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b Requirement) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

func (l *List) problem(p Problem) {
	if len(l.Problems) == MaxProblems {
		l.Unlisted++
		return
	}
	l.Problems = append(l.Problems, p)
}

func (l *List) remark(p Problem) {
	if len(l.Remarks) < MaxProblems {
		l.Remarks = append(l.Remarks, p)
	}
}
