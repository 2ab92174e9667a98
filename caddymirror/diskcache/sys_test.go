package diskcache

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

// harmless is what of the packages that call the file system does not.
var harmless = regexp.MustCompile(`^(os\.(O_\w+|Getpid|SameFile)|(unix|syscall)\.(E[A-Z]+|O_\w+|S_\w+|Stat_t))$`)

// TestCallsInOneFile: all calls to the file system are made in sys.go, where they
// are checked to be off Cache.mu.
func TestCallsInOneFile(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, file := range files {
		name := file.Name()
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || name == "sys.go" {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := sel.X.(*ast.Ident)
			if !ok || pkg.Obj != nil {
				return true
			}
			switch pkg.Name {
			case "os", "unix", "syscall":
				if what := pkg.Name + "." + sel.Sel.Name; !harmless.MatchString(what) {
					t.Errorf("%s: %s belongs into sys.go", fset.Position(sel.Pos()), what)
				}
			case "ioutil", "exec":
				t.Errorf("%s: package %s calls the file system", fset.Position(sel.Pos()), pkg.Name)
			case "filepath":
				if s := sel.Sel.Name; s == "Glob" || s == "EvalSymlinks" || strings.HasPrefix(s, "Walk") || s == "Abs" {
					t.Errorf("%s: filepath.%s calls the file system", fset.Position(sel.Pos()), s)
				}
			}
			return true
		})
		looked++
	}
	if looked < 10 {
		t.Errorf("looked at %d files only", looked)
	}
}

// TestOffLock: the check itself, where it is made.
func TestOffLock(t *testing.T) {
	t.Parallel()
	if !raceEnabled() {
		t.Skip("made with the race detector only")
	}
	panics := func() (yes bool) {
		defer func() { yes = recover() != nil }()
		_, _ = sysStat(os.DevNull)
		return false
	}
	var mu mutex
	mu.Lock()
	other := make(chan bool)
	go func() { other <- panics() }()
	if mine, its := panics(), <-other; !mine || its {
		t.Errorf("the holder's call panics: %t; another's: %t", mine, its)
	}
	mu.Unlock()
	if panics() {
		t.Error("panics without the lock")
	}
}
