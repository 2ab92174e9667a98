package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/unifiedmirrors/mirror/caddymirror/check"
	"github.com/unifiedmirrors/mirror/caddymirror/command"
	"github.com/unifiedmirrors/mirror/caddymirror/repo/openpgp"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// checkKinds are the flags that name mounts, and what they say in the usage.
var checkKinds = []struct {
	kind check.Kind
	arg  string
	help string
}{
	{check.PyPI, "/pypi", "An index of Python packages, by the path that simple/ is below"},
	{check.Wheel, "/wheel[,PLATFORM...]", "Wheels, by the path that the platforms are below. Default: all platforms"},
	{check.Apt, "/ubuntu,SUITE...", "Distributions of a repository of apt. One that ends with a slash is a directory, as in sources.list(5)"},
	{check.RPM, "/epel/9/Everything/x86_64", "A repository of dnf, by the path that repodata is below"},
	{check.Files, "/tarballs", "Files, by the path of a directory that is listed, or of one file"},
}

func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check URL [--pypi PATH] [--wheel PATH] [--apt PATH,SUITE...] [--rpm PATH] [--files PATH] [flags]",
		Short: "Looks at a mirror host from outside, as its clients do",
		Long: `
Looks at a mirror host, this one or any other, as its clients do. Of each mount that is
named it reads the indexes, and fetches some of the files that they list, chosen at
random; or all. It finds fault with a mount that does not answer, with an index that
cannot be read, has expired or is not signed by a key of the keyring, with files that
differ from what the index says, with ranges and conditional requests that are answered
wrong, with files that do not come from the cache the second time, and with data that
are too old.

Without mounts it takes those that the host has configuration for, which it gives to
clients (mirror_clients); or, with --admin, those of a Caddy whose formats say what is
in them.

The exit status is 0 if all is well, 1 if anything is not, and 2 if the command was
called the wrong way.`,
		Example: "  caddy mirror check http://mirror.example.org --pypi /pypi --apt /ubuntu,jammy,jammy-updates --max-age 26h",
		// What is called the wrong way is told from what is found by the exit status.
		RunE: runCheck,
	}
	f := cmd.Flags()
	for _, k := range checkKinds {
		f.StringArray(string(k.kind), nil, k.help+": "+k.arg)
	}
	f.Int("sample", check.DefaultSample, "How many files of each mount to fetch")
	f.Bool("all", false, "Fetch all files")
	f.String("max-age", "", "How old the data may be, as 26h or 2d. Default: as old as they are")
	f.String("keyring", "", "File of OpenPGP keys, of which one must have signed the indexes of apt and dnf")
	f.Duration("timeout", check.DefaultTimeout, "How long an answer may take to begin, and to go on")
	f.String("connect", "", "Host or address to connect to, whatever the URL says, [:port]: of a mirror whose name is not in the DNS yet")
	f.Bool("json", false, "Print JSON")
	f.String("admin", "", "Address of the admin endpoint of a Caddy that is asked for its mounts")
	cmd.SetFlagErrorFunc(misused)
	return cmd
}

// misused ends a command that was called the wrong way with status 2.
func misused(cmd *cobra.Command, err error) error {
	err = command.Hint(fmt.Errorf("%s: %w", cmd.CommandPath(), err), "Usage: "+cmd.UseLine())
	cmd.PrintErrln("Error:", err)
	cmd.SilenceErrors = true
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return 2, nil })(cmd, nil)
}

