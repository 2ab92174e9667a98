package mirror

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/unifiedmirrors/mirror/caddymirror/command"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "mirror",
		Usage: "<command>",
		Short: "Looks after the package mirror of a running Caddy",
		Long: `
Asks a running Caddy, through its admin API, for the state of its package
mirror, or tells it what to do.`,
		CobraFunc: func(cmd *cobra.Command) {
			command.Group(cmd, append(jobCommands(), statusCommand(), purgeCommand(), checkCommand())...)
		},
	})
}

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [JOB] [--json] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Shows the state of caches, mounts and jobs, or of one job with its history",
		Args:  command.Args("[JOB]"),
		RunE:  withFlags(runStatus),
	}
	cmd.Flags().Bool("json", false, "Print JSON")
	addressFlags(cmd)
	return cmd
}

func purgeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "purge --mount <prefix> [--path <path> | --prefix <prefix>]",
		Short: "Removes entries of a mount from its cache",
		Long: `
Removes the entry of a path, or of all paths that begin with a prefix, or all
entries of a mount. Paths are relative to the mount. Downloads under way are
not disturbed.`,
		Example: "  caddy mirror purge --mount /pypi --prefix /simple/",
		Args:    command.Args(),
		RunE:    withFlags(runPurge),
	}
	cmd.Flags().String("mount", "", "The mount, by its prefix")
	cmd.Flags().String("path", "", "The path to purge")
	cmd.Flags().String("prefix", "", "What paths to purge begin with")
	addressFlags(cmd)
	return cmd
}

// addressFlags are those of `caddy reload`.
func addressFlags(cmd *cobra.Command) {
	cmd.Flags().StringP("config", "c", "", "Configuration file that tells the admin address")
	cmd.Flags().StringP("adapter", "a", "", "Name of config adapter to apply")
	cmd.Flags().StringP("address", "", "", "Address of the administration listener, if different from config")
}

// withFlags is a command that works with its flags. It fails with its error as it is:
// [caddycmd.WrapCommandFuncForCobra] would make a line of a log of it.
func withFlags(f func(caddycmd.Flags) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) error { return f(caddycmd.Flags{FlagSet: cmd.Flags()}) }
}

func runStatus(fl caddycmd.Flags) error {
	uri, s := "/mirror/status", printer(new(Status))
	if job := fl.Arg(0); job != "" {
		uri, s = jobURI(job, ""), new(jobStatus)
	}
	if err := ask(fl, http.MethodGet, uri, nil, s); err != nil {
		return err
	}
	if fl.Bool("json") {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(s)
	}
	return s.print(os.Stdout)
}

// printer writes what it is for a person.
type printer interface{ print(w io.Writer) error }

func runPurge(fl caddycmd.Flags) error {
	req := purgeRequest{Mount: fl.String("mount")}
	for name, into := range map[string]**string{"path": &req.Path, "prefix": &req.Prefix} {
		if fl.Changed(name) {
			value := fl.String(name)
			*into = &value
		}
	}
	if err := req.check(); err != nil {
		return command.Hint(err, "Usage: caddy mirror purge --mount <prefix> [--path <path> | --prefix <prefix>]")
	}
	body, err := json.Marshal(req)
	if err != nil {
		return err
	}
	var reply purgeReply
	if err := ask(fl, http.MethodPost, "/mirror/purge", bytes.NewReader(body), &reply); err != nil {
		return err
	}
	fmt.Printf("purged %d entries\n", reply.Purged)
	return nil
}
