package wheelindex

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/origin"
)

const (
	// listPatience is how long a request waits for directories that are being listed,
	// and readPatience for files that are being read. Together they are less than mounts
	// wait by default before they serve what is stale.
	listPatience = 500 * time.Millisecond
	readPatience = 300 * time.Millisecond

	// firstPatience is how long a request waits for directories if nothing was listed
	// before. pip waits for 15 seconds.
	firstPatience = 10 * time.Second

	// listAgain is how long a listing is used where the origin has no releases.
	listAgain = 5 * time.Second
)

// token is what stands for the index in a release of its origin.
type token struct{ inner, outer string }

func newBoot() string { return rand.Text()[:8] }

// Release implements [origin.Tree]. It is the origin's, and that of what is known of its
// files: the same again after a restart, if all is known.
func (x *Index) Release(ctx context.Context) origin.Release {
	r := x.from.Release(ctx)
	t := x.token.Load()
	if t == nil || t.inner != r.Token {
		x.mu.Lock()
		x.notice(r)
		x.mu.Unlock()
		t = x.token.Load()
	}
	if r.Token != "" && t.inner == r.Token {
		r.Token = t.outer
	}
	return r
}

// notice begins a new tree where there is none of a release. Needs mu.
func (x *Index) notice(r origin.Release) {
	if x.newest == nil || x.newest.token != r.Token && !r.Seen.Before(x.newest.seen) {
		x.begin(r)
	}
}

// begin begins a new tree, which the lock is needed for.
func (x *Index) begin(r origin.Release) {
	if !x.started {
		x.started = true
		x.start()
	}
	if x.newest != nil {
		x.newest.cancel()
	}
	x.newest = x.newTree(r)
	x.unsettle()
	go x.build(x.newest)
}

// unsettle makes a token that was not there before: what is said not to be there is asked
// for again once there is another. Needs mu.
func (x *Index) unsettle() {
	x.gen++
	inner := x.newest.token
	if inner == "" {
		x.token.Store(&token{})
		return
	}
	x.token.Store(&token{inner, inner + "~" + x.boot + "." + strconv.FormatUint(x.gen, 36)})
}

// renew lists a tree again, if it is the newest.
func (x *Index) renew(t *tree) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.newest == t && x.conf.Context.Err() == nil {
		x.begin(origin.Release{Token: t.token, Seen: t.seen})
	}
}

// tree is the newest one. Where the origin has no releases, it is listed again if that
// was long ago.
func (x *Index) tree(ctx context.Context) *tree {
	x.Release(ctx)
	x.mu.Lock()
	t := x.newest
	x.mu.Unlock()
	if t.token != "" || !t.isDone() || time.Since(t.began) < max(listAgain, 20*t.took) {
		return t
	}
	x.renew(t)
	x.mu.Lock()
	again := x.newest
	x.mu.Unlock()
	if t.took > listPatience {
		return t
	}
	wait(ctx, again.done, listPatience)
	if again.isDone() {
		return again
	}
	return t
}

// wait waits for something, but not for longer than d.
func wait(ctx context.Context, done <-chan struct{}, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// adopt takes a tree that was listed, and has its files read, but for those that are
// young.
func (x *Index) adopt(t *tree) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.newest != t {
		return
	}
	x.walked = t
	there := make(map[string]*fact, len(x.known))
	var unknown []*file
	for f := range t.all() {
		if f.young != nil {
			t.young = append(t.young, f)
			continue
		}
		if f.wrong != "" {
			continue
		}
		if k := x.factOf(f); k != nil && !k.passing {
			there[f.path] = k
		} else {
			there[f.path] = nil
			unknown = append(unknown, f)
		}
	}
	x.queue.keep(func(f *file) bool { k, ok := there[f.path]; return ok && k == nil })
	for _, f := range unknown {
		delete(there, f.path)
		x.queue.add(f, false)
	}
	x.known = there
}

// settled reports whether all files of the newest tree are known, and makes a token of
// them then.
func (x *Index) settled(t *tree) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.newest != t {
		return true
	}
	if len(x.queue.jobs) > 0 {
		return false
	}
	if t.token != "" {
		h := sha256.New()
		for f := range t.all() {
			state := f.wrong
			if f.young != nil {
				state = "young " + x.why(f)
			} else if k := x.factOf(f); k != nil && !k.other {
				state += k.Reason
			} else {
				state += "?"
			}
			fmt.Fprintf(h, "%q %q %q\n", f.path, f.info.Validator, state)
		}
		x.token.Store(&token{t.token, t.token + "~" + hex.EncodeToString(h.Sum(nil)[:8])})
	}
	x.whole = t
	return true
}

