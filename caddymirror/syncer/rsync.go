package syncer

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/unifiedmirrors/mirror/caddymirror/directive"
)

func init() {
	caddy.RegisterModule(Rsync{})
}

// Rsync mirrors a tree of an rsync server, in an order in which no index ever
// names a file that is not there:
//
//  1. Packages: everything but the indexes.
//  2. Indexes, with what else has come meanwhile.
//  3. Deletions: what upstream no longer has is noted, and deleted by the next run
//     that finds it gone, too. Clients that have fetched an older index find its
//     packages for that long. Nothing is noted or deleted unless all before went
//     well.
//
// Each of the three has upstream list its files. The directory must be there: that
// it is not may mean that its file system is not mounted.
//
// What is copied are files, directories and links, with their times. Modes are
// those of upstream with all that a web server needs and nothing that AFS refuses:
// everybody may read, nobody but the owner may write, directories are 0755, there is
// no setuid or setgid. Owners and groups are not copied, so no ids are mapped.
// Devices and FIFOs are left out, and links that are absolute or lead out of the
// tree. Nothing is compressed on the way, since packages are already.
//
// Files are written beside the old ones, and renamed. What was copied of a file when
// a run ended is kept in the state directory of the job, which is not served, and
// spares the next run the way. Where that is another file system than the tree's,
// such a file is copied, not renamed, at the end.
type Rsync struct {
	// What to mirror, as rsync names it: `rsync://HOST/MODULE/PATH`,
	// `HOST::MODULE/PATH`, `USER@HOST:PATH` or a directory. It is what lies in the
	// directory that is copied, with or without a slash at the end.
	//
	// If there are several, each but the first is used when those before cannot be
	// reached, end the connection, do not answer in time or do not have the directory.
	// One run uses one of them from the beginning to the end. Required.
	Sources []string `json:"sources,omitempty"`

	// What to leave out, as patterns of rsync. What is there of it already counts as
	// gone upstream.
	Excludes []string `json:"excludes,omitempty"`

	// What not to leave out though an exclude fits, as patterns of rsync.
	Includes []string `json:"includes,omitempty"`

	// Copy all in one phase, in the order of names. Default: two phases.
	OnePhase bool `json:"one_phase,omitempty"`

	// What is to be copied in the second phase, as patterns of rsync. It does no harm
	// if they fit other files as well, but they should fit no directory with packages
	// in it: a pattern without a slash fits directories, too. Default: the indexes of
	// apt, rpm, pypi, Arch and Alpine repositories.
	Indexes []string `json:"indexes,omitempty"`

	// After how many further runs that find it gone upstream a file is deleted. With
	// 0 that is the first one; with -1 no file that upstream had is ever deleted.
	// Default: 1.
	DeleteAfter *int `json:"delete_after,omitempty"`

	// How much of the tree one run may delete: a number of files and directories, or a
	// percentage of them. If it were more, the run fails and deletes nothing: an upstream
	// that has lost its disk looks like one that has deleted everything. The same holds
	// for what is in directories that upstream has made links or files: that cannot be
	// deleted later. Default: `50%`.
	MaxDelete string `json:"max_delete,omitempty"`

	// What not to delete though upstream does not have it, as patterns of rsync. The
	// timestamp of the job is kept in any case. Default: `/timestamp.txt`.
	Keep []string `json:"keep,omitempty"`

	// What upstream writes though it has nothing new: a run that brings nothing else has
	// changed nothing. Patterns are those of shells; one without a slash fits in all
	// directories, one that begins with a slash in the uppermost, and one that ends with
	// a slash fits all that is in such directories. What is given replaces the default:
	// what is known to be such of apt, rpm and pypi mirrors, as `project/trace/*`,
	// `timestamp.txt` and `lastupdate`.
	Bookkeeping []string `json:"bookkeeping,omitempty"`

	// How long the connection may be silent. AFS stores a file when it is closed,
	// and rsync is silent meanwhile. Default: `5m`.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How long connecting to an rsync daemon may take. Default: `30s`.
	ConnectTimeout caddy.Duration `json:"connect_timeout,omitempty"`

	// How many bytes to fetch per second, as rsync takes it: `10m`. Default: no limit.
	BWLimit string `json:"bwlimit,omitempty"`

	// Further arguments for rsync.
	Args []string `json:"args,omitempty"`

	// The program, 3.1 or newer. Default: `rsync`.
	Command string `json:"command,omitempty"`

	maxDelete limit
}

// The indexes of what is mirrored mostly: first what lies in directories that have
// nothing else, then files by their names, in all directories.
var (
	indexDirs = []string{
		"dists/**",    // apt
		"repodata/**", // rpm
		"simple/**",   // pypi
	}
	indexFiles = []string{
		"InRelease", "Release", "Release.gpg", "Packages", "Packages.*", "Sources", "Sources.*", "Contents-*", "ls-lR*", // apt
		"repomd.xml*",                 // rpm
		"*.db", "*.db.*", "*.files.*", // Arch
		"APKINDEX*", // Alpine
	}
)

// CaddyModule returns the Caddy module information.
func (Rsync) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "mirror.syncers.rsync", New: func() caddy.Module { return new(Rsync) }}
}

