package cell

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"syscall"
)

func randomKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	return key
}

// Output is what a vos command printed, and its exit code, -1 if it was killed.
type Output struct {
	Stdout, Stderr string
	Code           int
}

// Vos is a vos command (vos(1)) that runs.
type Vos struct {
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

// VosStart starts a vos command at the database server, with all rights, and with
// addresses instead of names in what it prints. Other than with [Cell.Vos], it is
// the caller's to wait for it.
func (c *Cell) VosStart(ctx context.Context, args ...string) (*Vos, error) {
	return c.vosStart(ctx, nil, args)
}

func (c *Cell) vosStart(ctx context.Context, stdin io.Reader, args []string) (*Vos, error) {
	args = append(slices.Clip(args), "-localauth", "-noresolve")
	v := &Vos{cmd: c.DB.chroot(ctx, "vos", args...)}
	v.cmd.Stdin, v.cmd.Stdout, v.cmd.Stderr = stdin, &v.stdout, &v.stderr
	v.cmd.WaitDelay = stopTime
	if err := v.cmd.Start(); err != nil {
		return nil, err
	}
	return v, nil
}

// Wait waits until the command has ended. The error says what it complained of.
func (v *Vos) Wait() (Output, error) {
	err := v.cmd.Wait()
	o := Output{v.stdout.String(), v.stderr.String(), v.cmd.ProcessState.ExitCode()}
	if err != nil {
		said := strings.TrimSpace(o.Stdout + o.Stderr)
		args := v.cmd.Args
		for i, a := range args {
			if a == "vos" {
				args = args[i:]
				break
			}
		}
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, said)
	}
	return o, err
}

// Signal sends the command a signal, such as SIGKILL in the middle of a release.
func (v *Vos) Signal(sig syscall.Signal) error { return v.cmd.Process.Signal(sig) }

// Kill ends the command at once. What it did so far stays, its locks too.
func (v *Vos) Kill() error { return v.Signal(syscall.SIGKILL) }

// Vos runs a vos command to its end, see [Cell.VosStart].
func (c *Cell) Vos(ctx context.Context, args ...string) (Output, error) {
	return c.vos(ctx, nil, args...)
}

func (c *Cell) vos(ctx context.Context, stdin io.Reader, args ...string) (Output, error) {
	v, err := c.vosStart(ctx, stdin, args)
	if err != nil {
		return Output{Code: -1}, err
	}
	return v.Wait()
}

// CreateVolume makes a read-write volume, without a quota, in which everyone may
// do everything. Partitions are called a, b, ...
func (c *Cell) CreateVolume(ctx context.Context, name string, h *Host, partition string) (*Volume, error) {
	// It is restored from a dump, as only a dump can have such a root directory.
	_, err := c.vos(ctx, bytes.NewReader(emptyDump(name)),
		"restore", h.Addr.String(), partition, name, "-overwrite", "full")
	if err != nil {
		return nil, fmt.Errorf("creating the volume %s: %w", name, err)
	}
	return c.Open(ctx, name)
}

// AddSite lets a volume have a read-only copy at a host, from the next release on.
func (c *Cell) AddSite(ctx context.Context, volume string, h *Host, partition string) error {
	_, err := c.Vos(ctx, "addsite", h.Addr.String(), partition, volume)
	return err
}

// RemoveSite undoes [Cell.AddSite], and removes the copy if there is one already.
func (c *Cell) RemoveSite(ctx context.Context, volume string, h *Host, partition string) error {
	_, err := c.Vos(ctx, "remove", h.Addr.String(), partition, volume+".readonly")
	if err == nil {
		return nil
	}
	// There was none.
	_, err2 := c.Vos(ctx, "remsite", h.Addr.String(), partition, volume)
	if err2 == nil {
		return nil
	}
	return errors.Join(err, err2)
}

// Release publishes a volume: its read-only sites become copies of what it is now.
// It takes over five seconds if there is more than one, as vos sleeps so long.
// Options may be added, such as -force-reclone.
func (c *Cell) Release(ctx context.Context, volume string, options ...string) error {
	_, err := c.Vos(ctx, append([]string{"release", volume}, options...)...)
	return err
}
