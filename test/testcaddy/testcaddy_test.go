package testcaddy

import (
	"strings"
	"testing"
)

const config = `http://{$ADDR} {
	bind 127.0.0.1
	respond "one"
}
`

func body(t *testing.T, s *Server) string {
	t.Helper()
	_, data, err := s.Get("/")
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestServer(t *testing.T) {
	s := Start(t, config)
	if got := body(t, s); got != "one" {
		t.Errorf("answer is %q", got)
	}

	if err := s.Reload(strings.Replace(config, "one", "two", 1)); err != nil {
		t.Fatal(err)
	}
	if got := body(t, s); got != "two" {
		t.Errorf("answer after a reload is %q", got)
	}
	err := s.Reload("http://{$ADDR} {\n\tno_such_directive\n}\n")
	if err == nil || !strings.Contains(err.Error(), "no_such_directive") {
		t.Errorf("a reload that must fail: %v", err)
	}

	pid := s.Pid()
	s.Kill()
	<-s.Done()
	s.Restart(`{"apps":{"http":{"servers":{"s":{"listen":["{$ADDR}"],"routes":[{"handle":[{"handler":"static_response","body":"three"}]}]}}}}}`)
	if got := body(t, s); got != "three" {
		t.Errorf("answer after a restart is %q", got)
	}
	if s.Pid() == pid {
		t.Error("the process is the old one")
	}
	s.Stop()
	select {
	case <-s.Done():
	default:
		t.Error("the process is still there after Stop")
	}
}
