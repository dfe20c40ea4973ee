package consultest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestABrokenCONSUL_BINIsAnErrorAndNotASkip(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "consul")
	if _, err := findBinary(missing); err == nil || !strings.Contains(err.Error(), "CONSUL_BIN") {
		t.Errorf("a missing binary: %v", err)
	}
	broken := filepath.Join(t.TempDir(), "consul")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := findBinary(broken); err == nil || !strings.Contains(err.Error(), "CONSUL_BIN") {
		t.Errorf("a binary that fails: %v", err)
	}
}

func TestWithoutConsulTheErrorSaysWhatToDo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := findBinary(""); err == nil || !strings.Contains(err.Error(), "./test") {
		t.Errorf("no consul anywhere: %v", err)
	}
}

func TestAnAgentServesRestartsAndForgets(t *testing.T) {
	a := Start(t)
	a.PutKV("a%2Fb/c", "1")
	if got, ok := a.Get("/v1/kv/a%252Fb%2Fc?raw"); !ok || got != "1" {
		t.Errorf("the key reads as %q, %v", got, ok)
	}
	a.Register(Service{Name: "imap", ID: "b1", Port: 1})
	if _, ok := a.Get("/v1/agent/service/b1"); !ok {
		t.Error("the service isn't there")
	}
	a.Restart()
	if _, ok := a.Get("/v1/agent/service/b1"); ok {
		t.Error("a restarted dev agent remembers a service")
	}
}
