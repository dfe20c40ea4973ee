package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// An error in the use of a setting is reported like a mistake in the file: its line, what is wrong, what to
// do.
func TestAStartThatFailsNamesTheLineAndTheRemedy(t *testing.T) {
	imaptest.VerifyNoLeaks(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "two.lines"), "0123456789abcdef a\nsecond line\n")
	write(t, filepath.Join(dir, "token"), "0123456789abcdef\n")
	write(t, filepath.Join(dir, "good.passwd"), "alice:{PLAIN}alice\n")
	write(t, filepath.Join(dir, "users.passwd"), "alice:{NOSUCH}x\n")
	text := file(fleet(t, 1), "")
	set := func(from, to string) string {
		t.Helper()
		if !strings.Contains(text, from) {
			t.Fatalf("no %q in the configuration", from)
		}
		return strings.Replace(text, from, to, 1)
	}
	address := `"` + taken.Addr().String() + `" # HERE`
	const listen, admin = `address        = "127.0.0.1:0"`, "admin {\n  address = \"127.0.0.1:0\""
	const master = "backend_login {\n  mode = \"master\"\n  username = \"proxy\"\n  password_file = "
	for _, c := range []struct {
		what, text, setting, remedy string
		checked                     bool // check says it, too: it needs no address to be bound
	}{
		{"a listener's address that is taken", set(listen, "address = "+address), "listener.plain.address", "another port", false},
		{"a listener's address of another machine", set(listen, `address = "192.0.2.1:0" # HERE`), "listener.plain.address", "ip address", false},
		{"admin's address that is taken", set(admin, "admin {\n  address = "+address), "admin.address", "another port", false},
		{"admin's token of two lines", set(admin, admin+"\n  token_file = \"two.lines\" # HERE"), "admin.token_file", "on one line", true},
		{"a master's password of two lines", text + master + "\"two.lines\" # HERE\n}\nauth \"passwd_file\" {\n  path = \"good.passwd\"\n}\n", "backend_login.password_file", "on one line", true},
		{"a source address of another machine", text + "backend_defaults {\n  source_addresses = [\"192.0.2.1\"] # HERE\n}\n", "backend_defaults.source_addresses", "ip address", true},
		{"the events' address that is taken", text + "park {\n  events {\n    token_file = \"token\"\n    address = " + address + "\n  }\n}\n", "park.events.address", "another port", false},
		{"a passwd-file with a bad line", text + "auth \"passwd_file\" {\n  path = \"users.passwd\" # HERE\n}\n", "auth.passwd_file.path", "correct these lines", false},
		{"a log that can't be made", text + "telemetry {\n  log {\n    file = \"/proc/imapproxy.log\" # HERE\n  }\n}\n", "telemetry.log.file", "correct the name", false},
	} {
		t.Run(c.what, func(t *testing.T) {
			config := filepath.Join(dir, "config.hcl")
			write(t, config, c.text)
			before, _, _ := strings.Cut(c.text, "# HERE")
			want := "config.hcl:" + itoa(1+strings.Count(before, "\n")) + ": " + c.setting + ": "
			verbs := [][]string{{"serve"}}
			if c.checked {
				verbs = append(verbs, []string{"check"}, []string{"check", "--file-only"})
			}
			for _, verb := range verbs {
				r := command(t, append(verb, "--config", config)...)
				if said := r.stderr.String(); r.code != exitFailed || !strings.Contains(said, want) || !strings.Contains(said, c.remedy) {
					t.Errorf("%v: exit code %d, want %s… and %s\n%s", verb, r.code, want, c.remedy, said)
				}
			}
		})
	}
}
