package origin

import (
	"io/fs"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/caddyafs"
)

// Written is an origin that a Caddyfile can have: as one word after the prefix of its
// mount, with options in the block of the mount. Modules of the namespace mirror.origins
// that implement it need not be known to anybody.
type Written interface {
	caddy.Module

	// Form says how such origins are written.
	Form() Form

	// UnmarshalRoot takes the word. It reports false if that is of another form, so
	// that the origin is of another type.
	UnmarshalRoot(word string) (ok bool, err error)

	// UnmarshalOption takes the option that d is at, and its arguments. It reports
	// false if these origins have no such option. Several origins of a mount may each
	// be given the same one.
	UnmarshalOption(d *caddyfile.Dispenser) (ok bool, err error)
}

// Joiner is a [Written] of which one may have several words.
type Joiner interface {
	// JoinRoot takes one more word. It reports false if that is an origin of its own.
	JoinRoot(word string) (ok bool, err error)
}

// Repeater is a [Written] of which some options may be given again.
type Repeater interface {
	// Repeat reports whether that holds for an option.
	Repeat(option string) bool
}

// Form is how an origin is written, in messages.
type Form struct {
	Word string // the form of the word: "an absolute path"
	Give string // what to give: "the path of a directory"
	Many string // what these origins are called: "directories"
}

// AllWritten are origins of all types that can be written, one each and empty: those
// whose form has a scheme are last.
func AllWritten() []Written {
	var all []Written
	for _, info := range caddy.GetModules("mirror.origins") {
		if w, ok := info.New().(Written); ok {
			all = append(all, w)
		}
	}
	scheme := func(w Written) int { return strings.Count(w.Form().Word, "://") }
	slices.SortStableFunc(all, func(a, b Written) int { return scheme(a) - scheme(b) })
	return all
}

// Form implements [Written].
func (*Dir) Form() Form {
	return Form{Word: "an absolute path", Give: "the path of a directory", Many: "directories"}
}

// UnmarshalRoot implements [Written]. What begins with a placeholder may be a path.
func (d *Dir) UnmarshalRoot(word string) (ok bool, err error) {
	if !strings.HasPrefix(word, "/") && !strings.HasPrefix(word, "{") {
		return false, nil
	}
	d.Root = word
	return true, nil
}

// UnmarshalOption implements [Written]:
//
//	timeout        <duration>
//	release_check  <duration>
//	release_marker <file>
//	release_volume afs://<cell>:<volume>
func (d *Dir) UnmarshalOption(disp *caddyfile.Dispenser) (ok bool, err error) {
	switch option := disp.Val(); option {
	case "timeout":
		return true, UnmarshalDuration(disp, &d.Timeout)
	case "release_check":
		return true, UnmarshalDuration(disp, &d.ReleaseCheck)
	case "release_marker":
		if !disp.NextArg() {
			return true, disp.ArgErr()
		}
		d.ReleaseMarker = disp.Val()
		if d.ReleaseMarker == "." || !fs.ValidPath(d.ReleaseMarker) {
			return true, disp.Errf("%s: %q is not a path relative to the root", option, d.ReleaseMarker)
		}
	case "release_volume":
		if !disp.NextArg() {
			return true, disp.ArgErr()
		}
		d.ReleaseVolume = disp.Val()
		if _, err := caddyafs.ParseRoot(d.ReleaseVolume); err != nil {
			return true, disp.Errf("%s %s: %v", option, d.ReleaseVolume, err)
		}
	default:
		return false, nil
	}
	return true, nil
}

// Form implements [Written].
func (*AFS) Form() Form {
	const word = caddyafs.Scheme + "CELL/PATH"
	return Form{Word: word, Give: word, Many: "origins in AFS"}
}

// UnmarshalRoot implements [Written]. Placeholders are looked at when it is provisioned.
func (a *AFS) UnmarshalRoot(word string) (ok bool, err error) {
	if !strings.HasPrefix(word, caddyafs.Scheme) {
		return false, nil
	}
	a.Root = word
	if strings.Contains(word, "{") {
		return true, nil
	}
	_, err = caddyafs.ParseRoot(word)
	return true, err
}

// UnmarshalOption implements [Written]:
//
//	timeout       <duration>
//	release_check <duration>
//	read_write
func (a *AFS) UnmarshalOption(d *caddyfile.Dispenser) (ok bool, err error) {
	switch d.Val() {
	case "timeout":
		return true, UnmarshalDuration(d, &a.Timeout)
	case "release_check":
		return true, UnmarshalDuration(d, &a.ReleaseCheck)
	case "read_write":
		a.ReadWrite = true
		return true, nil
	}
	return false, nil
}

// UnmarshalDuration reads the argument of an option: a duration above 0.
func UnmarshalDuration(d *caddyfile.Dispenser, into *caddy.Duration) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	v, err := caddy.ParseDuration(d.Val())
	if err != nil {
		return d.Errf("parsing duration: %v", err)
	}
	if v <= 0 {
		return d.Errf("duration %s is not positive", d.Val())
	}
	*into = caddy.Duration(v)
	return nil
}

// Interface guards
var (
	_ Written = (*Dir)(nil)
	_ Written = (*AFS)(nil)
)
