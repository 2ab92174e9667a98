package wheels

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/process"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/pypi"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/wheel"
	"github.com/unifiedmirrors/mirror/caddymirror/sandbox"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// script builds one wheel, in a directory of its own. All that is in the environment is
// this Python; what a build needs pip fetches into another. That there is no environment
// is not the package's fault: the user of builds may not come to the Python.
const script = `umask 022
"$1" -I -m venv --without-pip venv || exit 119
exec venv/bin/python -I "$2" wheel --no-deps --wheel-dir out -r requirement.txt`

// exitNoVenv is how the script ends that cannot make an environment. Neither pip nor the
// sandbox ends so.
const exitNoVenv = 119

// make builds a wheel and puts it into its place. An error ends the run.
func (f *farm) make(ctx context.Context, w want) (state, error) {
	f.tally.begin("building " + w.String())
	if err := w.python.ready(); err != nil {
		return 0, err
	}
	b := &build{f: f, w: w, dir: filepath.Join(f.work, fmt.Sprint(f.nextBuild.Add(1)))}
	defer func() { _ = removeAll(b.dir) }()
	log, err := newBuildLog(f.r.State, w)
	if err != nil {
		return 0, err
	}
	defer log.close()
	file, err := b.run(ctx, log)
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	failed, ok := errors.AsType[*packageError](err)
	switch {
	case ok:
		return f.failed(w, log.keep(), failed.reason)
	case err != nil:
		return 0, err
	}
	defer os.Remove(file.path)
	return f.publish(ctx, w, file)
}

// publish puts a wheel into its place, unless another requirement of the same version, as
// its URL, has brought it there before.
func (f *farm) publish(ctx context.Context, w want, file *made) (state, error) {
	f.placing.Lock()
	defer f.placing.Unlock()
	became := kept
	if !f.published.hasFile(file.name) {
		if err := f.helper(ctx, "place", file.path, f.place(file.name, file.wheel)); err != nil {
			return 0, err
		}
		f.published.add(file.name)
		f.r.Changes.Add(pypi.Normalize(file.wheel.Project))
		f.r.Changes.Add(w.req.Name)
		became = built
	}
	return became, f.memory.change(func(m *memory) {
		if became == built {
			m.Built[file.name] = file.sha256
		}
		delete(m.Failures, w.key())
		if w.req.URL != "" {
			m.From[w.req.Key()] = append(m.From[w.req.Key()], file.name)
		}
	})
}

// failed remembers and tells that a wheel cannot be built.
func (f *farm) failed(w want, log, reason string) (state, error) {
	fail, err := f.memory.fail(w.key(), reason, log, time.Now())
	if err != nil {
		return 0, err
	}
	f.r.Log.Warn("wheel cannot be built", zap.String("requirement", w.req.Redacted()), zap.String("file", w.req.File), zap.Int("line", w.req.Line),
		zap.String("python", w.python.name), zap.String("reason", reason), zap.String("log", log), zap.Time("next", fail.Next))
	fmt.Fprintf(f.r.Out, "%s: %s (%s)\n", w, reason, log)
	f.tally.failed(w.String() + ": " + reason)
	return broken, nil
}

// A packageError says that a package is to blame.
type packageError struct{ reason string }

func (e *packageError) Error() string { return e.reason }

func blame(format string, args ...any) error {
	return &packageError{fmt.Sprintf(format, args...)}
}

// build is one under way.
type build struct {
	f   *farm
	w   want
	dir string
}

// made is a wheel that was built, in a file that only Caddy can write to.
type made struct {
	path, name string
	wheel      wheel.Name
	sha256     string
}

// run builds a wheel.
func (b *build) run(ctx context.Context, log *buildLog) (*made, error) {
	if err := b.prepare(); err != nil {
		return nil, err
	}
	socket := b.dir + ".sock"
	door, err := openDoor(ctx, socket, b.f.hosts, &b.f.bytes)
	if err != nil {
		return nil, err
	}
	defer os.Remove(socket)
	defer door.close()
	spec := b.dir + ".json"
	defer os.Remove(spec)
	if err := b.spec(socket).Write(spec); err != nil {
		return nil, err
	}
	name, args, err := sandbox.Command(spec)
	if err != nil {
		return nil, err
	}
	_, err = b.f.r.Command(ctx, step.Command{
		Name: name, Args: args, Dir: b.f.work, Env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.f.work}, Out: log, Untrusted: true,
		Line: b.f.heed,
	})
	if err != nil {
		return nil, b.why(ctx, err, log, door)
	}
	return b.take(ctx)
}

