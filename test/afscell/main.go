// Afscell runs a real AFS cell to try things with, on this machine and without a
// kernel module: see the package cell. It needs root.
//
//	go run ./test/afscell up        starts the cell, fills it and says how to use it
//	go run ./test/afscell status    shows the cells that run
//	go run ./test/afscell down      stops the cell and removes it
//
// While it runs:
//
//	vos ARGUMENT...                 vos(1) with all rights
//	write VOLUME DIR [FROM]         copies a directory of this machine into a volume
//	run HOST COMMAND...             a command in a host's network namespace
//	pause|continue|kill|restart HOST/SERVER
//	drop|callbacks HOST             drops all packets of a host, or only callbacks to it
//	loss HOST PERCENT               loses packets of a host
//	delay HOST TIME                 makes round trips longer, until interrupted
//	heal                            ends all faults, and lets what is paused continue
//
// Hosts are self (this machine), client, db, fs1 and fs2; status names the servers.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path"
	"strconv"
	"syscall"
	"time"

	"github.com/unifiedmirrors/mirror/test/afscell/cell"
)

func main() {
	flag.Usage = usage
	dir := flag.String("dir", "", "directory of the cell (default: a temporary one, or the one that is up)")
	name := flag.String("cell", "example.org", "name of the cell for up")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command(ctx, *dir, *name, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "afscell:", err)
		os.Exit(1)
	}
}

func usage() {
	fmt.Fprint(os.Stderr, `usage: go run ./test/afscell [flags] COMMAND

  up                           start a cell and fill it
  status                       show what runs
  down                         stop the cell and remove it
  vos ARGUMENT...              vos(1) with all rights
  write VOLUME DIR [FROM]      copy a directory into a volume, below DIR
  run HOST COMMAND...          in the network namespace of a host
  pause|continue|kill|restart HOST/SERVER
  drop|callbacks HOST          drop all packets of a host, or only callbacks to it
  loss HOST PERCENT            lose packets of a host
  delay HOST TIME              make round trips longer, until interrupted
  heal                         end all faults, let what is paused continue

Flags:
`)
	flag.PrintDefaults()
}

func command(ctx context.Context, dir, name string, args []string) error {
	if len(args) == 0 {
		usage()
		return errors.New("no command")
	}
	switch args[0] {
	case "up":
		return up(ctx, dir, name)
	case "status":
		return status(ctx)
	}
	c, err := running(ctx, dir)
	if err != nil {
		return err
	}
	commands := map[string]struct {
		args int // at least
		run  func(ctx context.Context, c *cell.Cell, args []string) error
	}{
		"down":      {0, func(_ context.Context, c *cell.Cell, _ []string) error { return c.Stop() }},
		"heal":      {0, func(_ context.Context, c *cell.Cell, _ []string) error { return c.Heal() }},
		"vos":       {1, vos},
		"write":     {2, write},
		"run":       {2, run},
		"pause":     {1, onServer((*cell.Server).Pause)},
		"continue":  {1, onServer((*cell.Server).Continue)},
		"kill":      {1, onServer((*cell.Server).Kill)},
		"restart":   {1, restart},
		"drop":      {1, onHost((*cell.Host).Drop)},
		"callbacks": {1, onHost((*cell.Host).BlockCallbacks)},
		"loss":      {2, loss},
		"delay":     {2, delay},
	}
	cmd, ok := commands[args[0]]
	if !ok || len(args)-1 < cmd.args {
		usage()
		return fmt.Errorf("no such command, or too few arguments: %q", args)
	}
	return cmd.run(ctx, c, args[1:])
}

// running is the cell in dir, or the one that up started.
func running(ctx context.Context, dir string) (*cell.Cell, error) {
	if dir != "" {
		return cell.Attach(dir)
	}
	for _, i := range cell.List(ctx) {
		if i.Owner == 0 && !i.Stale {
			return cell.Attach(i.Dir)
		}
	}
	return nil, errors.New("no cell is up")
}

