package releaser

import (
	"context"
	"slices"
	"testing"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// TestVos is how vos is run: by what, and as whom.
func TestVos(t *testing.T) {
	admin := &step.Kerberos{Keytab: "/etc/afsadmin.keytab", Principal: "service/afsadmin"}
	for _, test := range []struct {
		a    AFS
		v    afs.Volume
		want []string
	}{
		{AFS{}, afs.Volume{}, []string{"vos", "release", "v", "-cell", "c", "-verbose"}},
		{AFS{LocalAuth: true}, afs.Volume{}, []string{"vos", "release", "v", "-cell", "c", "-verbose", "-localauth"}},
		{AFS{Prefix: []string{"ssh", "fs1"}, Vos: "/usr/sbin/vos"}, afs.Volume{}, []string{"ssh", "fs1", "/usr/sbin/vos", "release", "v", "-cell", "c", "-verbose"}},
		{AFS{Kerberos: admin}, afs.Volume{}, []string{"vos", "release", "v", "-cell", "c", "-verbose"}},
	} {
		a := test.a
		if a.cell = "c"; a.Vos == "" {
			a.Vos = "vos"
		}
		test.v.Name = "v"
		r := &step.Run{Command: func(_ context.Context, c step.Command) (step.Result, error) {
			if got := append([]string{c.Name}, c.Args...); !slices.Equal(got, test.want) || !c.Finish || c.Kerberos != a.Kerberos {
				t.Errorf("%+v: runs %q, %+v", test.a, got, c)
			}
			return step.Result{}, nil
		}}
		if err := a.vos(t.Context(), r, test.v); err != nil {
			t.Error(err)
		}
	}
}
