package apt

import (
	"strings"
	"testing"
)

func FuzzDeb822(f *testing.F) {
	f.Add("Package: a\nVersion: 1\nFilename: pool/a\nSize: 1\nSHA256: " + strings.Repeat("0", 64) + "\nDescription: x\n more\n .\n\n")
	f.Add("Package: s\nDirectory: d\nFiles:\n 00000000000000000000000000000000 3 s\n\n")
	f.Add("SHA256:\n " + strings.Repeat("0", 64) + " 1 main/binary-amd64/Packages.gz\nValid-Until: Sat, 1 Feb 2020 10:00:00 UTC\n")
	f.Fuzz(func(t *testing.T, text string) {
		see := func(file File) error {
			if file.Size < 0 {
				t.Errorf("a size of %d", file.Size)
			}
			return nil
		}
		_ = Reader{See: see}.Packages(strings.NewReader(text))
		_ = Reader{See: see}.Sources(strings.NewReader(text))
		if rel, err := ParseRelease([]byte(text), nil); err == nil && len(rel.Index) == 0 {
			t.Error("a Release that lists nothing")
		}
	})
}