// all are the files of a tree that was listed, in order.
func (t *tree) all() func(yield func(*file) bool) {
	return func(yield func(*file) bool) {
		for _, name := range slices.Sorted(maps.Keys(t.roots)) {
			r := t.roots[name]
			for _, project := range slices.Sorted(maps.Keys(r.projects)) {
				for _, f := range r.projects[project] {
					if !yield(f) {
						return
					}
				}
			}
		}
	}
}

// factOf is what is known of a file, or nil. Needs mu.
func (x *Index) factOf(f *file) *fact {
	if k := x.known[f.path]; k != nil && f.info.Validator != "" && k.Validator == f.info.Validator {
		return k
	}
	return nil
}

// files are those of a project, also those that are left out.
func (x *Index) files(ctx context.Context, t *tree, root, project string) []*file {
	files, _, _ := x.find(ctx, t, root, project)
	return files
}

// find returns the files of a project. all is false if there may be others: as long as
// the tree is being listed.
func (x *Index) find(ctx context.Context, t *tree, root, project string) (files []*file, all bool, err error) {
	if t.isDone() {
		return t.of(root, project), true, nil
	}
	waiting, cancel := x.patient(ctx)
	files, err = t.near(waiting, root, project)
	cancel()
	if err == nil && len(files) == 0 {
		// They may lie elsewhere.
		wait(ctx, t.done, listPatience)
		if t.isDone() {
			return t.of(root, project), true, nil
		}
	}
	if err == nil {
		return files, false, nil
	}
	x.mu.Lock()
	newest := x.newest
	x.mu.Unlock()
	if newest != t {
		return x.find(ctx, newest, root, project)
	}
	// What was there before is better than nothing.
	if old := x.before(); old != nil {
		return old.of(root, project), false, nil
	}
	return nil, false, err
}

// patience is how long to wait for directories that are being listed.
func (x *Index) patience() time.Duration {
	if x.before() == nil {
		return firstPatience
	}
	return listPatience
}

// patient bounds a call that waits for directories.
func (x *Index) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, x.patience())
}

// before is the newest tree that was listed to its end, or nil.
func (x *Index) before() *tree {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.walked
}

// of are the files of a project of a tree that was listed.
func (t *tree) of(root, project string) []*file {
	if r := t.roots[root]; r != nil {
		return r.projects[project]
	}
	return nil
}

// projects are the names of all projects that have a file which is not left out, as far
// as they are known.
func (x *Index) projects(ctx context.Context, t *tree, root string) (names func(yield func(string) bool)) {
	if !t.isDone() {
		wait(ctx, t.done, x.patience())
	}
	if !t.isDone() {
		if old := x.before(); old != nil {
			t = old
		}
	}
	var r *index
	if t.isDone() {
		r = t.roots[root]
	} else {
		r = t.part(root)
	}
	return func(yield func(string) bool) {
		if r == nil {
			return
		}
		for _, name := range r.names {
			if x.anyListed(r.projects[name]) && !yield(name) {
				return
			}
		}
	}
}

// anyListed reports whether one of the files is not left out.
func (x *Index) anyListed(files []*file) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return slices.ContainsFunc(files, func(f *file) bool { return x.why(f) == "" })
}

// why tells why a file is left out; empty if it is not. Needs mu.
func (x *Index) why(f *file) string {
	if f.wrong != "" {
		return f.wrong
	}
	if f.young.isTorn() {
		return "was changed just now, and may be being written"
	}
	if k := x.factOf(f); k != nil {
		return k.Reason
	}
	return ""
}

// part is what is known of an index before it was listed to its end.
func (t *tree) part(name string) *index {
	roots := map[string]*index{}
	t.mu.Lock()
	for _, d := range t.dirs {
		select {
		case <-d.done:
			if d.err == nil {
				t.sort(roots, d)
			}
		default:
		}
	}
	t.mu.Unlock()
	r := roots[name]
	if r != nil {
		r.settle()
	}
	return r
}
