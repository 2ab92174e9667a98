package wheels

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/unifiedmirrors/mirror/caddymirror/step"
)

// osRelease is where a system says what it is (os-release(5)).
const osRelease = "/etc/os-release"

// thisPlatform is the name of the directory for wheels of this host: ubuntu-22.04-x86_64.
func thisPlatform() (string, error) {
	text, err := step.ReadFile(osRelease, step.MaxConfig)
	if err != nil {
		return "", fmt.Errorf("platform: %w", err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", fmt.Errorf("platform: %w", err)
	}
	return platformOf(text, unix.ByteSliceToString(u.Machine[:]))
}

// platformOf reads os-release. OpenDev's directories have the version as the distribution
// counts its releases: Ubuntu's and SUSE's with a minor number, others' without.
func platformOf(text []byte, machine string) (string, error) {
	values := map[string]string{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		name, value, ok := strings.Cut(strings.TrimSpace(s.Text()), "=")
		if ok && name[:min(1, len(name))] != "#" {
			values[name] = strings.Trim(value, `"'`)
		}
	}
	id, version := values["ID"], values["VERSION_ID"]
	if id == "" || version == "" || strings.ContainsAny(id+version, "/ ") {
		return "", errors.New("platform: " + osRelease + " does not say which system this is, so the platform must be named")
	}
	with := []string{"ubuntu", "alpine"}
	if !slices.Contains(with, id) && !strings.Contains(id, "suse") && !slices.Contains(strings.Fields(values["ID_LIKE"]), "ubuntu") {
		version, _, _ = strings.Cut(version, ".")
	} else if parts := strings.Split(version, "."); len(parts) > 2 {
		version = strings.Join(parts[:2], ".")
	}
	return id + "-" + version + "-" + machine, nil
}
