package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/fault"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func init() {
	caddy.RegisterModule(new(Shrink))
}

// Shrink compares the tree with the one that was released last, and does not let
// it pass if too much is gone. Files, directories and symbolic links count, each
// by its name: what was renamed is gone, and something else is new.
//
// The first tree passes, as there is nothing to compare it with. To let a tree
// pass from which much was removed on purpose, run `caddy mirror forget JOB shrink`,
// or remove the file that the gate names.
type Shrink struct {
	// By how much the number of entries may shrink: a number, or a percentage of
	// what there was, such as `5%`. Default: by any.
	Entries string `json:"entries,omitempty"`

	// By how much the size of all files together may shrink: a size such as `10GB`,
	// or a percentage. Default: by any.
	Bytes string `json:"bytes,omitempty"`

	// How many of the entries that there were may be gone: a number, or a
	// percentage. Default: any.
	Deletions string `json:"deletions,omitempty"`

	entries, bytes, deletions budget
}

// CaddyModule returns the Caddy module information.
func (*Shrink) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.gates.shrink", New: func() caddy.Module { return new(Shrink) }}
}

// Provision reads the budgets.
func (s *Shrink) Provision(caddy.Context) error {
	for _, b := range []struct {
		name, text string
		size       bool
		to         *budget
	}{
		{"entries", s.Entries, false, &s.entries},
		{"bytes", s.Bytes, true, &s.bytes},
		{"deletions", s.Deletions, false, &s.deletions},
	} {
		var err error
		if *b.to, err = parseBudget(b.text, b.size); err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return nil
}

// Validate checks that there is a budget.
func (s *Shrink) Validate() error {
	if s.Entries == "" && s.Bytes == "" && s.Deletions == "" {
		return errors.New("no budget: set entries, bytes or deletions")
	}
	return nil
}

// Check implements Gate.
func (s *Shrink) Check(ctx context.Context, r *step.Run) error {
	return within(ctx, func(ctx context.Context) error { return s.check(ctx, r) })
}

func (s *Shrink) check(ctx context.Context, r *step.Run) error {
	t, err := openTree(r)
	if err != nil {
		return err
	}
	defer t.close()

	old, err := openIndex(filepath.Join(r.State, shrinkIndex))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading what was released last: %w (`caddy mirror forget %s shrink` removes it; the next tree will pass then)", err, r.Job)
	}
	if old != nil {
		defer old.close()
	}
	next, err := createIndex(filepath.Join(r.State, shrinkNext))
	if err != nil {
		return fmt.Errorf("keeping what the tree has: %w", err)
	}
	defer next.abandon()

	c := comparison{old: old}
	p := newProgress(ctx, r, "shrink")
	err = t.walk(ctx, func(e entry) error {
		p.report(c.part(), "%s entries", humanize.Comma(c.now.entries))
		if err := c.add(e); err != nil {
			return err
		}
		return next.add(e)
	})
	if err == nil {
		err = c.rest()
	}
	if err == nil {
		err = next.finish(r.ID, c.now)
	}
	if err != nil || old == nil {
		return err
	}
	return s.verdict(&c, forgetHint(r.Job, "shrink", filepath.Join(r.State, shrinkIndex)))
}

// verdict compares the losses with the budgets. hint says how to let them pass.
func (s *Shrink) verdict(c *comparison, hint string) error {
	found := new(problems)
	was := c.old.total
	names := strings.Join(c.names, ", ")
	if more := c.gone - int64(len(c.names)); more > 0 {
		names = fmt.Sprintf("%s and %d more", names, more)
	}
	if most := s.deletions.of(was.entries); c.gone > most {
		found.add(0, "", "%d of %d entries are gone, %d may be: %s", c.gone, was.entries, most, names)
	}
	if most := s.entries.of(was.entries); was.entries-c.now.entries > most {
		found.add(1, "", "there are %d entries and were %d, %d may be lost; gone are %s", c.now.entries, was.entries, most, names)
	}
	if most := s.bytes.of(was.bytes); was.bytes-c.now.bytes > most {
		found.add(2, c.loser, "there are %s and were %s, %s may be lost; this file lost most",
			size(c.now.bytes), size(was.bytes), size(most))
	}
	if !found.any() {
		return nil
	}
	v := found.verdict("shrink")
	v.Reason += fmt.Sprintf(" (%s)", hint)
	return v
}

func size(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }

// Remembers implements Recorder.
func (*Shrink) Remembers() string { return shrinkIndex }

// Released implements Recorder.
func (*Shrink) Released(r *step.Run) error {
	if err := keepIndex(filepath.Join(r.State, shrinkIndex), filepath.Join(r.State, shrinkNext), r.ID); err != nil {
		return fmt.Errorf("shrink: keeping what was released: %w", err)
	}
	return nil
}

