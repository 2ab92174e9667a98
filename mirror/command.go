package mirror

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
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
			cmd.AddCommand(statusCommand(), purgeCommand())
			cmd.AddCommand(jobCommands()...)
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return fmt.Errorf("unknown command %q for %q", args[0], cmd.CommandPath())
				}
				return cmd.Help()
			}
		},
	})
}

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [JOB] [--json] [--address <interface>] [--config <path> [--adapter <name>]]",
		Short: "Shows the state of caches, mounts and jobs, or of one job with its history",
		Args:  cobra.MaximumNArgs(1),
		RunE:  caddycmd.WrapCommandFuncForCobra(runStatus),
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
		Args:    cobra.NoArgs,
		RunE:    caddycmd.WrapCommandFuncForCobra(runPurge),
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

func adminAddress(fl caddycmd.Flags) (string, error) {
	addr, err := caddycmd.DetermineAdminAPIAddress(fl.String("address"), nil, fl.String("config"), fl.String("adapter"))
	if err != nil {
		return "", fmt.Errorf("finding the admin address: %w", err)
	}
	return addr, nil
}

// ask makes a request to the admin API of the running Caddy.
func ask(fl caddycmd.Flags, method, uri string, body io.Reader, into any) error {
	addr, err := adminAddress(fl)
	if err != nil {
		return err
	}
	resp, err := caddycmd.AdminAPIRequest(addr, method, uri, nil, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("reading the answer of %s: %w", addr, err)
	}
	return nil
}

func runStatus(fl caddycmd.Flags) (int, error) {
	uri, s := "/mirror/status", printer(new(Status))
	if job := fl.Arg(0); job != "" {
		uri, s = jobURI(job, ""), new(JobStatus)
	}
	if err := ask(fl, http.MethodGet, uri, nil, s); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if fl.Bool("json") {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(s); err != nil {
			return caddy.ExitCodeFailedStartup, err
		}
		return caddy.ExitCodeSuccess, nil
	}
	return caddy.ExitCodeSuccess, s.print(os.Stdout)
}

// printer writes what it is for a person.
type printer interface{ print(w io.Writer) error }

func runPurge(fl caddycmd.Flags) (int, error) {
	req := purgeRequest{Mount: fl.String("mount")}
	for name, into := range map[string]**string{"path": &req.Path, "prefix": &req.Prefix} {
		if fl.Changed(name) {
			value := fl.String(name)
			*into = &value
		}
	}
	if err := req.check(); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	body, err := json.Marshal(req)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	var reply purgeReply
	if err := ask(fl, http.MethodPost, "/mirror/purge", bytes.NewReader(body), &reply); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	fmt.Printf("purged %d entries\n", reply.Purged)
	return caddy.ExitCodeSuccess, nil
}