// heed tells, once in a run, what the sandbox has said that it cannot do here.
func (f *farm) heed(line string) {
	if !strings.HasPrefix(line, sandbox.Lacks) {
		return
	}
	if _, told := f.told.LoadOrStore(line, true); !told {
		f.r.Log.Warn("builds are not confined as they could be", zap.String("why", line))
	}
}

// prepare makes the directory of the build.
func (b *build) prepare() error {
	for _, dir := range []string{"", "home", "tmp", "out"} {
		dir = filepath.Join(b.dir, dir)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if b.f.w.uid != nil {
			if err := os.Chown(dir, *b.f.w.uid, *b.f.w.gid); err != nil {
				return err
			}
		}
	}
	words := []string{b.w.req.String()}
	for _, h := range b.w.req.Hashes {
		words = append(words, "--hash="+h)
	}
	text := strings.Join(words, " ") + "\n"
	return os.WriteFile(filepath.Join(b.dir, "requirement.txt"), []byte(text), 0o644) //nolint:gosec // for whom the build runs as
}

// spec is what runs, and within which bounds.
func (b *build) spec(socket string) *sandbox.Spec {
	w := b.f.w
	s := &sandbox.Spec{
		Args: []string{"/bin/sh", "-c", script, "sh", b.w.python.path, b.w.python.Pip},
		Dir:  b.dir, Writable: []string{b.dir}, Env: b.environment(),
		UID: w.uid, GID: w.gid,
		Time: time.Duration(w.Timeout), Memory: w.memory, Processes: w.Processes, Disk: w.disk,
		Proxy: socket, Require: w.Sandbox == "on", Free: w.Sandbox == "off",
	}
	return s
}

// environment is the whole environment of a build.
func (b *build) environment() []string {
	env := map[string]string{
		"PATH": os.Getenv("PATH"), "LANG": "C.UTF-8",
		"HOME": filepath.Join(b.dir, "home"), "TMPDIR": filepath.Join(b.dir, "tmp"),
		// Nothing of this host's pip, and no other index.
		"PIP_CONFIG_FILE": os.DevNull, "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1",
		"PIP_PROGRESS_BAR": "off", "PIP_ROOT_USER_ACTION": "ignore", "PIP_USE_PEP517": "1",
		"PIP_NO_CLEAN":  "1", // whether the disk is full is seen afterwards
		"PIP_INDEX_URL": b.f.w.index.String(), "PIP_RETRIES": "2", "PIP_TIMEOUT": "60",
	}
	if b.f.w.index.Scheme == "http" {
		env["PIP_TRUSTED_HOST"] = b.f.w.index.Host
	}
	for _, name := range []string{"http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "PIP_PROXY"} {
		env[name] = "http://{proxy}"
	}
	maps.Copy(env, b.f.w.Env)
	all := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		all = append(all, name+"="+env[name])
	}
	return all
}

// What a build prints is believed of quotas, which statfs does not tell. That the disk is
// full is believed only where that is nearly so: builds print anything, and what is full
// may be a file system of their own, as /dev/shm.
var (
	diskFull  = regexp.MustCompile(`No space left on device`)
	overQuota = regexp.MustCompile(`Disk quota exceeded`)
)

// isFull reports whether the disk of builds is full, by what a build that has failed has
// printed and left there.
func isFull(dir, text string) bool {
	left := free(dir)
	return left < 16<<20 || left < 1<<30 && diskFull.MatchString(text) || overQuota.MatchString(text)
}

