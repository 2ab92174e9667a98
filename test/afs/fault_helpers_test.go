package afs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/afscell/cell"
	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// generations are files of a volume that are all written anew for each release, so
// that each byte tells the release that it is from. The values are sizes.
type generations struct {
	names []string
	sizes map[string]int
}

func (g *generations) add(size int, format string, n int) {
	if g.sizes == nil {
		g.sizes = map[string]int{}
	}
	for i := range n {
		name := fmt.Sprintf(format, i)
		g.names = append(g.names, name)
		g.sizes[name] = size
	}
}

// write writes all files, in the order in which they were added.
func (g *generations) write(t testing.TB, v *cell.Volume, gen int) {
	t.Helper()
	for _, name := range g.names {
		if dir, _, ok := cutLast(name); ok {
			try(t, v.MkdirAll(t.Context(), dir))
		}
		try(t, v.WriteFile(t.Context(), name, contents(name, g.sizes[name], gen), cell.Attr{}))
	}
}

func cutLast(name string) (dir, base string, ok bool) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// contents is a file of one generation: its number, and noise that no other file
// and no other generation has.
func contents(name string, size, gen int) []byte {
	b := fmt.Appendf(make([]byte, 0, size), "%d\n", gen)
	h := fnv.New128a()
	fmt.Fprintf(h, "%d %s", gen, name)
	var seed [32]byte
	h.Sum(seed[:0])
	n := len(b)
	b = b[:size]
	_, _ = rand.NewChaCha8(seed).Read(b[n:]) // never fails
	return b
}

var errMixed = errors.New("bytes of no generation")

// generation tells of which generation a file is, all of it.
func (g *generations) generation(name string, b []byte) (int, error) {
	line, _, _ := bytes.Cut(b[:min(len(b), 10)], []byte("\n"))
	gen, err := strconv.Atoi(string(line))
	if err != nil || !bytes.Equal(b, contents(name, g.sizes[name], gen)) {
		return 0, fmt.Errorf("%s, %d bytes: %w (%.10q)", name, len(b), errMixed, b)
	}
	return gen, nil
}

// timeout is that of a mirror's origin, by default, and never how long an answer
// may take and a bit.
const (
	timeout = 10 * time.Second
	never   = timeout + 2*time.Second
)

// witness asks a mirror for files of a volume, and holds the answers against each
// other: each is of one generation, no file goes back to an older one, and neither
// does the volume, but for what is said to be stale.
type witness struct {
	srv   *testcaddy.Server
	mount string
	files *generations

	mu     sync.Mutex
	newest int
	of     map[string]int
}

func newWitness(srv *testcaddy.Server, mount string, files *generations) *witness {
	return &witness{srv: srv, mount: mount, files: files, of: map[string]int{}}
}

// reply is an answer of a mirror that a witness has nothing against.
type reply struct {
	status int
	cache  string
	gen    int // 0 unless status is 200
	took   time.Duration
}

// hit reports whether the answer is from the cache alone.
func (r reply) hit() bool { return strings.HasPrefix(r.cache, "mirror; hit") }

func (r reply) stale() bool { return strings.Contains(r.cache, "origin-away") }

func (w *witness) before(name string) (newest, own int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newest, w.of[name]
}

func (w *witness) saw(name string, r reply) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.of[name] = max(w.of[name], r.gen)
	if !r.stale() {
		w.newest = max(w.newest, r.gen)
	}
}

