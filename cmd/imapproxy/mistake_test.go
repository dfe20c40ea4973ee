package main

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// What goes wrong when a setting is used is said like a mistake in the file: where it
// stands, what is wrong, what to do.
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
	for _, c := range []struct {
		what, text, setting, remedy string
	}{
		{"a listener's address that is taken", set(listen, "address = "+address), "listener.plain.address", "another port"},
		{"a listener's address of another machine", set(listen, `address = "192.0.2.1:0" # HERE`), "listener.plain.address", "ip address"},
		{"admin's address that is taken", set(admin, "admin {\n  address = "+address), "admin.address", "another port"},
		{"admin's token of two lines", set(admin, admin+"\n  token_file = \"two.lines\" # HERE"), "admin.token_file", "on one line"},
		{"the events' address that is taken", text + "park {\n  events {\n    token_file = \"token\"\n    address = " + address + "\n  }\n}\n", "park.events.address", "another port"},
		{"a passwd-file with a bad line", text + "auth \"passwd_file\" {\n  path = \"users.passwd\" # HERE\n}\n", "auth.passwd_file.path", "correct these lines"},
		{"a log that can't be made", text + "telemetry {\n  log {\n    file = \"/proc/imapproxy.log\" # HERE\n  }\n}\n", "telemetry.log.file", "correct the name"},
	} {
		t.Run(c.what, func(t *testing.T) {
			config := filepath.Join(dir, "config.hcl")
			write(t, config, c.text)
			r := command(t, "serve", "--config", config)
			before, _, _ := strings.Cut(c.text, "# HERE")
			want := "config.hcl:" + itoa(1+strings.Count(before, "\n")) + ": " + c.setting + ": "
			if said := r.stderr.String(); r.code != exitFailed || !strings.Contains(said, want) || !strings.Contains(said, c.remedy) {
				t.Errorf("exit code %d, want %s… and %s\n%s", r.code, want, c.remedy, said)
			}
		})
	}
}
