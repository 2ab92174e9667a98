// Package sandbox runs commands that are not trusted, such as builds of other people's
// packages: with bounds on time, memory and processes, where they can write to a few
// directories only, and reach nothing but a proxy.
//
// It uses namespaces of processes, mounts and the network (without root, too, where that
// is allowed), Landlock for what may be written, resource limits, and another user. What
// the kernel does not allow is left out, unless the [Spec] requires it. A supervisor
// watches time, memory and the number of processes, and makes sure that no process is
// left in the end. It ends with the process that has started it.
//
// The supervisor is the program itself, started again: [Command] returns the command line,
// and [Main] is what then runs.
package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// Word is the first argument of a program that is to call [Main].
const Word = "mirror-sandbox"

// Spec is what is to run, and within which bounds.
type Spec struct {
	// Args are the program, by its path, and its arguments.
	Args []string `json:"args"`

	// Dir is the working directory, and Env the whole environment. In values, {proxy} is
	// replaced with the address of the proxy, as 127.0.0.1:8123.
	Dir string   `json:"dir"`
	Env []string `json:"env,omitempty"`

	// Writable are the directories that it may write to. In others it can only read what
	// its user may.
	Writable []string `json:"writable,omitempty"`

	// UID and GID are the user and group that it runs as. Default: those of this program.
	UID *int `json:"uid,omitempty"`
	GID *int `json:"gid,omitempty"`

	// Time is how long it may take, Memory how many bytes its processes may use together,
	// and Processes how many there may be at once. Default: no limit.
	Time      time.Duration `json:"time,omitempty"`
	Memory    int64         `json:"memory,omitempty"`
	Processes int           `json:"processes,omitempty"`

	// Disk is how many bytes there may be in Writable, and in any file. Default: no limit.
	Disk int64 `json:"disk,omitempty"`

	// Proxy is a socket in the file system that leads to an HTTP proxy. The command
	// reaches it over TCP, see Env, and has no other network. Empty: as this program.
	Proxy string `json:"proxy,omitempty"`

	// Require refuses to run the command where it cannot be confined in each of these ways.
	Require bool `json:"require,omitempty"`

	// Free leaves out namespaces and Landlock. The other bounds hold.
	Free bool `json:"free,omitempty"`
}

// Lacks is how the lines begin in which the supervisor prints what the system lacks.
const Lacks = "sandbox: this system has "

// Exit statuses of the supervisor that are not the command's. The last line that it prints
// says why.
const (
	ExitRefused   = 120 // it cannot be confined as required, or not be started
	ExitTime      = 121 // it took too long
	ExitMemory    = 122 // it used too much memory
	ExitProcesses = 123 // it had too many processes
	ExitDisk      = 125 // it wrote too much
	ExitEnded     = 124 // it was ended, since the run was, or whoever had begun it
)

// Write writes the spec to a file that only this user can read: there may be passwords in
// the environment.
func (s *Spec) Write(file string) error {
	if len(s.Args) == 0 || !filepath.IsAbs(s.Args[0]) || !filepath.IsAbs(s.Dir) {
		return errors.New("sandbox: the program and its directory must be absolute paths")
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return step.WriteFile(file, text)
}

// Command returns the command line that runs the spec in a file.
func Command(file string) (name string, args []string, err error) {
	name, err = os.Executable()
	if err != nil {
		return "", nil, fmt.Errorf("sandbox: %w", err)
	}
	return name, []string{Word, "run", file}, nil
}

// Main runs the supervisor. A program calls it if its first argument is [Word]; args are
// those after it. It returns the exit status.
func Main(args []string) int {
	if len(args) != 2 {
		return refuse(errors.New("it is not for people to run"))
	}
	text, err := step.ReadFile(args[1], step.MaxConfig)
	if err != nil {
		return refuse(err)
	}
	var s Spec
	if err := json.Unmarshal(text, &s); err != nil {
		return refuse(err)
	}
	switch args[0] {
	case "run":
		return s.supervise(args[1])
	case "init":
		return s.begin(args[1])
	case "exec":
		return s.exec()
	}
	return refuse(fmt.Errorf("%q is no stage", args[0]))
}

func refuse(err error) int {
	say("%v", err)
	return ExitRefused
}

func lacks(format string, args ...any) {
	fmt.Fprintf(os.Stderr, Lacks+format+"\n", args...)
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "sandbox: "+format+"\n", args...)
}
