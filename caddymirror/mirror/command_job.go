package mirror

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/unifiedmirrors/mirror/caddymirror/command"
	"github.com/unifiedmirrors/mirror/caddymirror/job"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

func jobCommands() []*cobra.Command {
	run := &cobra.Command{
		Use:   "run JOB [--wait] [--release] [--no-timeout] [--take-over]",
		Short: "Runs a job now",
		Long: `
Runs a job now, on hold or not, and releases what waits for the conditions of
release_when. A run that brings nothing releases nothing, but with --release. With
--wait it waits for the end of the run, and the exit status is 1 if that has failed.`,
		Args: command.Args("JOB"),
		RunE: jobCommand(runJob),
	}
	run.Flags().Bool("wait", false, "Wait for the end of the run, and show how far it is")
	run.Flags().Bool("release", false, "Take all steps and release the tree even if the sync brings nothing")
	run.Flags().Bool("no-timeout", false, "Let the run take as long as it takes")
	run.Flags().Bool("take-over", false, "Run an exclusive job though another host has not said that it has ended its own run")
	hold := &cobra.Command{
		Use:   "hold JOB [--reason <text>]",
		Short: "Keeps a job from running by itself",
		Args:  command.Args("JOB"),
		RunE: jobCommand(func(fl caddycmd.Flags, name string) error {
			return control(fl, name, "hold", holdRequest{Reason: fl.String("reason")})
		}),
	}
	hold.Flags().String("reason", "", "Why it is held; the status shows it")
	resume := &cobra.Command{
		Use:   "resume JOB",
		Short: "Lets a job run by itself again",
		Args:  command.Args("JOB"),
		RunE:  jobCommand(func(fl caddycmd.Flags, name string) error { return control(fl, name, "resume", nil) }),
	}
	forget := &cobra.Command{
		Use:   "forget JOB GATE",
		Short: "Makes a gate forget the last release of a job",
		Long: `
Makes a gate forget what was released last, so that it compares the next tree with
nothing and lets it pass although something is gone or older. What the tree has then
is what the runs after it are compared with. Not while the job runs.`,
		Example: "  caddy mirror forget ubuntu apt",
		Args:    command.Args("JOB", "GATE"),
		RunE:    jobCommand(forgetRelease),
	}
	log := &cobra.Command{
		Use:   "log JOB [--run <id>] [--last <bytes>]",
		Short: "Shows what a run of a job has printed",
		Args:  command.Args("JOB"),
		RunE:  jobCommand(showLog),
	}
	log.Flags().String("run", "", "The run. Default: the one under way, or else the last")
	log.Flags().Int("last", defaultLast, "The most to show, in bytes, of its end")
	all := []*cobra.Command{run, hold, resume, forget, log}
	for _, cmd := range all {
		addressFlags(cmd)
	}
	return all
}

// jobCommand is a command that is about one job.
func jobCommand(f func(fl caddycmd.Flags, name string) error) func(*cobra.Command, []string) error {
	return withFlags(func(fl caddycmd.Flags) error { return f(fl, fl.Arg(0)) })
}

func jobURI(name, rest string) string { return "/mirror/jobs/" + url.PathEscape(name) + rest }

// control tells a job something, and shows its state.
func control(fl caddycmd.Flags, name, what string, body any) error {
	var s job.Status
	if err := post(fl, jobURI(name, "/"+what), body, &s); err != nil {
		return err
	}
	return Status{Jobs: []job.Status{s}}.printJobs(os.Stdout)
}

// forgetRelease makes a gate of a job forget the last release.
func forgetRelease(fl caddycmd.Flags, name string) error {
	gate := fl.Arg(1)
	var done forgetReply
	if err := post(fl, jobURI(name, "/forget"), forgetRequest{gate}, &done); err != nil {
		return err
	}
	if len(done.Removed) == 0 {
		fmt.Printf("gate %s of %s remembers nothing yet\n", gate, name)
		return nil
	}
	fmt.Printf("gate %s of %s has forgotten the last release (%s removed): it compares the next tree with nothing\n", gate, name, strings.Join(done.Removed, ", "))
	return nil
}

