package check

import (
	"cmp"
	"context"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/apt"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/openpgp"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/packed"
)

// apt looks at distributions.
func (l *mountLook) apt(ctx context.Context) {
	for _, name := range l.Names {
		dir := path.Join("dists", name)
		if strings.HasSuffix(name, "/") { // a flat repository, as in sources.list(5)
			dir = path.Clean(name)
		}
		l.suite(ctx, dir)
	}
}

const dateFormat = "2006-01-02 15:04:05 MST"

// suite looks at the distribution in a directory of the mount.
func (l *mountLook) suite(ctx context.Context, dir string) {
	at, whole, text, err := l.release(ctx, dir)
	if err != nil {
		l.failed(ctx, Index, at, err)
		return
	}
	if text == nil {
		return // its signature is not good
	}
	rel, err := apt.ParseRelease(text, func(what string) { l.noteOnce(Index, at, what) })
	if err != nil {
		l.failed(ctx, Index, at, err)
		return
	}
	l.releaseDates(at, rel)
	if !slices.Contains(apt.StrongKinds, rel.Kind) {
		l.fault(Index, at, "lists no SHA256 or SHA512: apt trusts no other checksums")
	}
	l.look(ctx, object{at: at, size: int64(len(whole)), digest: digestOf(whole), by: "an answer before", aspect: Index})
	s := suite{mountLook: l, rel: rel, dir: dir, at: at}
	s.indexes(ctx)
}

// release reads the InRelease of a distribution, or its Release if there is none: the whole,
// and the text without a signature. text is nil if the signature is not good, which is noted.
func (l *mountLook) release(ctx context.Context, dir string) (at *url.URL, whole, text []byte, err error) {
	inline := l.at(path.Join(dir, "InRelease"))
	whole, _, err = l.read(ctx, inline, nil, apt.MaxRelease)
	if err == nil {
		l.top(inline, whole)
		text, err = l.inline(ctx, inline, whole)
		return inline, whole, text, err
	}
	if !isMissing(err) {
		return inline, nil, nil, err
	}
	plain := l.at(path.Join(dir, "Release"))
	if whole, _, err = l.read(ctx, plain, nil, apt.MaxRelease); err != nil {
		if isMissing(err) {
			err = fault.Errorf("%s, and so is InRelease", err)
		}
		return plain, nil, nil, err
	}
	l.top(plain, whole)
	if l.Keyring != nil && !l.detached(ctx, l.at(path.Join(dir, "Release.gpg")), whole) {
		return plain, whole, nil, nil
	}
	return plain, whole, whole, nil
}

// inline returns what is in an InRelease, nil if the signature is not good, which is noted.
func (l *mountLook) inline(ctx context.Context, at *url.URL, whole []byte) (text []byte, err error) {
	if !openpgp.IsClearsigned(whole) {
		return nil, fault.Errorf("is not signed, and apt takes no such InRelease")
	}
	if text, err = openpgp.OpenClearsigned(whole, nil); err != nil || l.Keyring == nil {
		return text, err
	}
	if _, err := openpgp.OpenClearsigned(whole, l.Keyring); err != nil {
		l.failed(ctx, Signature, at, err)
		return nil, nil
	}
	return text, nil
}

// detached reports whether a detached signature is good, and notes it if not.
func (l *mountLook) detached(ctx context.Context, at *url.URL, signed []byte) bool {
	signature, _, err := l.read(ctx, at, nil, apt.MaxRelease)
	if err == nil {
		err = l.Keyring.VerifyArmored(signed, signature)
	}
	l.failed(ctx, Signature, at, err)
	return err == nil
}

// releaseDates looks at what a Release says of time.
func (l *mountLook) releaseDates(at *url.URL, rel *apt.Release) {
	if !rel.Until.IsZero() && time.Now().After(rel.Until) {
		l.fault(Date, at, "has expired: it is valid until %s", rel.Until.UTC().Format(dateFormat))
	}
	if l.notFuture(at, rel.Date) {
		l.dated(rel.Date)
	}
}

// notFuture reports whether t is not of the future, and notes it if it is.
func (l *mountLook) notFuture(at *url.URL, t time.Time) bool {
	ahead := time.Until(t)
	if ahead > apt.MaxAhead {
		l.fault(Date, at, "is of %s, which is %v ahead of this host's clock", t.UTC().Format(dateFormat), ahead.Round(time.Second))
		return false
	}
	return true
}

// suite is a distribution.
type suite struct {
	*mountLook
	rel *apt.Release
	dir string // of its Release, in the mount
	at  *url.URL
}

// A foundIndex is an index of packages, in a form that is there.
type foundIndex struct {
	group *apt.Group
	form  apt.Index
}

// An aptFile is a file, and the index that lists it.
type aptFile struct {
	apt.File
	by *url.URL
}

// indexes looks at the indexes, and at files that they list.
func (s *suite) indexes(ctx context.Context) {
	groups := s.rel.Groups()
	lists := picker[foundIndex]{n: s.Sample}
	others := picker[apt.Index]{n: s.Sample}
	if s.All {
		lists.n, others.n = len(groups), len(s.rel.Index)
	}
	missing := 0
	for _, g := range groups {
		if ctx.Err() != nil {
			return
		}
		if !g.Lists() {
			for _, x := range g.Forms {
				others.see(x)
			}
			continue
		}
		form, ok, err := s.find(ctx, g)
		switch {
		case err != nil:
			s.failed(ctx, Index, s.at, err)
			return
		case ok:
			lists.see(foundIndex{g, form})
		case s.hasDirectory(ctx, g):
			missing++
			s.fault(Index, s.in(g.Name), "is missing in all forms, %s lists it", shown(s.at))
		}
	}
	if lists.seen == 0 && missing == 0 && ctx.Err() == nil {
		s.fault(Index, s.at, "lists no Packages or Sources that is here")
	}
	files := picker[aptFile]{n: s.Sample}
	crew := newCrew(ctx)
	defer crew.wait()
	look := func(f aptFile) { crew.do(func(ctx context.Context) { s.file(ctx, f) }) }
	if s.All {
		files.all = look
	}
	for _, x := range lists.kept {
		s.list(ctx, x, &files)
	}
	s.listed(files.seen)
	for _, f := range files.kept {
		look(f)
	}
	for _, x := range others.kept {
		crew.do(func(ctx context.Context) { s.other(ctx, x) })
	}
}