// Provision sets the defaults. It touches neither disk nor network.
func (s *Rsync) Provision(caddy.Context) error {
	for i := range s.Sources {
		if err := directive.Expand("source", &s.Sources[i]); err != nil {
			return err
		}
	}
	if s.Keep == nil {
		s.Keep = []string{"/timestamp.txt"}
	}
	if s.DeleteAfter == nil {
		after := 1
		s.DeleteAfter = &after
	}
	if s.MaxDelete == "" {
		s.MaxDelete = "50%"
	}
	if s.Timeout == 0 {
		s.Timeout = caddy.Duration(5 * time.Minute)
	}
	if s.ConnectTimeout == 0 {
		s.ConnectTimeout = caddy.Duration(30 * time.Second)
	}
	if s.Command == "" {
		s.Command = "rsync"
	}
	return s.Validate()
}

var bwlimit = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?[kKmMgG]?$`)

// Validate checks the settings.
func (s *Rsync) Validate() error {
	if len(s.Sources) == 0 {
		return errors.New("no source")
	}
	for _, source := range s.Sources {
		// Rsync takes what begins with a dash for an option, even a dangerous one.
		if source == "" || source[0] == '-' || strings.ContainsAny(source, "\x00\n") {
			return fmt.Errorf("%q is not a source", source)
		}
	}
	for _, patterns := range [][]string{s.Excludes, s.Includes, s.Indexes, s.Keep} {
		for _, p := range patterns {
			if strings.TrimSpace(p) == "" || strings.ContainsAny(p, "\x00\n") {
				return fmt.Errorf("%q is not a pattern", p)
			}
		}
	}
	for _, p := range s.Bookkeeping {
		if _, err := path.Match(p, ""); err != nil || strings.Trim(p, "/ ") == "" {
			return fmt.Errorf("bookkeeping: %q is not a pattern", p)
		}
	}
	if s.DeleteAfter != nil && *s.DeleteAfter < -1 {
		return errors.New("delete_after is a number of runs, or -1 for never")
	}
	if s.Timeout < caddy.Duration(time.Second) || s.ConnectTimeout < caddy.Duration(time.Second) {
		return errors.New("timeouts must be at least one second")
	}
	if s.BWLimit != "" && !bwlimit.MatchString(s.BWLimit) {
		return fmt.Errorf("bwlimit: %q is not a rate such as 500k, 10m or 1.5m", s.BWLimit)
	}
	var err error
	if s.maxDelete, err = parseLimit(s.MaxDelete); err != nil {
		return fmt.Errorf("max_delete: %w", err)
	}
	return nil
}

// UnmarshalCaddyfile sets up the syncer:
//
//	rsync <source> [<fallback...>] {
//		exclude         <pattern...>
//		include         <pattern...>
//		two_phase       on|off
//		indexes         <pattern...>
//		delete_after    <runs>|never
//		max_delete      <number>|<percent>%
//		keep            <pattern...>
//		bookkeeping     <pattern...>
//		timeout         <duration>
//		connect_timeout <duration>
//		bwlimit         <rate>
//		args            <argument...>
//		command         <program>
//	}
func (s *Rsync) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	if err := directive.Some(d, &s.Sources); err != nil {
		return err
	}
	repeats := func(option string) bool {
		switch option {
		case "exclude", "include", "indexes", "keep", "bookkeeping", "args":
			return true
		}
		return false
	}
	return directive.Block(d, repeats, func(option string) error { return s.option(d, option) })
}

func (s *Rsync) option(d *caddyfile.Dispenser, option string) error {
	switch option {
	case "exclude":
		return directive.Some(d, &s.Excludes)
	case "include":
		return directive.Some(d, &s.Includes)
	case "indexes":
		return directive.Some(d, &s.Indexes)
	case "keep":
		return directive.Some(d, &s.Keep)
	case "bookkeeping":
		return directive.Some(d, &s.Bookkeeping)
	case "args":
		return directive.Some(d, &s.Args)
	case "two_phase":
		return directive.OnOff(d, &s.OnePhase)
	case "timeout":
		return directive.Span(d, &s.Timeout)
	case "connect_timeout":
		return directive.Span(d, &s.ConnectTimeout)
	case "command":
		return directive.One(d, &s.Command)
	case "delete_after":
		return s.deleteAfter(d)
	case "max_delete":
		if err := directive.One(d, &s.MaxDelete); err != nil {
			return err
		}
		if _, err := parseLimit(s.MaxDelete); err != nil {
			return d.Err(err.Error())
		}
		return nil
	case "bwlimit":
		if err := directive.One(d, &s.BWLimit); err != nil {
			return err
		}
		if !bwlimit.MatchString(s.BWLimit) {
			return d.Errf("'%s' is not a rate such as 500k, 10m or 1.5m", s.BWLimit)
		}
		return nil
	}
	return d.Errf("unrecognized option '%s'", option)
}

func (s *Rsync) deleteAfter(d *caddyfile.Dispenser) error {
	var text string
	if err := directive.One(d, &text); err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	switch {
	case text == "never":
		n = -1
	case err != nil || n < 0:
		return d.Errf("'%s' is neither a number of runs nor 'never'", text)
	}
	s.DeleteAfter = &n
	return nil
}

// Interface guards
var (
	_ Syncer                = (*Rsync)(nil)
	_ caddy.Provisioner     = (*Rsync)(nil)
	_ caddy.Validator       = (*Rsync)(nil)
	_ caddyfile.Unmarshaler = (*Rsync)(nil)
)
