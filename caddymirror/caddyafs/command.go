package caddyafs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/unifiedmirrors/mirror/caddymirror/afs"
	"github.com/unifiedmirrors/mirror/caddymirror/afs/wire"
	"github.com/unifiedmirrors/mirror/caddymirror/command"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "afs",
		Short: "Looks at AFS: files, and the state of volumes",
		Long: `Looks at AFS as the mirror sees it: anonymously, and by asking the servers
themselves, so that no AFS client is needed.

A tree is named afs://CELL/PATH, from the root of the cell, or
afs://CELL:VOLUME/PATH, from the root of a volume. Cells are found by --server,
CellServDB or the DNS.`,
		CobraFunc: func(cmd *cobra.Command) {
			cmd.PersistentFlags().StringSlice("server", nil, "Volume location server of the cell; may be repeated")
			cmd.PersistentFlags().String("cellservdb", "", "The CellServDB to use")
			cmd.PersistentFlags().Duration("timeout", 30*time.Second, "How long to wait for an answer")
			cmd.PersistentFlags().Bool("read-write", false, "Allow volumes that are not read-only")
			command.Group(
				cmd,
				&cobra.Command{
					Use: "ls TREE", Short: "Lists a directory", Args: command.Args("TREE"),
					RunE: inTree(list),
				},
				&cobra.Command{
					Use: "stat TREE", Short: "Describes a file or directory", Args: command.Args("TREE"),
					RunE: inTree(stat),
				},
				&cobra.Command{
					Use: "cat TREE", Short: "Prints a file", Args: command.Args("TREE"),
					RunE: inTree(cat),
				},
				volumeCommand(),
			)
		},
	})
}

func volumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "volume CELL VOLUME",
		Short: "Shows the sites of a volume and what state they are in",
		Long: `Shows the sites of a volume, and what state they are in.

The exit status is 1 if the read-only copies are not all usable, of one release,
and as new as what was last written.`,
		Args: command.Args("CELL", "VOLUME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withClient(cmd, args[0], func(ctx context.Context, c *afs.Client) error {
				return showVolume(ctx, cmd, c, args[0], args[1])
			})
		},
	}
	cmd.Flags().Bool("json", false, "Print JSON")
	return cmd
}

// withClient calls f with a client of this command's own.
func withClient(cmd *cobra.Command, cell string, f func(context.Context, *afs.Client) error) error {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	conf := afs.Config{CellServDB: flags.String("cellservdb"), Log: newNotes(os.Stderr)}
	servers, err := cmd.Flags().GetStringSlice("server")
	if err != nil {
		return err
	}
	if len(servers) > 0 {
		if conf.Cells, err = parseCells(map[string][]string{cell: servers}); err != nil {
			return err
		}
	}
	c, err := afs.New(conf)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), flags.Duration("timeout"))
	defer cancel()
	if err := f(ctx, c); err != nil {
		return command.Sentence(err)
	}
	return nil
}

// inTree is a command that does something in the tree that it is given.
func inTree(do func(ctx context.Context, w io.Writer, t *afs.Tree) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		root, err := ParseRoot(args[0])
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		if root.ReadWrite, err = cmd.Flags().GetBool("read-write"); err != nil {
			return err
		}
		return withClient(cmd, root.Cell, func(ctx context.Context, c *afs.Client) error {
			t, err := c.Tree(root)
			if err != nil {
				return err
			}
			defer t.Close()
			err = do(ctx, os.Stdout, t)
			if failed, ok := errors.AsType[*fs.PathError](err); ok {
				err = failed.Err // its path is relative to what the user gave
			}
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return nil
		})
	}
}