// ask asks for a file. Its error is a fault of the mirror, or a connection that was
// cut off.
func (w *witness) ask(name string) (reply, error) {
	newest, own := w.before(name)
	ctx, cancel := context.WithTimeout(context.Background(), 3*never)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.srv.URL+w.mount+"/"+name, nil)
	if err != nil {
		return reply{}, err
	}
	start := time.Now()
	resp, err := w.srv.Client.Do(req)
	if err != nil {
		return reply{}, fmt.Errorf("%s/%s after %v: %w", w.mount, name, time.Since(start), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	r := reply{status: resp.StatusCode, cache: resp.Header.Get("Cache-Status"), took: time.Since(start)}
	if err != nil {
		return r, fmt.Errorf("%s/%s cut off after %v: %w", w.mount, name, r.took, err)
	}
	switch r.status {
	case http.StatusOK:
		if r.gen, err = w.files.generation(name, body); err != nil {
			return r, err
		}
		if r.gen < own {
			return r, fmt.Errorf("%s of generation %d, after one of %d (%s)", name, r.gen, own, r.cache)
		}
		if r.gen < newest && !r.stale() {
			return r, fmt.Errorf("%s of generation %d, after others of %d (%s)", name, r.gen, newest, r.cache)
		}
		w.saw(name, r)
	case http.StatusServiceUnavailable:
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err != nil || s < 1 || s > 60 {
			return r, fmt.Errorf("%s: 503 with Retry-After %q", name, resp.Header.Get("Retry-After"))
		}
	}
	return r, nil
}

// get is ask for those who do not expect errors, nor to wait without end. Files
// over 1 MiB may take what they take.
func (w *witness) get(t testing.TB, name string) reply {
	t.Helper()
	r, err := w.ask(name)
	if err != nil {
		t.Error(err)
	}
	if r.took > never && w.files.sizes[name] <= 1<<20 {
		t.Errorf("%s: answered %d after %v", name, r.status, r.took)
	}
	return r
}

// cold is get of a file that is not cached.
func (w *witness) cold(t testing.TB, name string) reply {
	t.Helper()
	if _, err := w.srv.Purge(w.mount, "/"+name, ""); err != nil {
		t.Errorf("purging %s: %v", name, err)
	}
	return w.get(t, name)
}

// want checks an answer.
func (r reply) want(t testing.TB, what string, status, gen int) {
	t.Helper()
	if r.status != status || r.gen != gen {
		t.Errorf("%s: status %d and generation %d after %v (%s), want %d and %d",
			what, r.status, r.gen, r.took.Round(time.Millisecond), r.cache, status, gen)
	}
}

// coldAll reads files that are not cached, all at once, and checks the answers. It
// returns how long the slowest took.
func (w *witness) coldAll(t testing.TB, names []string, status, gen int) time.Duration {
	t.Helper()
	var mu sync.Mutex
	var slowest time.Duration
	_ = cell.Each(names, func(name string) error {
		r := w.cold(t, name)
		r.want(t, w.mount+"/"+name+", not cached", status, gen)
		mu.Lock()
		defer mu.Unlock()
		slowest = max(slowest, r.took)
		return nil
	})
	return slowest
}

// cachedAll reads files that are cached.
func (w *witness) cachedAll(t testing.TB, names []string, gen int) {
	t.Helper()
	for _, name := range names {
		r := w.get(t, name)
		r.want(t, w.mount+"/"+name+", cached", http.StatusOK, gen)
		if !r.hit() {
			t.Errorf("%s/%s: %q, want a hit", w.mount, name, r.cache)
		}
	}
}

// p99 is what the slowest hundredth of cached answers takes, in the best of some
// whiles: other processes disturb one or the other, a fault all of them.
func (w *witness) p99(t testing.TB, names []string) time.Duration {
	t.Helper()
	const whiles, length = 3, 500 * time.Millisecond
	best := time.Hour
	for range whiles {
		var all []time.Duration
		for end := time.Now().Add(length); time.Now().Before(end); {
			r := w.get(t, names[rand.IntN(len(names))])
			if r.status != http.StatusOK || !r.hit() {
				t.Errorf("a cached file: status %d, %q", r.status, r.cache)
				return 0
			}
			all = append(all, r.took)
		}
		slices.Sort(all)
		best = min(best, all[len(all)*99/100])
	}
	return best
}

// journal reads the log of a mirror from where it began.
type journal struct {
	srv  *testcaddy.Server
	from int
}

func newJournal(srv *testcaddy.Server) journal { return journal{srv, len(srv.Logs())} }

// lines are those with all of the words, but for those about what tests ask of the
// admin API, and about certificates.
func (j journal) lines(words ...string) []string {
	var found []string
	for line := range strings.Lines(j.srv.Logs()[j.from:]) {
		if strings.Contains(line, `"admin.api"`) || strings.Contains(line, `"logger":"tls`) {
			continue
		}
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			found = append(found, line)
		}
	}
	return found
}

// tells checks that the log says so, soon, and that it does not go on about it.
func (j journal) tells(t testing.TB, soon time.Duration, most int, words ...string) {
	t.Helper()
	for end := time.Now().Add(soon); len(j.lines(words...)) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("after %v the log has no line with %q", soon, words)
			return
		}
	}
	if found := j.lines(words...); len(found) > most {
		t.Errorf("%d log lines with %q, want %d at most:\n%s", len(found), words, most, strings.Join(found[:most+1], ""))
	}
}

// brief checks that the log has not grown by many lines: there is none for each
// request.
func (j journal) brief(t testing.TB, most int) {
	t.Helper()
	if all := j.lines(); len(all) > most {
		t.Errorf("%d log lines, want %d at most:\n%s", len(all), most, strings.Join(all[:most+1], ""))
	}
}
