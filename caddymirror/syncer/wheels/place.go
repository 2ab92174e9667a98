package wheels

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/unifiedmirrors/mirror/caddymirror/sandbox"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// helperWord is the first argument of a program that is to write into the tree: as a
// command of the job it has the job's tickets, which Caddy itself has not.
const helperWord = "mirror-wheels"

func init() {
	for word, run := range map[string]func(args []string) int{helperWord: helperMain, sandbox.Word: sandbox.Main} {
		caddycmd.RegisterCommand(caddycmd.Command{
			Name:  word,
			Short: "Is run by jobs that build wheels",
			CobraFunc: func(c *cobra.Command) {
				c.Hidden, c.DisableFlagParsing = true, true
				c.RunE = func(_ *cobra.Command, args []string) error {
					os.Exit(run(args))
					return nil
				}
			},
		})
	}
}

// helper has the tree changed: "place FROM TO", "remove FILE".
func (f *farm) helper(ctx context.Context, args ...string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = f.r.Command(ctx, step.Command{Name: self, Args: append([]string{helperWord}, args...)})
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func helperMain(args []string) int {
	err := errors.New("it is not for people to run")
	switch {
	case len(args) == 3 && args[0] == "place":
		err = placeFile(args[1], args[2]) //nolint:gosec // there are two
	case len(args) == 2 && args[0] == "remove" && isPart(filepath.Base(args[1])):
		err = os.Remove(args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// copyFile copies a file, all the way to the disk.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644) //nolint:gosec // it is served
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Chmod(0o644) // whatever the umask
	}
	if err == nil {
		err = out.Sync()
	}
	return errors.Join(err, out.Close()) // AFS stores at the close
}