// why says whose fault it is that a build has failed.
func (b *build) why(ctx context.Context, err error, log *buildLog, door *doorman) error {
	exit, ok := errors.AsType[*process.ExitError](err)
	if !ok {
		return err
	}
	text := log.tail()
	switch exit.Status.ExitStatus() {
	case sandbox.ExitRefused, sandbox.ExitEnded:
		return fmt.Errorf("builds cannot run: %s", exit.Last)
	case sandbox.ExitTime, sandbox.ExitMemory, sandbox.ExitProcesses, sandbox.ExitDisk:
		return blame("%s", strings.TrimPrefix(exit.Last, "sandbox: "))
	}
	if isFull(b.f.work, text) {
		return fmt.Errorf("the disk of %s is full: %w", b.f.work, syscall.ENOSPC)
	}
	if exit.Status.ExitStatus() == exitNoVenv {
		return fmt.Errorf("%s: builds have no virtual environment: %s", b.w.python.name, complaint(text))
	}
	// An index that is gone is not the package's fault.
	if _, err := b.f.index.page(ctx, b.w.req.Name); err != nil {
		return err
	}
	reason := complaint(text)
	if hosts := door.turnedAway(); len(hosts) > 0 {
		reason += "; it has asked for " + strings.Join(hosts, ", ") + ", which it may not reach (allow_hosts)"
	}
	return blame("%s", redacted(reason, b.f.w.index))
}

func free(dir string) int64 {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return 1 << 62
	}
	return int64(s.Bavail) * s.Bsize
}

// complaint is the line of what pip has printed that says most: of the output of the
// build that it quotes, what a compiler says, or the end; else the last error of its own.
func complaint(text string) string {
	quoted, own, _ := strings.Cut(text, "[end of output]")
	lines := strings.Split(text, "\n")
	if len(quoted) < len(text) {
		lines = strings.Split(quoted, "\n")
	}
	said, last := "", ""
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		last = line
		switch {
		case strings.Contains(line, "fatal error: "), said == "" && compilerError.MatchString(line), own == "" && strings.HasPrefix(line, "ERROR: "):
			said = line
		}
	}
	if said = cmp.Or(said, last); said == "" {
		said = "pip failed, and has printed nothing"
	}
	return fault.Show(said)
}

// compilerError is what compilers say: FILE:LINE:COLUMN: error: WHAT.
var compilerError = regexp.MustCompile(`:[0-9]+: error: `)

// take takes the wheel out of a build that has ended. Strangers have written there.
func (b *build) take(ctx context.Context) (*made, error) {
	root, err := os.OpenRoot(b.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	out, err := root.Open("out")
	if err != nil {
		return nil, blame("its output cannot be read: %v", err)
	}
	names, err := out.Readdirnames(1000)
	out.Close()
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, blame("its output cannot be read: %v", err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasSuffix(n, ".whl") })
	if len(names) != 1 {
		return nil, blame("pip has left %d wheels, and not one", len(names))
	}
	m := &made{name: names[0], path: b.dir + ".whl"}
	if m.sha256, err = b.copy(root, names[0], m.path); err != nil {
		return nil, err
	}
	if err := b.check(ctx, m); err != nil {
		os.Remove(m.path)
		return nil, err
	}
	return m, nil
}

// copy copies what the build has left to where it cannot write.
func (b *build) copy(root *os.Root, name, to string) (sum string, err error) {
	info, err := root.Lstat("out/" + name)
	if err != nil || !info.Mode().IsRegular() {
		return "", blame("%s is no file", fault.Show(name))
	}
	in, err := root.Open("out/" + name)
	if err != nil {
		return "", blame("%v", err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	return hex.EncodeToString(h.Sum(nil)), errors.Join(err, out.Close())
}

// check makes sure that a wheel is one, and the one that is wanted.
func (b *build) check(ctx context.Context, m *made) error {
	f, err := os.Open(m.path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	opened, err := wheel.Open(f, info.Size(), m.name)
	if err == nil {
		err = opened.Verify(ctx)
	}
	switch {
	case fault.Is(err):
		return blame("%s %v", fault.Show(m.name), err)
	case err != nil:
		return err
	}
	m.wheel = opened.Name
	switch {
	case pypi.Normalize(m.wheel.Project) != b.w.req.Name:
		return blame("%s has come of it, another package", m.name)
	case b.w.req.URL == "" && !b.w.req.Allows(m.wheel.Version):
		return blame("%s has come of it, another version", m.name)
	case !compatible(m.wheel, b.w.python.tags):
		return blame("%s has come of it, which %s cannot use", m.name, b.w.python.name)
	}
	return nil
}

// redacted is a text without the index's password.
func redacted(text string, index *url.URL) string {
	if p, ok := index.User.Password(); ok && p != "" {
		text = strings.ReplaceAll(text, p, "****")
	}
	return text
}
