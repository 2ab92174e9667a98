package check

import (
	"bytes"
	"context"
	"io"
	"net/url"
	"path"
	"slices"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/packed"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/rpm"
)

// rpm looks at an RPM repository.
func (l *mountLook) rpm(ctx context.Context) {
	at := l.at("repodata/repomd.xml")
	text, _, err := l.read(ctx, at, nil, rpm.MaxRepomd)
	if err != nil {
		l.failed(ctx, Index, at, err)
		return
	}
	l.top(at, text)
	if l.Keyring != nil {
		detached := l.at("repodata/repomd.xml.asc")
		signature, _, err := l.read(ctx, detached, nil, rpm.MaxRepomd)
		if err == nil {
			err = l.Keyring.Verify(text, signature)
		}
		if err != nil {
			l.failed(ctx, Signature, detached, err)
			return
		}
	}
	md, err := rpm.ParseRepomd(bytes.NewReader(text), func(what string) { l.noteOnce(Index, at, what) })
	if err != nil {
		l.failed(ctx, Index, at, err)
		return
	}
	if l.notFuture(at, md.Made) {
		l.dated(md.Made)
	}
	l.look(ctx, object{at: at, size: int64(len(text)), digest: digestOf(text), by: "an answer before", aspect: Index})
	l.metadata(ctx, at, md)
}

// metadata looks at the metadata that a repomd.xml lists, and at packages.
func (l *mountLook) metadata(ctx context.Context, at *url.URL, md *rpm.Repomd) {
	packages := picker[rpmFile]{n: l.Sample}
	others := picker[rpm.File]{n: l.Sample}
	if l.All {
		others.n = len(md.Files)
	}
	crew := newCrew(ctx)
	defer crew.wait()
	look := func(f rpmFile) {
		crew.do(func(ctx context.Context) { l.rpmFile(ctx, f, File) })
	}
	if l.All {
		packages.all = look
	}
	lists := false
	for _, f := range md.Files {
		if f.Kind != "primary" {
			others.see(f)
			continue
		}
		lists = true
		l.primary(ctx, at, f, &packages)
	}
	if !lists {
		l.fault(Index, at, "lists no primary metadata")
	}
	l.listed(packages.seen)
	for _, f := range packages.kept {
		look(f)
	}
	for _, f := range others.kept {
		crew.do(func(ctx context.Context) {
			if err := f.CheckPlace(); err != nil {
				l.failed(ctx, Index, at, err)
				return
			}
			l.rpmFile(ctx, rpmFile{f, at}, Index)
		})
	}
}

// place returns the address of a file of the repository, nil if it is said to be elsewhere,
// which is noted.
func (l *mountLook) place(ctx context.Context, by *url.URL, f rpm.File) *url.URL {
	away, err := f.Elsewhere()
	if away {
		l.noteOnce(Index, by, "lists files that are not in the repository, but at other addresses: these are not asked")
		return nil
	}
	if err == nil {
		_, err = rpm.Path("", f.Href)
	}
	var at *url.URL
	if err == nil {
		at, err = l.below(f.Href)
	}
	if err != nil {
		l.failed(ctx, Index, by, err)
		return nil
	}
	return at
}

// An rpmFile is a file, and what lists it.
type rpmFile struct {
	rpm.File
	by *url.URL
}

// rpmFile looks at a file that metadata list. dnf takes other metadata with a wrong size, if
// the checksum is right.
func (l *mountLook) rpmFile(ctx context.Context, f rpmFile, a Aspect) {
	if at := l.place(ctx, f.by, f.File); at != nil {
		l.look(ctx, object{at: at, size: f.Size, digest: f.Digest, by: shown(f.by), aspect: a, lenient: a == Index})
	}
}

// primary reads a primary.xml.
func (l *mountLook) primary(ctx context.Context, by *url.URL, f rpm.File, packages *picker[rpmFile]) {
	at := l.place(ctx, by, f)
	if at == nil {
		return
	}
	err := f.CheckPlace()
	if err == nil && slices.Contains(packed.Unreadable, path.Ext(f.Href)) {
		l.note(Index, at, "is compressed in a way that can not be read here: packages are not looked at")
		return
	}
	if err == nil {
		var s *spool
		if s, err = l.spool(ctx, at, nil, maxIndex, f.Digest, shown(by)); err == nil {
			defer s.Close()
			err = fault.Of(l.readPrimary(at, s, packages))
		}
	}
	l.failed(ctx, Index, at, err)
}

func (l *mountLook) readPrimary(at *url.URL, in io.Reader, packages *picker[rpmFile]) error {
	z, err := packed.Open(at.Path, in)
	if err != nil {
		return err
	}
	defer z.Close()
	remark := func(what string) { l.noteOnce(Index, at, what) }
	return rpm.ReadPrimary(packed.Bound(z, packed.MaxUnpacked), remark, func(f rpm.File) error {
		packages.see(rpmFile{f, at})
		return nil
	})
}