func list(ctx context.Context, w io.Writer, t *afs.Tree) error {
	infos, err := t.ReadDir(ctx, ".")
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, i := range infos {
		name, size := i.Name, humanize.Comma(i.Size)
		if i.Dir() {
			name, size = name+"/", "-"
		}
		mod := i.ModTime.Format(time.DateTime)
		if i.Denied {
			size, mod = "denied", "-"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", size, mod, name)
	}
	return tw.Flush()
}

func stat(ctx context.Context, w io.Writer, t *afs.Tree) error {
	i, err := t.Stat(ctx, ".")
	if err != nil {
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "type\t%v\n", i.Type)
	fmt.Fprintf(tw, "size\t%s\n", humanize.Comma(i.Size))
	fmt.Fprintf(tw, "modified\t%s\n", i.ModTime.Format(time.RFC3339))
	fmt.Fprintf(tw, "mode\t%04o\n", i.Mode)
	fmt.Fprintf(tw, "FID\t%v\n", i.FID)
	fmt.Fprintf(tw, "data version\t%d\n", i.DataVersion)
	fmt.Fprintf(tw, "release\t%s\n", t.Last().Token)
	return tw.Flush()
}

func cat(ctx context.Context, w io.Writer, t *afs.Tree) error {
	f, err := t.Open(ctx, ".")
	if err != nil {
		return err
	}
	defer f.Close()
	r := f.Reader(0)
	defer r.Close()
	_, err = io.Copy(w, r)
	return err
}

func showVolume(ctx context.Context, cmd *cobra.Command, c *afs.Client, cell, name string) error {
	v, err := c.Volume(ctx, cell, name)
	if err != nil {
		return err
	}
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	published, why := v.Published()
	if asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(jsonOf(v, published, why)); err != nil {
			return err
		}
	} else if err := printVolume(os.Stdout, v, published, why); err != nil {
		return err
	}
	if !published {
		return errors.New(why)
	}
	return nil
}

// volumeJSON is the state of a volume for scripts.
type volumeJSON struct {
	Cell      string     `json:"cell"`
	Name      string     `json:"name"`
	Locked    string     `json:"locked_for,omitempty"`
	Published bool       `json:"published"`
	Why       string     `json:"why,omitempty"`
	Sites     []siteJSON `json:"sites"`
}

type siteJSON struct {
	Server    string    `json:"server"`
	Partition string    `json:"partition"`
	Type      string    `json:"type"`
	ID        uint32    `json:"id"`
	Flags     string    `json:"flags"`
	State     string    `json:"state"`
	Error     string    `json:"error,omitempty"`
	Created   time.Time `json:"created,omitzero"`
	Updated   time.Time `json:"updated,omitzero"`
	Files     uint32    `json:"files,omitempty"`
	KiB       uint32    `json:"kib,omitempty"`
}

func jsonOf(v afs.Volume, published bool, why string) volumeJSON {
	j := volumeJSON{Cell: v.Cell, Name: v.Name, Published: published, Why: why}
	if v.Locked() {
		j.Locked = v.Entry.Flags.String()
	}
	for _, s := range v.Sites {
		site := siteJSON{
			Server: s.Server, Partition: s.Partition, Type: s.Type, ID: s.ID, Flags: s.Flags.String(), State: s.State(),
		}
		if s.Err != nil {
			site.Error = s.Err.Error()
		}
		if s.Info != nil {
			site.Created, site.Updated = s.Info.Created.UTC(), s.Info.Updated.UTC()
			site.Files, site.KiB = s.Info.Files, s.Info.Used
		}
		j.Sites = append(j.Sites, site)
	}
	return j
}

func printVolume(w io.Writer, v afs.Volume, published bool, why string) error {
	fmt.Fprintf(w, "%s in %s: RW %d, RO %d\n", v.Name, v.Cell, v.Entry.IDs[wire.ReadWrite], v.Entry.IDs[wire.ReadOnly])
	if v.Locked() {
		fmt.Fprintf(w, "locked: %v\n", v.Entry.Flags)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nsite\ttype\tflags\tcreated\tlast update\tfiles\tsize\tstate")
	for _, s := range v.Sites {
		created, updated, files, size, state := "-", "-", "-", "-", "-"
		switch {
		case s.Info != nil:
			created, updated = date(s.Info.Created), date(s.Info.Updated)
			files = humanize.Comma(int64(s.Info.Files))
			size = humanize.IBytes(uint64(s.Info.Used) << 10)
			state = s.State()
		case s.Err != nil:
			state = s.Err.Error()
		}
		fmt.Fprintf(tw, "%s %s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", s.Server, s.Partition, s.Type, s.Flags, created, updated, files, size, state)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if published {
		why = "published: all read-only copies are of one release and as new as what was last written"
	} else {
		why = "not published: " + why
	}
	_, err := fmt.Fprintf(w, "\n%s\n", why)
	return err
}

func date(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format(time.DateTime)
}