// A comparison goes along what was released last and what the tree has now, both
// in the same order.
type comparison struct {
	old  *indexReader
	head *entry // of old, not yet compared
	ends bool   // old has

	now   total
	gone  int64
	names []string // of the first that are gone
	loser string   // the file that lost most bytes
	loss  int64
}

// part is how far the walk is, as far as one can know.
func (c *comparison) part() float64 {
	if c.old == nil || c.old.total.entries == 0 {
		return -1
	}
	return math.Min(0.99, float64(c.now.entries)/float64(c.old.total.entries))
}

func (c *comparison) add(e entry) error {
	c.now.entries++
	c.now.bytes += e.size
	for {
		old, err := c.peek()
		if err != nil || old == nil {
			return err
		}
		order := compareNames(old.name, e.name)
		if order > 0 {
			return nil
		}
		c.head = nil
		if order == 0 {
			c.lost(old.name, old.size-e.size)
			return nil
		}
		c.miss(old)
	}
}

// rest takes what is left of old for gone.
func (c *comparison) rest() error {
	for {
		old, err := c.peek()
		if err != nil || old == nil {
			return err
		}
		c.head = nil
		c.miss(old)
	}
}

func (c *comparison) peek() (*entry, error) {
	if c.old == nil || c.ends || c.head != nil {
		return c.head, nil
	}
	e, err := c.old.next()
	if err == io.EOF {
		c.ends = true
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading what was released last: %w", err)
	}
	c.head = &e
	return c.head, nil
}

func (c *comparison) miss(old *entry) {
	c.gone++
	if len(c.names) < maxProblems {
		c.names = append(c.names, fault.Show(old.name))
	}
	c.lost(old.name, old.size)
}

func (c *comparison) lost(name string, bytes int64) {
	if bytes > c.loss {
		c.loser, c.loss = name, bytes
	}
}

// A budget is how much may be lost: a number, a percentage, or any.
type budget struct {
	set     bool
	number  int64
	percent float64
}

// parseBudget reads a number, or a size, or a percentage.
func parseBudget(text string, size bool) (budget, error) {
	if text == "" {
		return budget{}, nil
	}
	if number, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.ParseFloat(number, 64)
		if err != nil || !(percent >= 0 && percent <= 100) {
			return budget{}, fmt.Errorf("%q is not a percentage from 0%% to 100%%", text)
		}
		return budget{set: true, number: -1, percent: percent}, nil
	}
	if size {
		n, err := humanize.ParseBytes(text)
		if err != nil || n > math.MaxInt64 {
			return budget{}, fmt.Errorf("%q is neither a size nor a percentage", text)
		}
		return budget{set: true, number: int64(n)}, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return budget{}, fmt.Errorf("%q is neither a number nor a percentage", text)
	}
	return budget{set: true, number: n}, nil
}

// of returns how much of n may be lost.
func (b budget) of(n int64) int64 {
	switch {
	case !b.set:
		return math.MaxInt64
	case b.number >= 0:
		return b.number
	}
	// Most percentages are a little less as a float than what was written.
	const rounding = 1e-12
	return int64(b.percent * float64(n) / 100 * (1 + rounding))
}

// UnmarshalCaddyfile sets up the gate:
//
//	shrink [<percent>%] {
//		entries   <number>|<percent>%
//		bytes     <size>|<percent>%
//		deletions <number>|<percent>%
//	}
//
// A percentage on the line is that of all three.
func (s *Shrink) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the gate's name
	if d.NextArg() {
		if !strings.HasSuffix(d.Val(), "%") {
			return d.Errf("'%s' is not a percentage: numbers go to entries, bytes or deletions", d.Val())
		}
		if _, err := parseBudget(d.Val(), false); err != nil {
			return d.WrapErr(err)
		}
		s.Entries, s.Bytes, s.Deletions = d.Val(), d.Val(), d.Val()
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	err := options(d, map[string]option{
		"entries":   {1, 1, func(args []string) error { return s.set(&s.Entries, args[0], false) }},
		"bytes":     {1, 1, func(args []string) error { return s.set(&s.Bytes, args[0], true) }},
		"deletions": {1, 1, func(args []string) error { return s.set(&s.Deletions, args[0], false) }},
	})
	if err != nil {
		return err
	}
	if err := s.Validate(); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func (*Shrink) set(to *string, text string, size bool) error {
	*to = text
	_, err := parseBudget(text, size)
	return err
}

// Interface guards
var (
	_ Recorder              = (*Shrink)(nil)
	_ caddy.Provisioner     = (*Shrink)(nil)
	_ caddy.Validator       = (*Shrink)(nil)
	_ caddyfile.Unmarshaler = (*Shrink)(nil)
)
