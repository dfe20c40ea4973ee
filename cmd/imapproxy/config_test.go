package main

import (
	"encoding/json"
	"strings"
	"testing"

	"imapproxy/internal/admin"
	"imapproxy/internal/config"
	"imapproxy/internal/imaptest"
)

func TestConfigShowsTheRunningSettings(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	text := file(fleet(t, 1), "telemetry {\n  traces {\n    endpoint = \"http://127.0.0.1:1\"\n    headers  = { \"key\" = \"hush-hush\" }\n  }\n}\n")
	_, _, api, path := launchServe(t, text)

	shown := command(t, "config", "--admin", api)
	if out := shown.stdout.String(); shown.code != exitOK || !strings.Contains(out, "# from "+path+", read ") || !strings.Contains(out, "# the file has the same settings\n") || strings.Contains(out, "hush") {
		t.Errorf("%d\n%s%s", shown.code, out, shown.stderr)
	}
	if _, _, err := config.Parse(path, []byte(shown.stdout.String())); err != nil {
		t.Errorf("it can't be read again: %v\n%s", err, shown.stdout)
	}

	write(t, path, strings.Replace(text, "hush-hush", "hush", 1)+"limits {\n}\n")
	if out := command(t, "config", "--admin", api).stdout.String(); !strings.Contains(out, "# THE FILE CAN'T BE LOADED: "+path+":") {
		t.Errorf("a file with a mistake:\n%s", out)
	}
	write(t, path, strings.Replace(strings.Replace(text, "hush-hush", "hush", 1), "imap.test", "other.test", 1))
	for _, verb := range [][]string{{"config"}, {"config", "--cluster"}} {
		out := command(t, append(verb, "--admin", api)...).stdout.String()
		for _, want := range []string{"# THE FILE DIFFERS, its digest is ", "# a reload changes hostname\n", "# a restart changes telemetry.traces.headers\n"} {
			if !strings.Contains(out, want) {
				t.Errorf("%v doesn't say %q:\n%s", verb, want, out)
			}
		}
	}
	var answer admin.Config
	if err := json.Unmarshal([]byte(command(t, "config", "--json", "--admin", api).stdout.String()), &answer); err != nil || answer.Disk == nil || answer.Disk.Same || answer.Disk.Digest == answer.Digest {
		t.Errorf("as JSON: %v %+v", err, answer)
	}
}

// Nothing that a proxy says can control the terminal.
func TestConfigPrintsNoControlCharacters(t *testing.T) {
	var out strings.Builder
	err := showConfig(&out, admin.Config{File: "a\x1b[2Jb", Text: "x = \"\x1b[2J\u009b\"\ny = 1\n", Disk: &admin.Disk{Error: "\x07"}})
	if text := out.String(); err != nil || strings.ContainsAny(text, "\x1b\x07\u009b") || !strings.Contains(text, "\ny = 1\n") {
		t.Errorf("%v %q", err, text)
	}
}
