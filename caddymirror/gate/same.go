package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/digest"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

const (
	defaultSameTimeout = time.Minute
	defaultSameSize    = 64 << 20
)

func init() {
	caddy.RegisterModule(new(Same))
}

// Same lets a tree pass in which one file is the same as at the master that all
// mirrors follow, such as `repomd.xml`. It tells whether the mirror that the tree
// came from is up to date. Without an answer of the master, the gate can not
// look, and the tree does not pass either.
type Same struct {
	// The address of the file at the master, `http` or `https`. Required.
	URL string `json:"url,omitempty"`

	// The name of the file, relative to the tree. Required.
	File string `json:"file,omitempty"`

	// How long the master may take. Default: `1m`.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How large the file may be, in bytes. Default: 64 MiB.
	MaxSize int64 `json:"max_size,omitempty"`

	client *http.Client
}

// CaddyModule returns the Caddy module information.
func (*Same) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.gates.same", New: func() caddy.Module { return new(Same) }}
}

// Provision sets up the gate.
func (s *Same) Provision(caddy.Context) error {
	if s.Timeout == 0 {
		s.Timeout = caddy.Duration(defaultSameTimeout)
	}
	if s.MaxSize == 0 {
		s.MaxSize = defaultSameSize
	}
	// No connection is kept until the next run, and bytes stay as they are sent.
	s.client = &http.Client{Transport: &http.Transport{
		Proxy:              http.ProxyFromEnvironment,
		ForceAttemptHTTP2:  true,
		DisableKeepAlives:  true,
		DisableCompression: true,
	}}
	return nil
}

// Validate checks the settings.
func (s *Same) Validate() error {
	u, err := url.Parse(s.URL)
	switch {
	case err != nil:
		return fmt.Errorf("url: %w", err)
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("url: %q is not an http or https address", s.URL)
	case s.File == "":
		return errors.New("no file")
	case s.Timeout < 0:
		return errors.New("timeout must be positive")
	case s.MaxSize < 0:
		return errors.New("max_size must be positive")
	}
	return validPath(s.File)
}

// Check implements Gate.
func (s *Same) Check(ctx context.Context, r *step.Run) error {
	return within(ctx, func(ctx context.Context) error { return s.check(ctx, r) })
}

func (s *Same) check(ctx context.Context, r *step.Run) error {
	t, err := openTree(r)
	if err != nil {
		return err
	}
	defer t.close()
	var found problems
	f, _, err := t.open(s.File)
	if err != nil {
		if err := found.note(0, s.File, err); err != nil {
			return fmt.Errorf("opening %s: %w", s.File, err)
		}
		return found.err("same")
	}
	defer f.Close()

	newProgress(ctx, r, "same").report(-1, "asking %s", s.URL)
	master, changed, err := s.fetch(ctx)
	if err != nil {
		return fmt.Errorf("asking the master for %s: %w", s.URL, err)
	}
	ours, err := digest.Of(ctx, f, master.Kind)
	if err != nil {
		return fmt.Errorf("reading %s: %w", s.File, err)
	}
	if ours != master {
		if changed != "" {
			changed = " of " + fault.Show(changed)
		}
		found.add(0, s.File, "its sha256 is %x, that of %s%s is %x", ours.Sum, s.URL, changed, master.Sum)
	}
	return found.err("same")
}

// fetch returns the checksum of the file that the master has, and when it says
// that it was changed.
func (s *Same) fetch(ctx context.Context) (sum digest.Digest, changed string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(s.Timeout),
		fmt.Errorf("no answer within %s", time.Duration(s.Timeout)))
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return digest.Digest{}, "", err
	}
	req.Header.Set("Cache-Control", "no-cache") // of a mirror, a cache is no master
	resp, err := s.client.Do(req)
	if err != nil {
		if uerr, ok := errors.AsType[*url.Error](err); ok {
			err = uerr.Err // the address is told already
		}
		return digest.Digest{}, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return digest.Digest{}, "", fmt.Errorf("it answers %s", resp.Status)
	}
	body := &io.LimitedReader{R: resp.Body, N: s.MaxSize + 1}
	sum, err = digest.Of(ctx, body, "sha256")
	if err != nil {
		return digest.Digest{}, "", err
	}
	if body.N <= 0 {
		return digest.Digest{}, "", fmt.Errorf("the file has more than %s (max_size)", humanize.IBytes(uint64(s.MaxSize)))
	}
	return sum, resp.Header.Get("Last-Modified"), nil
}

// UnmarshalCaddyfile sets up the gate:
//
//	same <url> <file> {
//		timeout  <duration>
//		max_size <size>
//	}
func (s *Same) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the gate's name
	if !d.Args(&s.URL, &s.File) || d.CountRemainingArgs() > 0 {
		return d.ArgErr()
	}
	if err := s.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return options(d, map[string]option{
		"timeout": {1, 1, func(args []string) error {
			timeout, err := caddy.ParseDuration(args[0])
			if err == nil && timeout <= 0 {
				err = errors.New("it must be positive")
			}
			s.Timeout = caddy.Duration(timeout)
			return err
		}},
		"max_size": {1, 1, func(args []string) error {
			size, err := humanize.ParseBytes(args[0])
			if err == nil && (size == 0 || int64(size) < 0) {
				err = errors.New("it must be positive")
			}
			s.MaxSize = int64(size)
			return err
		}},
	})
}

// Interface guards
var (
	_ Gate                  = (*Same)(nil)
	_ caddy.Provisioner     = (*Same)(nil)
	_ caddy.Validator       = (*Same)(nil)
	_ caddyfile.Unmarshaler = (*Same)(nil)
)
