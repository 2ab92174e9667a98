package jobs

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/unifiedmirrors/mirror/test/testcaddy"
)

// realm is a Kerberos realm with a real KDC on loopback.
type realm struct {
	t   testing.TB
	dir string
	kdc *exec.Cmd
}

func newRealm(t testing.TB) *realm {
	t.Helper()
	testcaddy.Need(t, "k5start", "krb5kdc", "kdb5_util", "kadmin.local", "klist")
	k := &realm{t: t, dir: t.TempDir()}
	// Of UDP and TCP both, at the same port.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	for name, text := range map[string]string{
		"krb5.conf": "[libdefaults]\ndefault_realm = EXAMPLE.ORG\ndns_lookup_kdc = false\ndns_lookup_realm = false\n" +
			"[realms]\nEXAMPLE.ORG = {\nkdc = " + addr + "\n}\n",
		"kdc.conf": "[kdcdefaults]\nkdc_listen = " + addr + "\nkdc_tcp_listen = " + addr + "\n" +
			"[realms]\nEXAMPLE.ORG = {\ndatabase_name = " + k.dir + "/principal\nkey_stash_file = " + k.dir + "/stash\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(k.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	k.run("kdb5_util", "create", "-r", "EXAMPLE.ORG", "-s", "-P", "master")
	t.Cleanup(k.stop)
	k.start()
	return k
}

func (k *realm) env() []string {
	return []string{"KRB5_CONFIG=" + k.dir + "/krb5.conf", "KRB5_KDC_PROFILE=" + k.dir + "/kdc.conf"}
}

func (k *realm) run(name string, args ...string) {
	k.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), k.env()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// keytab makes a principal, and the file with its keys.
func (k *realm) keytab(principal string) string {
	k.t.Helper()
	name := filepath.Join(k.dir, strings.ReplaceAll(principal, "/", "-")+".keytab")
	k.run("kadmin.local", "-q", "addprinc -randkey "+principal)
	k.run("kadmin.local", "-q", "ktadd -k "+name+" "+principal)
	return name
}

func (k *realm) start() {
	k.t.Helper()
	k.kdc = exec.Command("krb5kdc", "-n", "-P", k.dir+"/pid")
	k.kdc.Env = append(os.Environ(), k.env()...)
	if err := k.kdc.Start(); err != nil {
		k.t.Fatal(err)
	}
}

func (k *realm) stop() {
	if k.kdc != nil {
		_ = k.kdc.Process.Signal(syscall.SIGTERM)
		_ = k.kdc.Wait()
		k.kdc = nil
	}
}

// TestTickets: with a real k5start and KDC, commands have tickets of their own while
// they run, and none are left; without a KDC nothing runs, and that is told.
func TestTickets(t *testing.T) {
	t.Parallel()
	k := newRealm(t)
	keytab := k.keytab("service/x-mirror")
	dir := t.TempDir()
	srv := testcaddy.Start(t, jobs(fmt.Sprintf(
		"x directory %s;;kerberos %s service/x-mirror;;env KRB5_CONFIG %s/krb5.conf;;retry 1h 1h;;%s",
		dir, keytab, k.dir, shell("klist > tickets; exit ${CODE:-0}"))))
	var r run
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) { // the KDC begins to listen
		if r = ended(t, srv, "x", start(t, srv, "x")); r.Outcome == "unchanged" || time.Now().After(deadline) {
			break
		}
	}
	tickets := read(dir + "/tickets")
	if r.Outcome != "unchanged" || !strings.Contains(tickets, "service/x-mirror@EXAMPLE.ORG") {
		t.Errorf("%+v: %s", r, tickets)
	}
	_, cache, _ := strings.Cut(tickets, "FILE:")
	cache, _, _ = strings.Cut(cache, "\n")
	if _, err := os.Stat(cache); cache == "" || !os.IsNotExist(err) {
		t.Errorf("the tickets are left at %q: %v", cache, err)
	}

	k.stop()
	if err := os.Remove(dir + "/tickets"); err != nil {
		t.Fatal(err)
	}
	if r := ended(t, srv, "x", start(t, srv, "x")); r.Outcome != "failed" || !strings.Contains(r.Error, "Cannot contact any KDC") || read(dir+"/tickets") != "" {
		t.Errorf("with no KDC: %+v", r)
	}
	k.start()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if r = ended(t, srv, "x", start(t, srv, "x")); r.Outcome == "unchanged" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("with the KDC back: %+v", r)
		}
	}
}
