package cell

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// netns is where ip(8) keeps network namespaces by name.
const netns = "/run/netns"

// networks are those of the cells that can run at a time (RFC 2544, for benchmarks).
// Those for documentation are not free: sandboxes use them for what is real.
var networks = []netip.Prefix{
	netip.MustParsePrefix("198.18.0.0/24"),
	netip.MustParsePrefix("198.18.1.0/24"),
	netip.MustParsePrefix("198.18.2.0/24"),
	netip.MustParsePrefix("198.18.3.0/24"),
	netip.MustParsePrefix("198.18.4.0/24"),
	netip.MustParsePrefix("198.18.5.0/24"),
}

// state is what is to be known of a cell to find all of it again, in state.json.
type state struct {
	Name       string             `json:"name"`
	Slot       int                `json:"slot"`
	Owner      *process           `json:"owner,omitempty"` // none: the cell stays until it is stopped
	Temporary  bool               `json:"temporary"`       // the directory was made for the cell
	Partitions []string           `json:"partitions"`
	Fileserver []string           `json:"fileserver,omitempty"` // arguments
	Servers    map[string]process `json:"servers,omitempty"`    // by host/kind
}

func stateFile(dir string) string { return filepath.Join(dir, "state.json") }

func readState(dir string) (state, error) {
	var s state
	var b []byte
	err := fs.ErrNotExist
	if dir != "" {
		b, err = os.ReadFile(stateFile(dir))
	}
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("reading the state of the cell in %s: %w", dir, err)
	}
	return s, nil
}

func (s state) write(dir string) error {
	b, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	tmp := stateFile(dir) + ".new"
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, stateFile(dir))
}

// slotName is how the namespaces and the link of a cell begin.
func slotName(slot int) string { return "afscell" + strconv.Itoa(slot) }

// lock keeps other processes from setting up or removing a cell. The lock is one
// that needs no file: ip(8) locks netns itself.
func lock() (unlock func(), err error) {
	d, err := os.Open(filepath.Dir(netns))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX); err != nil {
		d.Close()
		return nil, fmt.Errorf("locking %s: %w", d.Name(), err)
	}
	return func() { d.Close() }, nil
}

// dirOf returns the directory of the cell in a slot: the alias of the link. It is
// "" if there is none, or only part of one.
func dirOf(ctx context.Context, slot int) string {
	out, err := run(ctx, "ip", "-json", "link", "show", "dev", slotName(slot))
	if err != nil {
		return ""
	}
	var links []struct {
		Alias string `json:"ifalias"`
	}
	if err := json.Unmarshal([]byte(out), &links); err != nil || len(links) != 1 {
		return ""
	}
	return links[0].Alias
}

// Info is a cell on this machine.
type Info struct {
	Dir  string
	Name string

	// Owner is the process that started the cell and will stop it, 0 if it stays
	// until someone stops it.
	Owner int

	// Stale: the owner died, and left it.
	Stale bool
}

// List returns the cells of this machine.
func List(ctx context.Context) []Info {
	var cells []Info
	for slot := range networks {
		if !used(slot) {
			continue
		}
		info := Info{Dir: dirOf(ctx, slot), Stale: true}
		if s, err := readState(info.Dir); err == nil {
			info.Name = s.Name
			info.Stale = s.Owner != nil && !s.Owner.alive()
			if s.Owner != nil {
				info.Owner = s.Owner.PID
			}
		}
		cells = append(cells, info)
	}
	return cells
}

// used tells whether there is anything of a cell in the slot.
func used(slot int) bool {
	all, _ := filepath.Glob(filepath.Join(netns, slotName(slot)+"-*"))
	return len(all) > 0
}

// removeStale removes what cells left whose process died. The lock is held.
func removeStale(ctx context.Context) error {
	var errs error
	for slot := range networks {
		if !used(slot) {
			continue
		}
		dir := dirOf(ctx, slot)
		s, err := readState(dir)
		switch {
		case err == nil && (s.Owner == nil || s.Owner.alive()):
			continue
		case err != nil && dir != "" && !errors.Is(err, fs.ErrNotExist):
			errs = errors.Join(errs, err) // not to be judged by us
			continue
		case err != nil:
			s = state{Slot: slot} // it died while it was set up, or its directory was removed
		}
		errs = errors.Join(errs, s.remove(ctx, dir))
	}
	return errs
}

// remove ends and removes everything of a cell. The lock is held.
func (s state) remove(ctx context.Context, dir string) error {
	var errs error
	for _, p := range s.Servers {
		errs = errors.Join(errs, p.kill(ctx))
	}
	// If the cell was removed before, the slot may be another's.
	if owner := dirOf(ctx, s.Slot); owner == "" || owner == dir {
		errs = errors.Join(errs, removeNetwork(ctx, s.Slot))
	}
	if _, err := os.Stat(stateFile(dir)); dir == "" || err != nil {
		return errs
	}
	if s.Temporary {
		return errors.Join(errs, removeDir(dir))
	}
	for _, name := range []string{hostsDir, fuseDir} {
		errs = errors.Join(errs, removeDir(filepath.Join(dir, name)))
	}
	return errors.Join(errs, os.Remove(stateFile(dir)))
}

func removeNetwork(ctx context.Context, slot int) error {
	var errs error
	all, _ := filepath.Glob(filepath.Join(netns, slotName(slot)+"-*"))
	for _, ns := range all {
		errs = errors.Join(errs, removeNamespace(ctx, filepath.Base(ns)))
	}
	// The link goes with its other end, but not at once.
	_, _ = run(ctx, "ip", "link", "delete", slotName(slot))
	return errs
}

// removeNamespace deletes a network namespace, after ending what still runs in it:
// commands that were run there, and file systems mounted from there.
func removeNamespace(ctx context.Context, name string) error {
	out, err := run(ctx, "ip", "netns", "pids", name)
	if err != nil {
		return err
	}
	for f := range strings.FieldsSeq(out) {
		pid, err := strconv.Atoi(f)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if p, err := processOf(pid); err == nil {
			_ = p.kill(ctx)
		}
	}
	_, err = run(ctx, "ip", "netns", "delete", name)
	return err
}