// in is the address of something in the directory of the Release.
func (s *suite) in(name string) *url.URL { return s.mountLook.at(path.Join(s.dir, name)) }

// find returns the form of an index of packages that takes the least to read, of those that
// are there. Mirrors leave out forms, and architectures.
func (s *suite) find(ctx context.Context, g *apt.Group) (form apt.Index, ok bool, err error) {
	forms := slices.Clone(g.Forms)
	cost := func(x apt.Index) int { return slices.Index(packed.Endings, packed.Ending(x.Name)) }
	forms = slices.DeleteFunc(forms, func(x apt.Index) bool { return x.Fault != nil || cost(x) < 0 })
	slices.SortStableFunc(forms, func(a, b apt.Index) int {
		return cmp.Or(cmp.Compare(a.Size, b.Size), cmp.Compare(cost(a), cost(b)))
	})
	for _, x := range forms {
		there, err := s.is(ctx, s.in(x.Name))
		if there || err != nil {
			return x, there, err
		}
	}
	return form, false, nil
}

// hasDirectory reports whether the directory of an index is mirrored: archives list the
// Release that lies beside each index, and mirrors have it if they have the architecture.
func (s *suite) hasDirectory(ctx context.Context, g *apt.Group) bool {
	dir := path.Dir(g.Name)
	if dir == "." {
		return false
	}
	for _, x := range s.rel.Index {
		if x.Name == path.Join(dir, "Release") {
			there, _ := s.is(ctx, s.in(x.Name))
			return there
		}
	}
	return false
}

// list reads an index of packages.
func (s *suite) list(ctx context.Context, x foundIndex, files *picker[aptFile]) {
	at := s.in(x.form.Name)
	sp, err := s.spool(ctx, at, nil, x.form.Size, x.form.Digest, shown(s.at))
	if err == nil {
		defer sp.Close()
		if sp.size != x.form.Size {
			err = fault.Errorf("has %d bytes, %s says %d", sp.size, shown(s.at), x.form.Size)
		}
	}
	if err == nil {
		err = fault.Of(s.parse(x, sp, files))
	}
	s.failed(ctx, Index, at, err)
	if err == nil && s.rel.ByHash {
		s.byHash(ctx, x.form)
	}
}

func (s *suite) parse(x foundIndex, in io.Reader, files *picker[aptFile]) error {
	z, err := packed.Open(x.form.Name, in)
	if err != nil {
		return err
	}
	defer z.Close()
	by := s.in(x.form.Name)
	text := packed.Bound(z, packed.MaxUnpacked)
	r := apt.Reader{
		See: func(f apt.File) error { files.see(aptFile{f, by}); return nil },
		Odd: func(what string) { s.noteOnce(Index, by, what) },
	}
	if path.Base(x.group.Name) == "Sources" {
		return r.Sources(text)
	}
	return r.Packages(text)
}

// byHash looks at an index under the name by its checksum, which apt asks for first. Mirrors
// may leave these out.
func (s *suite) byHash(ctx context.Context, x apt.Index) {
	at := s.in(x.ByHash())
	there, err := s.is(ctx, at)
	switch {
	case err != nil:
		s.failed(ctx, Index, at, err)
	case !there:
		s.noteOnce(Index, s.at, "says that its indexes are there by hash, and they are not: apt asks twice for each")
	default:
		s.look(ctx, object{at: at, size: x.Size, digest: x.Digest, by: shown(s.at), aspect: Index})
	}
}

// file looks at a package, or a file of a source.
func (s *suite) file(ctx context.Context, f aptFile) {
	at, err := s.below(f.Name)
	if err != nil {
		s.failed(ctx, Index, f.by, err)
		return
	}
	s.look(ctx, object{at: at, size: f.Size, digest: f.Digest, by: shown(f.by), aspect: File})
}

// other looks at an index that lists no packages, if it is there.
func (s *suite) other(ctx context.Context, x apt.Index) {
	if x.Fault != nil {
		return
	}
	at := s.in(x.Name)
	if there, err := s.is(ctx, at); err != nil || !there {
		s.failed(ctx, Index, at, err)
		return
	}
	s.look(ctx, object{at: at, size: x.Size, digest: x.Digest, by: shown(s.at), aspect: Index})
}

// below returns the address of what an index lists relative to the mount. Names that lead
// out of it are refused.
func (l *mountLook) below(name string) (*url.URL, error) {
	clean := path.Join("/", name)
	if strings.IndexByte(name, 0) >= 0 || name == "" || clean == "/" {
		return nil, fault.Errorf("lists %s, which is not the name of a file", fault.Show(name))
	}
	depth := 0
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return nil, fault.Errorf("lists %s, which leads out of the repository", fault.Show(name))
			}
		default:
			depth++
		}
	}
	return l.at(strings.TrimPrefix(clean, "/")), nil
}