func post(fl caddycmd.Flags, uri string, body, into any) error {
	var r io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		r = bytes.NewReader(text)
	}
	return ask(fl, http.MethodPost, uri, r, into)
}

func runJob(fl caddycmd.Flags, name string) error {
	var begun runReply
	if err := post(fl, jobURI(name, "/run"), job.Request{NoTimeout: fl.Bool("no-timeout"), TakeOver: fl.Bool("take-over"), Release: fl.Bool("release")}, &begun); err != nil {
		return err
	}
	if !fl.Bool("wait") {
		fmt.Printf("run %s of %s is begun\n", begun.ID, name)
		return nil
	}
	run, err := follow(fl, name, begun.ID)
	if err != nil {
		return err
	}
	fmt.Printf("run %s of %s: %s, %v\n", run.ID, name, run.Outcome, run.Ended.Sub(run.Began).Round(time.Millisecond))
	if run.Outcome.Good() {
		return nil
	}
	return failedRun(fl, name, run)
}

// failedRun says why a run has failed, and how to see what it has printed.
func failedRun(fl caddycmd.Flags, name string, run job.Run) error {
	see := []string{"caddy mirror log", name, "--run", run.ID}
	for _, name := range []string{"address", "config", "adapter"} {
		if fl.Changed(name) {
			see = append(see, "--"+name, fl.String(name))
		}
	}
	why := strings.TrimPrefix(run.Error, run.Stage+": ")
	err := command.Sentence(fmt.Errorf("%s failed in %s: %s", name, run.Stage, why))
	return command.Hint(err, "Its log: "+strings.Join(see, " "))
}

// follow waits for the end of a run and, on a terminal, shows how far it is.
func follow(fl caddycmd.Flags, name, id string) (job.Run, error) {
	live := isTerminal(os.Stderr)
	wait := "1m"
	if live {
		wait = "1s"
	}
	for tries := 0; ; {
		var run job.Run
		err := ask(fl, http.MethodGet, jobURI(name, "/runs/"+id+"?wait="+wait), nil, &run)
		if tries++; err != nil && tries < 10 {
			time.Sleep(100 * time.Millisecond) // a reload replaces the admin endpoint
			continue
		}
		if err != nil {
			return run, err
		}
		tries = 0
		if live && run.Outcome == "" {
			fmt.Fprintf(os.Stderr, "\r\x1b[K%s", fit(oneLine(line(fl, name)), os.Stderr))
		}
		if run.Outcome != "" {
			if live {
				fmt.Fprint(os.Stderr, "\r\x1b[K")
			}
			return run, nil
		}
	}
}

// line says in one line how far a job is.
func line(fl caddycmd.Flags, name string) string {
	var s job.Status
	if err := ask(fl, http.MethodGet, jobURI(name, ""), nil, &s); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(bar(s.Progress) + " " + jobStatus{s}.now())
}

// bar draws how far a run is, if that is known.
func bar(p *step.Progress) string {
	const width = 24
	if p == nil || p.Done < 0 || p.Done > 1 {
		return ""
	}
	n := int(p.Done * width)
	return "[" + strings.Repeat("#", n) + strings.Repeat("-", width-n) + "]"
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// fit cuts a line that is too long for a terminal, which would scroll it.
func fit(line string, f *os.File) string {
	width, _, err := term.GetSize(int(f.Fd()))
	if runes := []rune(line); err == nil && width > 1 && len(runes) >= width {
		return string(runes[:width-2]) + "…"
	}
	return line
}

func showLog(fl caddycmd.Flags, name string) error {
	q := url.Values{"last": {fmt.Sprint(fl.Int("last"))}}
	if run := fl.String("run"); run != "" {
		q.Set("run", run)
	}
	resp, err := request(fl, http.MethodGet, jobURI(name, "/log?"+q.Encode()), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}
