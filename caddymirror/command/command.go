// Package command is what the commands that Caddy gets from us have in common: they fail
// with one plain sentence on standard error, and what to do about it on a line of its
// own, whatever the format of Caddy's log. The exit status is 1 then.
package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Group makes cmd a command that only has others below it.
func Group(cmd *cobra.Command, commands ...*cobra.Command) {
	cmd.AddCommand(commands...)
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, err) })
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usage(cmd, fmt.Errorf("there is no command %q", args[0]))
		}
		return cmd.Help()
	}
}

// Args is for commands with these arguments, by their names: `JOB`. Those in brackets
// may be left out.
func Args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		for i, name := range names {
			// An empty one is a variable that somebody failed to fill in.
			if i < len(args) && args[i] == "" || i >= len(args) && !strings.HasPrefix(name, "[") {
				return usage(cmd, fmt.Errorf("which %s?", strings.Trim(name, "[]")))
			}
		}
		if len(args) > len(names) {
			return usage(cmd, fmt.Errorf("what is %q for?", args[len(names)]))
		}
		return nil
	}
}

// usage is the error of a command that was called the wrong way.
func usage(cmd *cobra.Command, err error) error {
	return Hint(fmt.Errorf("%s: %w", cmd.CommandPath(), err), "Usage: "+cmd.UseLine())
}

// Hint is an error with a line about what to do, which its text ends with.
func Hint(err error, line string) error { return &hint{err, line} }

type hint struct {
	error
	line string
}

func (h *hint) Error() string { return h.error.Error() + "\n" + h.line }
func (h *hint) Unwrap() error { return h.error }

// Sentence is an error in one line, for people.
func Sentence(err error) error {
	lines := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	return errors.New(strings.Join(lines, "; "))
}
