package constraints

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
)

var debian = Environment{
	"python_version": "3.11", "python_full_version": "3.11.2", "os_name": "posix", "sys_platform": "linux",
	"platform_system": "Linux", "platform_machine": "x86_64", "platform_python_implementation": "CPython",
	"implementation_name": "cpython", "implementation_version": "3.11.2", "platform_release": "6.1.0-13-amd64",
	"platform_version": "#1 SMP Debian 6.1.55-1", "extra": "",
}

func read(t *testing.T, text string) *List {
	t.Helper()
	l := new(List)
	if _, err := l.Read("c.txt", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return l
}

func names(all []Requirement) (names []string) {
	for _, r := range all {
		names = append(names, r.String())
	}
	return names
}

const sha = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// TestLines: what pip reads in a line is read, and only that.
func TestLines(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string // with the number of the line
	}{
		{"", nil},
		{"\n  \n# nothing\n   # nothing either \\\n", nil},
		{"voluptuous===0.15.2\n", []string{"1 voluptuous===0.15.2"}},
		{"a==1\r\nb==2\rc==3", []string{"1 a==1", "2 b==2", "3 c==3"}},
		{"\xef\xbb\xbfa==1", []string{"1 a==1"}},
		{"\xff\xfea\x00=\x00=\x001\x00\n\x00", []string{"1 a==1"}},
		{"a==1 # why\nb==2# no comment", []string{"1 a==1"}}, // a problem
		{"a == 1.0 \\\n  --hash=" + sha + " \\\n  --hash " + sha + "\nb==2", []string{"1 a==1.0", "4 b==2"}},
		{"a==1 \\\n# a comment ends it\nb==2", []string{"1 a==1", "3 b==2"}},
		{"a==1 # a comment \\\nthat goes on\nb==2", []string{"1 a==1", "3 b==2"}},
		{"a==1\\", []string{"1 a==1"}},
		{"zope.Interface [b, A] (>=1,<2)", []string{"1 zope.Interface[a,b]<2,>=1"}},
		{"a[]", []string{"1 a"}},
		{"a @ https://example.org/a-1.tar.gz#sha256=12 ; python_version<'4'", []string{"1 a @ https://example.org/a-1.tar.gz#sha256=12"}},
		{"a@git+https://example.org/a;b", []string{"1 a @ git+https://example.org/a;b"}},
		{"https://example.org/x/My.Name-1.0.tar.gz", []string{"1 My.Name @ https://example.org/x/My.Name-1.0.tar.gz"}},
		{"git+https://example.org/x#egg=name", []string{"1 name @ git+https://example.org/x#egg=name"}},
		{"--index-url https://evil.example.org\n-i https://x\n--pre\na==1", []string{"4 a==1"}},
	} {
		l := read(t, c.text)
		var got []string
		for _, r := range l.Requirements {
			got = append(got, fmt.Sprint(r.Line, " ", r))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%q is %q, problems %v", c.text, got, l.Problems)
		}
	}
	l := read(t, "a==1 --hash="+sha+"\n--index-url=https://evil.example.org")
	if !slices.Equal(l.Requirements[0].Hashes, []string{sha}) {
		t.Errorf("hashes %q", l.Requirements[0].Hashes)
	}
	if len(l.Remarks) != 1 || l.Remarks[0].String() != "c.txt:2: --index-url is passed over: --index-url=https://evil.example.org" {
		t.Errorf("remarks %v", l.Remarks)
	}
}

