package gate

import (
	"context"
	"hash/maphash"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
)

const (
	// lookers is how many files are looked at together: on a network file system,
	// each waits for an answer.
	lookers = 16

	// readers is how many files are read at a time.
	readers = 4

	batchSize = 64
)

// ref is a file as an index lists it.
type ref struct {
	at   int64
	name string
	by   string        // the index
	size int64         // -1 if the index does not tell
	sum  digest.Digest // empty if it is not to be compared

	// lenient is not nil if the size does not matter where the checksum is right: it is
	// called then.
	lenient func()
}

// look compares the file with what is listed. Its error may be a fault.Error.
func (r *ref) look(ctx context.Context, c *cursor) error {
	info, err := c.stat(r.name)
	if err != nil {
		return err
	}
	off := r.size >= 0 && info.Size() != r.size
	if off && (r.lenient == nil || r.sum.Kind == "") {
		return sizeDiffers(info.Size(), r.size, r.by)
	}
	if r.sum.Kind != "" {
		err = c.t.check(ctx, r.name, r.sum, r.by)
	}
	if off {
		err = offSize(err, r.sum, info.Size(), r.size, r.by, r.lenient)
	}
	return err
}

func sizeDiffers(is, says int64, by string) error {
	return fault.Errorf("its size is %d, %s says %d", is, by, says)
}

// offSize returns what is wrong with a file whose size is not the one listed, if err is
// the outcome of all else: nothing, if the checksum is right, and lenient is called.
func offSize(err error, sum digest.Digest, is, says int64, by string, lenient func()) error {
	switch {
	case err == nil && sum.Kind != "":
		lenient()
		return nil
	case err == nil || fault.Is(err):
		return sizeDiffers(is, says, by)
	}
	return err
}

// note files what was found wrong with r.
func (r *ref) note(p *problems, err error) error {
	if missing(err) {
		p.add(r.at, r.name, "is missing, %s lists it", r.by)
		return nil
	}
	return p.note(r.at, r.name, err)
}

// listed are the files that the indexes of a tree list. They are looked at while
// the indexes are read, each once.
type listed struct {
	t     *tree
	hash  bool
	found *problems
	seen  map[uint64]listing
	most  int // of seen
	seed  maphash.Seed
	count int64 // also the place of the next one

	g      *errgroup.Group
	ctx    context.Context
	cancel context.CancelCauseFunc
	queue  chan []ref
	batch  []ref
}

// listing is what was listed of a file, shortened: some trees list millions. The
// lower bits of sum are the kind of the checksum.
type listing struct {
	size int64
	sum  uint64
}

const kindBits = 1<<3 - 1

func newListed(ctx context.Context, t *tree, hash bool, found *problems) *listed {
	l := &listed{
		t: t, hash: hash, found: found,
		seen:  make(map[uint64]listing),
		most:  maxListed,
		seed:  maphash.MakeSeed(),
		queue: make(chan []ref, lookers),
	}
	ctx, l.cancel = context.WithCancelCause(ctx)
	l.g, l.ctx = errgroup.WithContext(ctx)
	n := lookers
	if hash {
		n = readers
	}
	for range n {
		l.g.Go(func() error { return guarded(l.work) })
	}
	return l
}

func (l *listed) work() error {
	c := cursor{t: l.t}
	defer c.close()
	for batch := range l.queue {
		for i := range batch {
			if err := l.ctx.Err(); err != nil {
				return err
			}
			r := &batch[i]
			if err := r.note(l.found, r.look(l.ctx, &c)); err != nil {
				return err
			}
		}
	}
	return nil
}

// place returns the place of what is looked at next.
func (l *listed) place() int64 {
	l.count++
	return l.count
}

// add has a file looked at. It fails if looking has failed.
func (l *listed) add(name, by string, size int64, sum digest.Digest) error {
	return l.queued(name, by, size, sum, l.hash, nil)
}

// addIndex is add for a file whose checksum is compared in any case.
func (l *listed) addIndex(name, by string, size int64, sum digest.Digest) error {
	return l.queued(name, by, size, sum, true, nil)
}

// addLenient is addIndex for a file whose size does not matter where the checksum is right:
// lenient is called then.
func (l *listed) addLenient(name, by string, size int64, sum digest.Digest, lenient func()) error {
	return l.queued(name, by, size, sum, true, lenient)
}

func (l *listed) queued(name, by string, size int64, sum digest.Digest, hash bool, lenient func()) error {
	at := l.place()
	key := maphash.String(l.seed, name)
	kind := uint64(slices.Index(digest.Kinds, sum.Kind)) & kindBits
	is := listing{size, maphash.String(l.seed, sum.Sum)&^kindBits | kind}
	if was, ok := l.seen[key]; ok {
		if was == is {
			return nil
		}
		if was.size == is.size && was.sum&kindBits == kind {
			l.found.add(at, name, "is listed twice, with different checksums: once by %s", by)
		}
	}
	if l.seen[key] = is; len(l.seen) > l.most {
		return tooMany(l.most)
	}
	if !hash {
		sum = digest.Digest{}
	}
	l.batch = append(l.batch, ref{at, name, by, size, sum, lenient})
	if len(l.batch) == batchSize {
		return l.flush()
	}
	return nil
}

func (l *listed) flush() error {
	if len(l.batch) == 0 {
		return nil
	}
	select {
	case l.queue <- l.batch:
	case <-l.ctx.Done():
		return context.Cause(l.ctx)
	}
	l.batch = make([]ref, 0, batchSize)
	return nil
}

// end returns when all files have been looked at, or looking has failed, or at
// once if err says that the indexes could not be read. It must be called, and
// nothing can be added after it.
func (l *listed) end(err error) error {
	if err == nil {
		err = l.flush()
	}
	if err != nil {
		l.cancel(err)
	}
	close(l.queue)
	werr := l.g.Wait()
	l.cancel(nil)
	if err != nil {
		return err
	}
	return werr
}
