package pypi

import "testing"

func TestNormalize(t *testing.T) {
	for name, want := range map[string]string{
		"foo": "foo", "Foo": "foo", "foo.bar": "foo-bar", "foo__bar": "foo-bar", "foo-_.bar": "foo-bar", "foo--bar": "foo-bar",
		"-foo-": "-foo-", "__": "-", "": "", "FÖÖ_bar": "föö-bar",
	} {
		if got := Normalize(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
