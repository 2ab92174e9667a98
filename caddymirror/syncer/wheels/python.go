package wheels

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/repo/constraints"
	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// python is one that wheels are built for.
type python struct {
	name string // as it is configured
	path string
	tags map[string]bool // of the wheels that it can use

	// ready makes an environment with a pip that it can run, once in a run.
	ready func() error

	// Identity tells it from others that may come to be at the same place.
	Identity string `json:"identity"`

	// What it says of itself. Label is as cp311, and Pip the directory of the pip.
	Label       string                  `json:"label"`
	Environment constraints.Environment `json:"environment"`
	Tags        []string                `json:"tags"`
	Pip         string                  `json:"pip"`
}

// probe has a Python say what it is.
const probe = `
import json, os, sys
sys.path.insert(0, sys.argv[1])
import pip
from pip._vendor.packaging import markers, tags
environment = {k: str(v) for k, v in markers.default_environment().items()}
environment["extra"] = ""
print(json.dumps({
    "label": tags.interpreter_name() + tags.interpreter_version(),
    "environment": environment,
    "tags": [str(t) for t in tags.sys_tags()],
    "pip": os.path.dirname(os.path.abspath(pip.__file__)),
}))
`

// prepare finds a Python, and has it say what it is, unless it is the one that has said so
// in a run before.
func (f *farm) prepare(ctx context.Context, name string) (*python, error) {
	found, err := f.find(ctx, name)
	if err != nil {
		return nil, err
	}
	// What is in PATH may be a script that chooses one by HOME.
	path, err := f.say(ctx, found, "-c", "import sys; print(sys.executable)")
	if err != nil {
		return nil, err
	}
	identity, err := identify(path)
	if err != nil {
		return nil, err
	}
	p := f.memory.Pythons[path]
	if p == nil || p.Identity != identity {
		p = &python{Identity: identity}
	}
	p.name, p.path = name, path
	base := filepath.Join(f.work, fmt.Sprint("python", len(f.pythons)))
	p.ready = sync.OnceValue(func() error { return f.equip(ctx, p, base) })
	if len(p.Tags) == 0 {
		err = p.ready()
	}
	p.tags = map[string]bool{}
	for _, t := range p.Tags {
		p.tags[t] = true
	}
	return p, err
}

// identify tells a Python from others that may come to be at the same place.
func identify(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	var u unix.Utsname // markers may ask for it
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	target, err := filepath.EvalSymlinks(path)
	return fmt.Sprint(target, " ", info.Size(), " ", info.ModTime().UnixNano(), " ", unix.ByteSliceToString(u.Release[:]), " ", unix.ByteSliceToString(u.Version[:])), err
}

// equip gets a pip for a Python, and has it say what it is.
func (f *farm) equip(ctx context.Context, p *python, base string) error {
	site, err := f.unpackPip(ctx, p, base)
	if err != nil {
		if site, err = f.installPip(ctx, p, base); err != nil {
			return fmt.Errorf("%s: making an environment with pip: %w", p.name, err)
		}
	}
	text, err := f.say(ctx, p.path, "-I", "-c", probe, site)
	if err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	var said python
	if err := json.Unmarshal([]byte(text), &said); err != nil || len(said.Tags) == 0 || said.Pip == "" {
		return fmt.Errorf("%s says of itself: %.200q", p.name, text)
	}
	return f.memory.change(func(m *memory) {
		p.Pip = said.Pip
		if len(p.Tags) == 0 { // else others are reading them
			p.Label, p.Environment, p.Tags = said.Label, said.Environment, said.Tags
		}
		m.Pythons[p.path] = p
	})
}

// bundled finds the wheel of pip that a Python has for its environments.
const bundled = `
import ensurepip, glob, os, sys, sysconfig
for d in os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"), sysconfig.get_config_var("WHEEL_PKG_DIR"), "/usr/share/python-wheels":
    for wheel in sorted(glob.glob(os.path.join(d or "/nonexistent", "pip-*.whl"))):
        print(wheel)
        sys.exit()
sys.exit("it has no wheel of pip")`

// unpackPip unpacks the pip that a Python has for its environments, which takes a tenth of
// the time of making one.
func (f *farm) unpackPip(ctx context.Context, p *python, base string) (site string, err error) {
	wheel, err := f.say(ctx, p.path, "-I", "-c", bundled)
	if err != nil {
		return "", err
	}
	_, err = f.say(ctx, "/bin/sh", "-c", `umask 022; exec "$@"`, "sh", p.path, "-I", "-m", "zipfile", "-e", wheel, base)
	return base, err
}

// installPip makes an environment with pip.
func (f *farm) installPip(ctx context.Context, p *python, base string) (site string, err error) {
	if err := os.RemoveAll(base); err != nil {
		return "", err
	}
	if _, err := f.say(ctx, "/bin/sh", "-c", `umask 022; exec "$@"`, "sh", p.path, "-I", "-m", "venv", base); err != nil {
		uv, lookErr := exec.LookPath("uv")
		if lookErr != nil {
			return "", err
		}
		if _, err := f.say(ctx, "/bin/sh", "-c", `umask 022; exec "$@"`, "sh", uv, "venv", "--no-config", "--seed", "--python", p.path, base); err != nil {
			return "", err
		}
	}
	return f.say(ctx, filepath.Join(base, "bin", "python"), "-I", "-c", `import os, pip; print(os.path.dirname(os.path.dirname(pip.__file__)))`)
}

// find finds a Python by its name.
func (f *farm) find(ctx context.Context, name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	uv, uvErr := exec.LookPath("uv")
	if uvErr != nil {
		return "", err
	}
	if path, uvErr = f.say(ctx, uv, "python", "find", "--no-config", name); uvErr != nil {
		return "", errors.Join(err, uvErr)
	}
	return path, nil
}

// say runs a program, and returns the last line that it prints.
func (f *farm) say(ctx context.Context, name string, args ...string) (string, error) {
	var out bytes.Buffer
	env := []string{"LANG=C.UTF-8", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	_, err := f.r.Command(ctx, step.Command{Name: name, Args: args, Dir: f.work, Env: env, Out: &out, Untrusted: true})
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err != nil {
		fmt.Fprintf(f.r.Out, "%s\n", &out)
		return "", err
	}
	return lines[len(lines)-1], nil
}
