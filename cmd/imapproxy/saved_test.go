package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/internal/admin"
	"imapproxy/internal/imaptest"
	"imapproxy/routing/discovery"
)

func TestAStartWhileConsulIsAwayServesFromTheFile(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	saved := filepath.Join(t.TempDir(), "backends.json")
	before, rest, _ := strings.Cut(file(nil, ""), "discovery \"static\" {\n")
	text := before + "discovery \"consul\" {\n  address = \"127.0.0.1:1\"\n  service = \"imap\"\n  cache_file = \"" + saved + "\"\n" + rest

	checked := func() *running { // 127.0.0.1:1 refuses at once: nothing is waited for but the time-out
		config := filepath.Join(t.TempDir(), "config.hcl")
		write(t, config, text)
		return command(t, "check", "--config", config, "--timeout", "200ms")
	}
	if r := checked(); !strings.Contains(r.stdout.String(), "ok    cache_file        "+saved+" isn't there yet") {
		t.Error(r.stdout)
	}
	of := strings.ReplaceAll(discovery.ConsulOptions{Service: "imap"}.SavedOf(), `"`, `\"`)
	write(t, saved, fmt.Sprintf(`{"format": "imapproxy backends", "version": 1, "of": "%s", "saved": "2026-01-02T03:04:05Z",
		"backends": [{"id": "b1", "address": "%s", "weight": 1, "state": "up"}]}`, of, fleet(t, 1).Addresses()[0]))
	if r := checked(); !strings.Contains(r.stdout.String(), "ok    cache_file        "+saved+": 1 backend, saved ") {
		t.Error(r.stdout)
	}

	r, plain, api, _ := launchServe(t, text)
	imaptest.Dial(t, plain).Login("alice", "alice")
	r.await(r.stderr, `level=WARN msg="discovery doesn't answer: using the last good set, which was saved on disk" source=consul age=\S+ backends=1`)
	if out := command(t, "status", "--admin", api).stdout.String(); !strings.Contains(out, "ago, read from disk: none came since the start") {
		t.Error(out)
	}
	client := admin.Client{Address: api}
	if s, err := client.Status(t.Context()); err != nil || !s.Discovery.Saved || s.State != admin.StateReady {
		t.Errorf("%+v %v", s.Discovery, err)
	}
	r.interrupt()
	if r.wait() != exitOK {
		t.Error("it didn't end in good order")
	}

	write(t, saved, "rubbish")
	if r := checked(); !strings.Contains(r.stdout.String(), "warn  cache_file") || !strings.Contains(r.stdout.String(), "can't be used") {
		t.Error(r.stdout)
	}
	if text, err := os.ReadFile(saved); err != nil || string(text) != "rubbish" {
		t.Error("check has changed the file")
	}
}