func runCheck(cmd *cobra.Command, args []string) error {
	o, err := checkOptions(cmd, args)
	if err != nil {
		return misused(cmd, err)
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	switch addr, _ := cmd.Flags().GetString("admin"); {
	case len(o.Mounts) > 0:
	case addr != "":
		o.Mounts, err = servedMounts(addr)
	default:
		o.Mounts, err = toldMounts(ctx, o)
	}
	if errors.Is(err, errUnnamed) {
		return misused(cmd, err)
	}
	if err != nil {
		return command.Sentence(err)
	}
	live := isTerminal(os.Stderr)
	if live {
		o.Progress = checkProgress()
	}
	report, err := check.Run(ctx, o)
	if live {
		fmt.Fprint(os.Stderr, "\r\x1b[K")
	}
	if err != nil {
		return command.Sentence(err)
	}
	write := report.Print
	if asJSON, _ := cmd.Flags().GetBool("json"); asJSON {
		write = report.PrintJSON
	}
	if err := write(os.Stdout); err != nil {
		return err
	}
	if faulty := report.Faulty(); faulty != "" {
		return errors.New(faulty)
	}
	return nil
}

// checkProgress shows on a terminal what is looked at.
func checkProgress() func(what string) {
	var mu sync.Mutex
	var next time.Time
	return func(what string) {
		mu.Lock()
		defer mu.Unlock()
		if now := time.Now(); now.After(next) {
			next = now.Add(100 * time.Millisecond)
			fmt.Fprintf(os.Stderr, "\r\x1b[K%s", fit(what, os.Stderr))
		}
	}
}

// checkOptions reads the command line.
func checkOptions(cmd *cobra.Command, args []string) (o check.Options, err error) {
	f := cmd.Flags()
	switch {
	case len(args) == 0 || args[0] == "":
		return o, errors.New("which URL?")
	case len(args) > 1:
		return o, fmt.Errorf("what is %q for?", args[1])
	}
	if _, err := check.ParseURL(args[0]); err != nil {
		return o, err
	}
	o.URL = args[0]
	o.Connect, _ = f.GetString("connect")
	if o.Sample, _ = f.GetInt("sample"); o.Sample < 1 {
		return o, errors.New("--sample: at least 1")
	}
	o.All, _ = f.GetBool("all")
	if o.Timeout, _ = f.GetDuration("timeout"); o.Timeout <= 0 {
		return o, errors.New("--timeout: longer than nothing")
	}
	if text, _ := f.GetString("max-age"); text != "" {
		if o.MaxAge, err = caddy.ParseDuration(text); err != nil {
			return o, fmt.Errorf("--max-age: %w", err)
		}
		if o.MaxAge <= 0 { // which would be any age
			return o, errors.New("--max-age: longer than nothing")
		}
	}
	if file, _ := f.GetString("keyring"); file != "" {
		b, err := step.ReadFile(file, step.MaxConfig)
		if err != nil {
			return o, fmt.Errorf("--keyring: %w", err)
		}
		if o.Keyring, err = openpgp.ParseKeyring(file, b); err != nil {
			return o, fmt.Errorf("--keyring: %w", err)
		}
	}
	for _, k := range checkKinds {
		texts, _ := f.GetStringArray(string(k.kind))
		for _, text := range texts {
			m, err := check.ParseMount(k.kind, text)
			if err != nil {
				return o, err
			}
			o.Mounts = append(o.Mounts, m)
		}
	}
	return o, nil
}

// errUnnamed says that nobody has named the mounts.
var errUnnamed = errors.New("which mounts?")

const nameMounts = "name the mounts: --pypi /pypi --wheel /wheel --apt /ubuntu,jammy --rpm /epel/9/Everything/x86_64 --files /tarballs"

// toldMounts are the mounts that a host has configuration for, that it gives to clients.
func toldMounts(ctx context.Context, o check.Options) ([]check.Mount, error) {
	u, err := check.ParseURL(o.URL)
	if err != nil {
		return nil, err
	}
	mounts, skipped, err := check.Discover(ctx, o)
	if errors.Is(err, check.ErrUntold) {
		return nil, fmt.Errorf("%w %s does not tell in a configuration for clients, at %s/: %s; or --admin localhost:2019 for those of a Caddy that can be asked",
			errUnnamed, u.Redacted(), check.ClientsPath, nameMounts)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.Redacted(), err)
	}
	for _, what := range skipped {
		fmt.Fprintf(os.Stderr, "not looked at: %s\n", what)
	}
	return mounts, nil
}

// servedMounts are the mounts of a Caddy whose formats say what they are.
func servedMounts(addr string) (mounts []check.Mount, err error) {
	resp, err := caddycmd.AdminAPIRequest(addr, http.MethodGet, "/mirror/status", nil, nil)
	if err != nil {
		why, _, _ := strings.Cut(asked(addr, err).Error(), "\n") // what follows is of other flags
		return nil, errors.New(why)
	}
	defer resp.Body.Close()
	var s Status
	if err := readAnswer(resp.Body, maxAnswer, &s); err != nil {
		return nil, err
	}
	kinds := map[string]check.Kind{"pypi": check.PyPI, "wheel": check.Wheel, "rpm": check.RPM}
	seen := map[string]bool{}
	for _, m := range s.Mounts {
		if seen[m.Prefix] {
			continue // of another site
		}
		seen[m.Prefix] = true
		if kind, ok := kinds[m.Format]; !ok {
			fmt.Fprintf(os.Stderr, "not looked at: %s, whose format %s does not say what is in it\n", m.Prefix, m.Format)
		} else {
			mounts = append(mounts, check.Mount{Kind: kind, Path: path.Clean("/" + m.Prefix)})
		}
	}
	if len(mounts) == 0 {
		return nil, fmt.Errorf("%w The Caddy at %s has %d, and none has a format that says what is in it: %s", errUnnamed, addr, len(s.Mounts), nameMounts)
	}
	return mounts, nil
}
