package mirror

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/diskcache"
)

// Cache is a directory on a local disk that holds objects, and its limits.
type Cache struct {
	// Path of the directory. It is made if it is not there, with mode 0700,
	// and no other process can use it meanwhile. Give it to nothing else.
	//
	// Default: `mirror/cache/NAME` in Caddy's data directory.
	Path string `json:"path,omitempty"`

	// MaxSize is the most bytes that the cache ever has on disk, in allocated
	// blocks and with everything that belongs to it. Default: 10 GiB.
	MaxSize int64 `json:"max_size,omitempty"`

	// MinFree is what the cache leaves free on its file system, in bytes or
	// percent ("5%"); where others fill it, the cache shrinks. "0" turns it
	// off. Default: "2%".
	MinFree string `json:"min_free,omitempty"`

	// MaxObject is the largest object in bytes that is cached; larger ones
	// are passed through. -1 means no limit but MaxSize. Default: a quarter
	// of MaxSize.
	MaxObject int64 `json:"max_object,omitempty"`

	// Memory is the most bytes of small objects (up to 1 MiB, and to a 64th
	// of Memory) that are held in memory, so that hot ones are served without
	// a system call. -1 turns it off. Default: 64 MiB.
	Memory int64 `json:"memory,omitempty"`

	// MaxFills is how many objects are copied from origins into the cache at a
	// time; for one mount three quarters of these at most. More wait for their
	// turn, the mounts one after another. Default: 128.
	MaxFills int `json:"max_fills,omitempty"`

	limits diskcache.Limits
	log    *zap.Logger

	mu     sync.Mutex // guards opened and key; taken before no other lock of ours
	opened bool
	key    string
	live   atomic.Pointer[live]
}

const (
	defaultMaxSize = 10 << 30
	defaultMinFree = "2%"
	defaultMemory  = 64 << 20
)

// provision fills in defaults and checks what can be checked without the disk.
func (c *Cache) provision(name string, log *zap.Logger) error {
	repl := caddy.NewReplacer()
	path, err := repl.ReplaceOrErr(c.Path, true, true)
	if err != nil {
		return fmt.Errorf("path: %w", err)
	}
	if path == "" {
		path = filepath.Join(caddy.AppDataDir(), "mirror", "cache", name)
	}
	if c.Path, err = filepath.Abs(path); err != nil {
		return fmt.Errorf("path: %w", err)
	}
	if c.MaxSize == 0 {
		c.MaxSize = defaultMaxSize
	}
	if c.MinFree == "" {
		c.MinFree = defaultMinFree
	}
	switch c.MaxObject {
	case 0:
		c.MaxObject = c.MaxSize / 4
	case -1:
		c.MaxObject = c.MaxSize
	}
	switch c.Memory {
	case 0:
		c.Memory = defaultMemory
	case -1:
		c.Memory = 0
	}
	if c.MaxFills == 0 {
		c.MaxFills = diskcache.DefaultFills
	}
	minFree, err := diskcache.ParseFree(c.MinFree)
	if err != nil {
		return fmt.Errorf("min_free: %w", err)
	}
	c.limits = diskcache.Limits{MaxSize: c.MaxSize, MinFree: minFree, MaxObject: c.MaxObject, Memory: c.Memory, Fills: c.MaxFills}
	c.log = log.With(zap.String("cache", name), zap.String("path", c.Path))
	return c.limits.Validate()
}

// Open is the open cache, or nil: while it is not started yet, or while its
// disk is away. What cannot be cached then is passed through.
func (c *Cache) Open() *diskcache.Cache {
	if l := c.live.Load(); l != nil {
		return l.cache.Load()
	}
	return nil
}

// Hold keeps the cache open for a fill, whatever becomes of the configuration,
// until release is called. It reports false if the cache is closed.
func (c *Cache) Hold() (release func(), ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.opened {
		return nil, false
	}
	key := c.key
	if _, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) {
		return nil, errors.New("not open")
	}); err != nil {
		return nil, false
	}
	return func() {
		if _, err := pool.Delete(key); err != nil {
			c.log.Error("closing cache", zap.Error(err))
		}
	}, true
}

// pool holds the open caches of the process, by the real path of their
// directory. Configurations and fills have references.
var pool = caddy.NewUsagePool()

// live is an open cache, or one that is to be opened once its disk is back.
type live struct {
	path  string
	cache atomic.Pointer[diskcache.Cache]
	stop  chan struct{}
	done  sync.WaitGroup

	mu    sync.Mutex
	users []*Cache // of configurations that have it, in the order they came
}

// join notes a configuration that has come. Its limits apply once those before
// it have gone: it may fail yet, and must then have changed nothing.
func (l *live) join(c *Cache) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users = append(l.users, c)
	return l.resize()
}

// leave notes that a configuration has gone.
func (l *live) leave(c *Cache) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users = slices.DeleteFunc(l.users, func(u *Cache) bool { return u == c })
	return l.resize()
}

