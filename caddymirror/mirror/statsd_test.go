package mirror

import (
	"net"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestStatsd: releases of volumes are told by the names that OpenDev has graphs of.
func TestStatsd(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := &Statsd{Address: conn.LocalAddr().String()}
	told := func() string {
		t.Helper()
		buf := make([]byte, 1500)
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		n, _, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	s.released("dir:/srv/x", time.Second, zap.NewNop())
	s.released("", time.Second, zap.NewNop())
	s.released("afs:example.org:mirror.ubuntu", 83500*time.Millisecond, zap.NewNop())
	if got := told(); got != "afs.release.mirror.ubuntu:83500|ms" {
		t.Errorf("told %q", got)
	}
	s.Prefix = "dfw"
	s.released("afs:example.org:docs", 2*time.Millisecond, zap.NewNop())
	if got := told(); got != "dfw.afs.release.docs:2|ms" {
		t.Errorf("told %q", got)
	}
}