// TestProblems: each line that cannot be used is told with its number, and the others are
// kept.
func TestProblems(t *testing.T) {
	for line, want := range map[string]string{
		"=1.0":                        "does not begin with the name",
		"-":                           "option - is not known",
		"é==1":                        "does not begin with the name",
		"a==":                         `"" is not a version`,
		"a=1":                         "is not a condition",
		"a==1,":                       "is not a condition",
		"a==1 b==2":                   "is not a version",
		"a==2013-02-16x":              "only === takes others",
		"a>=1.*":                      "is not a condition",
		"a~=1":                        "is not a condition",
		"a (==1":                      "no end",
		"a[b":                         "] is missing",
		"a[b;c]==1":                   "not the name of an extra",
		"a @":                         "not a URL",
		"a @ x":                       "not a URL",
		"a @ file:///etc/passwd":      "of somebody's",
		"a @ https://${TOKEN}@x/y":    "variables",
		"./dir":                       "of somebody's",
		"/dir/a-1.tar.gz":             "of somebody's",
		"https://example.org/x":       "does not name its package",
		"-e git+https://x#egg=a":      "editable",
		"--frob":                      "not known",
		"-r":                          "without a file",
		"-i":                          "without an argument",
		"--pre x":                     "has no argument",
		"a==1 --hash=md5:12":          "not a hash",
		"a==1 --hash":                 "without a hash",
		"a==1 --config-settings=x=y":  "not known here",
		"a==1; python_version":        "comparison is missing",
		"a==1; python_version<":       "no end",
		"a==1; pythn_version<'3'":     "neither a variable",
		"a==1; python_version<'3":     "quotation mark is missing",
		"a==1; (python_version<'3'":   "no end",
		"a==1; python_version<'3' or": "no end",
		"a==1; python_version<'3' x":  "too much",
		"a==1; 'a'=='a'":              "two texts",
		"a==1;":                       "no end",
		"a==1\x00":                    "NUL",
		"a==1\xff":                    "not UTF-8",
		"a==1; " + strings.Repeat("(", 100) + "os_name=='x'" + strings.Repeat(")", 100): "too deep",
		"a==1; " + strings.Repeat("os_name=='x' or ", 5000) + "os_name=='x'":            "longer than",
	} {
		l := read(t, "before==1\n\n"+line+"\nafter==2\n")
		if len(l.Problems) != 1 || l.Problems[0].Line != 3 || l.Problems[0].File != "c.txt" || !strings.Contains(l.Problems[0].Reason, want) {
			t.Errorf("%.60q: %v", line, l.Problems)
			continue
		}
		if text := l.Problems[0].String(); !strings.HasPrefix(text, "c.txt:3: ") || len(text) > 1000 {
			t.Errorf("%.60q is told as %q", line, text)
		}
		if got := names(l.Requirements); !slices.Equal(got, []string{"before==1", "after==2"}) {
			t.Errorf("%.60q: the others are %q", line, got)
		}
	}
	l := read(t, strings.Repeat("=\n", MaxProblems+7))
	if len(l.Problems) != MaxProblems || l.Unlisted != 7 {
		t.Errorf("%d problems are kept, and %d counted", len(l.Problems), l.Unlisted)
	}
}

// TestFor: of several branches all versions are wanted, each once, for each Python its own.
func TestFor(t *testing.T) {
	l := read(t, "b==1.0\na===2.0;python_version=='3.11'\na===1.0;python_version>='3.12'\n")
	if _, err := l.Read("2", strings.NewReader("A==2\nB==1.0 --hash="+sha+"\nb==1.1\nb>=1\nc @ https://x/c\n")); err != nil {
		t.Fatal(err)
	}
	all := l.For(debian)
	// 2.0 and 2 are two texts; what is the same is the text that a wheel's name has.
	want := []string{"a===2.0", "A==2", "b==1.0", "b==1.1", "b>=1", "c @ https://x/c"}
	if got := names(all); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if len(all[2].Hashes) != 1 || len(l.Requirements[0].Hashes) != 0 {
		t.Errorf("hashes %q, of the file %q", all[2].Hashes, l.Requirements[0].Hashes)
	}
}