// resize applies the limits of the configuration that came first. Needs mu.
func (l *live) resize() error {
	cache := l.cache.Load()
	if cache == nil || len(l.users) == 0 {
		return nil
	}
	return cache.Resize(l.users[0].limits)
}

func (c *Cache) start() error {
	key, err := soonPath(c.Path)
	if err != nil {
		return fmt.Errorf("making cache directory: %w", err)
	}
	v, _, err := pool.LoadOrNew(key, func() (caddy.Destructor, error) { return c.openLive(key) })
	if err != nil {
		return err
	}
	l := v.(*live)
	c.mu.Lock()
	c.opened, c.key = true, key
	c.mu.Unlock()
	c.live.Store(l)
	return l.join(c)
}

func (c *Cache) stop() error {
	c.mu.Lock()
	opened, key := c.opened, c.key
	c.opened = false
	c.mu.Unlock()
	if !opened {
		return nil
	}
	err := c.live.Load().leave(c)
	_, derr := pool.Delete(key)
	return errors.Join(err, derr)
}

// openLive opens the cache. Trouble with the disk is not an error, nor is a disk that
// does not answer: the mirror has to serve without, and the cache is opened when the
// disk is well again.
func (c *Cache) openLive(path string) (caddy.Destructor, error) {
	l := &live{path: path, stop: make(chan struct{})}
	headroom()
	opening := c.open(path)
	select {
	case o := <-opening:
		if o.err == nil {
			l.cache.Store(o.cache)
			return l, nil
		}
		if !isDisk(o.err) {
			return nil, o.err
		}
		opening = nil
		c.log.Error("cannot open cache: serving without it until its disk is well again", zap.Error(o.err))
	case <-time.After(patience):
		c.log.Error("cannot open cache: its disk does not answer; serving without it until it does")
	}
	l.done.Go(func() { c.retry(l, path, opening) })
	return l, nil
}

// opened is a cache that was opened, or why it was not.
type opened struct {
	cache *diskcache.Cache
	err   error
}

// open opens the cache in the background: its disk may hang. If an earlier one of the
// same directory is still being closed, it waits for that.
func (c *Cache) open(path string) <-chan opened {
	done := make(chan opened, 1)
	go func() {
		if earlier, ok := closing.Load(path); ok {
			<-earlier.(chan struct{})
		}
		cache, err := diskcache.Open(path, c.limits, c.log)
		done <- opened{cache, err}
	}()
	return done
}

const retryEvery = 5 * time.Second

// patience is how long the disk of a cache may take to be opened or closed before it
// counts as one that does not answer.
const patience = 5 * time.Second

// retry waits for the cache that is being opened, or opens it every now and then.
func (c *Cache) retry(l *live, path string, opening <-chan opened) {
	for {
		var again <-chan time.Time
		if opening == nil {
			again = time.After(retryEvery)
		}
		select {
		case <-l.stop:
			if opening != nil {
				go closeLate(opening) // it may hang on
			}
			return
		case <-again:
			opening = c.open(path)
		case o := <-opening:
			opening = nil
			if o.err != nil {
				continue
			}
			c.log.Info("cache is open")
			l.mu.Lock()
			l.cache.Store(o.cache)
			err := l.resize()
			l.mu.Unlock()
			if err != nil {
				c.log.Error("resizing cache", zap.Error(err))
			}
			return
		}
	}
}

// closeLate closes a cache that nobody waits for any more.
func closeLate(opening <-chan opened) {
	if o := <-opening; o.cache != nil {
		o.cache.Close()
	}
}

// closing are the caches that are being closed: channels that are closed after that, by
// path.
var closing sync.Map

// Destruct closes the cache, when nothing refers to it any more. A disk that hangs holds
// up neither a reload nor the end of the process.
func (l *live) Destruct() error {
	close(l.stop)
	l.done.Wait()
	c := l.cache.Load()
	if c == nil {
		return nil
	}
	closed := make(chan struct{})
	closing.Store(l.path, closed)
	done := make(chan error, 1)
	go func() {
		defer close(closed)
		defer closing.CompareAndDelete(l.path, closed)
		done <- c.Close()
	}()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		logger().Error("cannot close cache: its disk does not answer; it is closed once it does", zap.String("path", l.path))
		return nil
	}
}

// isDisk tells an ailing disk from a wrong configuration.
func isDisk(err error) bool {
	for _, e := range []error{unix.EIO, unix.EROFS, unix.ENOSPC, unix.EDQUOT, unix.ESTALE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// soonPath is the real path, or path as it is where the disk does not answer.
func soonPath(path string) (string, error) {
	type result struct {
		path string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		p, err := realPath(path)
		done <- result{p, err}
	}()
	select {
	case r := <-done:
		return r.path, r.err
	case <-time.After(patience):
		return path, nil
	}
}

// realPath resolves the symbolic links of a directory that need not be there.
func realPath(path string) (string, error) {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil && !isDisk(err) { //nolint:gosec // as mkdir(1): only the cache is private
		return "", err
	}
	if parent, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		return filepath.Join(parent, filepath.Base(path)), nil
	}
	return path, nil // its opening will show
}