func up(ctx context.Context, dir, name string) error {
	if c, err := running(ctx, dir); err == nil {
		return fmt.Errorf("a cell is up already, in %s", c.Dir)
	}
	c, err := cell.Start(ctx, cell.Options{Name: name, Dir: dir, Keep: true})
	if err != nil {
		return err
	}
	if err := fill(ctx, c); err != nil {
		return errors.Join(err, c.Stop())
	}
	describe(c)
	return nil
}

func status(ctx context.Context) error {
	all := cell.List(ctx)
	if len(all) == 0 {
		fmt.Println("no cell runs")
	}
	for _, i := range all {
		switch {
		case i.Stale:
			fmt.Printf("what a process left that ended: goes with the next start of any cell. %s\n", i.Dir)
			continue
		case i.Owner != 0:
			fmt.Printf("cell %s of process %d\n", i.Name, i.Owner)
		default:
			fmt.Printf("cell %s, up\n", i.Name)
		}
		c, err := cell.Attach(i.Dir)
		if err != nil {
			return err
		}
		if err := show(c); err != nil {
			return err
		}
	}
	return nil
}

func show(c *cell.Cell) error {
	fmt.Printf("  directory  %s\n", c.Dir)
	for _, h := range c.Hosts() {
		fmt.Printf("  %-9s  %s", h, h.Addr)
		if ns := h.Namespace(); ns != "" {
			fmt.Printf(", network namespace %s", ns)
		}
		fmt.Println()
		for _, s := range h.Servers() {
			fmt.Printf("    %-19s  ", s)
			if s.Running() {
				fmt.Printf("process %d, log %s\n", s.PID(), s.Log())
			} else {
				fmt.Println("does not run")
			}
		}
	}
	faults, err := c.Faults()
	for _, f := range faults {
		fmt.Printf("  fault      %s\n", f)
	}
	return err
}

func vos(ctx context.Context, c *cell.Cell, args []string) error {
	out, err := c.Vos(ctx, args...)
	fmt.Print(out.Stdout)
	fmt.Fprint(os.Stderr, out.Stderr)
	if out.Code != 0 {
		return fmt.Errorf("vos: exit code %d", out.Code)
	}
	return err
}

func write(ctx context.Context, c *cell.Cell, args []string) error {
	v, err := c.Open(ctx, args[0])
	if err != nil {
		return err
	}
	from := "."
	if len(args) > 2 {
		from = args[2]
	}
	return v.WriteTree(ctx, os.DirFS(from), path.Clean(args[1]))
}

func run(ctx context.Context, c *cell.Cell, args []string) error {
	h, err := c.Host(args[0])
	if err != nil {
		return err
	}
	cmd := h.Command(ctx, args[1], args[2:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}

func onServer(f func(*cell.Server) error) func(context.Context, *cell.Cell, []string) error {
	return func(_ context.Context, c *cell.Cell, args []string) error {
		s, err := c.Server(args[0])
		if err != nil {
			return err
		}
		return f(s)
	}
}

func restart(ctx context.Context, c *cell.Cell, args []string) error {
	return onServer(func(s *cell.Server) error { return s.Restart(ctx) })(ctx, c, args)
}

func onHost(f func(*cell.Host) error) func(context.Context, *cell.Cell, []string) error {
	return func(_ context.Context, c *cell.Cell, args []string) error {
		h, err := c.Host(args[0])
		if err != nil {
			return err
		}
		return f(h)
	}
}

func loss(ctx context.Context, c *cell.Cell, args []string) error {
	percent, err := strconv.ParseFloat(args[1], 64)
	if err != nil {
		return err
	}
	return onHost(func(h *cell.Host) error { return h.Loss(percent / 100) })(ctx, c, args)
}

func delay(ctx context.Context, c *cell.Cell, args []string) error {
	d, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	return onHost(func(h *cell.Host) error {
		if err := h.Delay(d); err != nil {
			return err
		}
		fmt.Printf("packets of %s take %v longer there and back, until interrupted\n", h, d)
		<-ctx.Done()
		return h.Delay(0)
	})(ctx, c, args)
}