func TestLoad(t *testing.T) {
	files := map[string]string{
		"/c/main.txt":                 "-r sub/a.txt\n-chttps://example.org/x/b.txt\nm==1",
		"/c/sub/a.txt":                "--requirement=../main.txt\n-c \"../b.txt\"\na==1",
		"/c/b.txt":                    "b==1",
		"https://example.org/x/b.txt": "-r c.txt\nb==2",
		"https://example.org/x/c.txt": "c==1",
	}
	open := func(_ context.Context, name string) (io.ReadCloser, error) {
		text, ok := files[name]
		if !ok {
			return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		return io.NopCloser(strings.NewReader(text)), nil
	}
	l, err := Load(t.Context(), open, "/c/main.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got := names(l.For(debian)); !slices.Equal(got, []string{"a==1", "b==2", "b==1", "c==1", "m==1"}) {
		t.Errorf("got %q", got)
	}
	delete(files, "/c/b.txt")
	if _, err := Load(t.Context(), open, "/c/main.txt"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is missing: %v", err)
	}
	for i := range MaxFiles + 1 {
		files[fmt.Sprint("/", i)] = fmt.Sprint("-r ", i+1)
	}
	if _, err := Load(t.Context(), open, "/0"); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("without end: %v", err)
	}
	files["https://example.org/x/c.txt"] = "-r file:///etc/passwd"
	if l, err := Load(t.Context(), open, "https://example.org/x/b.txt"); err != nil || len(l.Problems) != 1 {
		t.Errorf("a URL that includes a local file: %v, %v", l, err)
	}
}

func TestLimits(t *testing.T) {
	l := new(List)
	if _, err := l.Read("x", io.LimitReader(zeros{}, MaxFile+1)); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Error(err)
	}
	if _, err := l.Read("x", strings.NewReader(strings.Repeat("a\n", MaxRequirements+1))); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Error(err)
	}
	endless := read(t, strings.Repeat("a\\\n", 100_000)+"\nb==1")
	if len(endless.Problems) != 1 || len(endless.Requirements) != 1 {
		t.Errorf("a line that goes on: %v", endless.Problems)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func FuzzRead(f *testing.F) {
	f.Add("a==1 ; python_version < '3' --hash=" + sha + "\n-r x\n\\\n#\r\nb[c]>=1,<2 # x")
	f.Add("\xff\xfea\x00")
	f.Add("a @ https://x/y ; (os_name == 'nt' or 'x' not in extra) and python_version ~= '3.1'")
	f.Fuzz(func(t *testing.T, text string) {
		l := new(List)
		if _, err := l.Read("f", strings.NewReader(text)); err != nil {
			return
		}
		lines := strings.Count(text, "\n") + strings.Count(text, "\r") + 1
		if len(l.Requirements)+len(l.Problems)+len(l.Remarks) > lines {
			t.Errorf("more than one thing in a line")
		}
		for _, r := range l.For(debian) {
			again, err := Parse(r.String())
			if err != nil || again.Key() != r.Key() || again.Name != pypi.Normalize(again.Name) {
				t.Errorf("%q is read as %q, %v", r, again, err)
			}
		}
	})
}

// TestRedacted: what is told of a requirement has no password in it; what pip is given has.
func TestRedacted(t *testing.T) {
	for line, want := range map[string]string{
		"a @ https://me:secret@h/a-1.0.tar.gz": "a @ https://me:xxxxx@h/a-1.0.tar.gz",
		"a @ git+https://me:secret@h/a@v1":     "a @ git+https://me:xxxxx@h/a@v1",
		"A[x]==1.0":                            "A[x]==1.0",
	} {
		r, err := Parse(line)
		if err != nil || r.Redacted() != want || r.String() != line {
			t.Errorf("%s: %q, pip is given %q, %v", line, r.Redacted(), r.String(), err)
		}
	}
}

// TestRedactedFile: the password in the URL of a list is told nobody, and what the list
// includes is found with it.
func TestRedactedFile(t *testing.T) {
	const base = "https://me:secret@h/lists/upper.txt"
	l := new(List)
	included, err := l.Read(base, strings.NewReader("a==1.0\nb=1\n-r more.txt\n-x https://me:secret@h/\n"))
	if err != nil || len(included) != 1 || included[0] != "https://me:secret@h/lists/more.txt" {
		t.Errorf("included %q, %v", included, err)
	}
	if text := fmt.Sprint(l.Requirements, l.Problems); strings.Contains(text, "secret") || !strings.Contains(text, "me:xxxxx@h/lists/upper.txt") {
		t.Error(text)
	}
	if len(l.Problems) != 2 {
		t.Errorf("%d problems, want 2", len(l.Problems))
	}
}
