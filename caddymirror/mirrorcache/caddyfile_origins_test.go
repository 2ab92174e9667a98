package mirrorcache

import (
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

func init() { caddy.RegisterModule(new(tape)) }

// tape is an origin of a type that nothing here knows.
type tape struct {
	origin.Dir
	Reel  string   `json:"reel,omitempty"`
	Spool []string `json:"spool,omitempty"`
}

func (*tape) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.origins.tape", New: func() caddy.Module { return new(tape) }}
}

func (*tape) Form() origin.Form {
	return origin.Form{Word: "tape://REEL", Give: "tape://REEL", Many: "tapes"}
}

func (p *tape) UnmarshalRoot(word string) (ok bool, err error) {
	p.Reel, ok = strings.CutPrefix(word, "tape://")
	return ok, nil
}

func (p *tape) UnmarshalOption(d *caddyfile.Dispenser) (ok bool, err error) {
	if d.Val() != "spool" {
		return false, nil
	}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		p.Spool = append(p.Spool, d.Val())
	}
	return true, nil
}

// TestNewOrigin: an origin of another type can be written in a Caddyfile, with options of
// its own, blocks as well, beside those that are there.
func TestNewOrigin(t *testing.T) {
	for _, c := range []struct{ mount, want string }{
		{"mount /a tape://1 {\nspool {\nleft\nright\n}\nttl 1m\n}", `"origin":"tape","reel":"1","spool":["left","right"]`},
		{"mount /a tape://1 /srv tape://2 {\ntimeout 2s\nspool {\nup\n}\n}", `{"origin":"dir","root":"/srv","timeout":2000000000},{"origin":"tape","reel":"2","spool":["up"]}`},
		{"mount /a /srv {\nspool {\nup\n}\n}", "spool is for tapes, and the mount has none"},
		{"mount /a tape://1 {\ntimeout 2s\n}", "timeout is for directories or origins in AFS, and the mount has none"},
		{"mount /a tape://1 {\nspool one\n}", "wrong argument count"},
		{"mount /a tape://1 {\nspoool\n}", "unrecognized subdirective 'spoool'"},
		{"mount /a x", "is neither an absolute path nor afs://CELL/PATH nor tape://REEL"},
		{"mount /a", "give the path of a directory, or afs://CELL/PATH, or tape://REEL"},
	} {
		h := new(Handler)
		err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser("mirror_cache {\n" + c.mount + "\n}"))
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			for n, raw := range h.Mounts[0].OriginsRaw {
				got += strings.Repeat(",", min(n, 1)) + string(raw)
			}
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("%q becomes %s, want %s", c.mount, got, c.want)
		}
	}
}
