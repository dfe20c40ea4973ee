package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
)

// The unit that we ship is understood as a whole by this release's systemd, and leaves the
// proxy little that it could do beside its work.
func TestTheSystemdUnitIsUnderstoodAndClosed(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	cmd := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", "../contrib/systemd/imapproxy-lb.service")
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	if s := complaints.String(); strings.Contains(s, "Unknown") || strings.Contains(s, "ailed to parse") {
		t.Error(s)
	}
}

// The units fit together and to this release's systemd, with the program where they say it is.
func TestTheSystemdUnitsAreVerified(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	dir := servers.Folder(t)
	verify := func(change func(string) string) string {
		t.Helper()
		var all []string
		for _, name := range []string{"imapproxy-lb.service", "imapproxy-lb.socket"} {
			text, err := os.ReadFile("../contrib/systemd/" + name)
			if err != nil {
				t.Fatal(err)
			}
			program := strings.ReplaceAll(string(text), "=/usr/bin/imapproxy ", "="+os.Getenv(proxyBinary)+" ")
			writeFile(t, filepath.Join(dir, name), change(program))
			all = append(all, filepath.Join(dir, name))
		}
		cmd := exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "--recursive-errors=no"}, all...)...)
		cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Sprintf("%v\n%s", err, out)
		}
		return string(out)
	}
	if out := verify(func(s string) string { return s }); out != "" {
		t.Error(out)
	}
	for from, to := range map[string]string{"Type=notify": "Type=notified", os.Getenv(proxyBinary): "/usr/bin/no-such-program", "ListenStream=143": "ListenStream=143x"} {
		if out := verify(func(s string) string { return strings.ReplaceAll(s, from, to) }); out == "" {
			t.Errorf("%s isn't noticed", to)
		}
	}
}

// A core file would show passwords.
func TestTheProcessWritesNoCore(t *testing.T) {
	t.Parallel()
	server := servers.StartDovecot(t, servers.DovecotOptions{})
	p := startProxy(t, proxyOptions{Backends: []backend{{"b1", server.Addr}}})
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if strings.HasPrefix(line, "Max core file size") && strings.Join(strings.Fields(line)[4:6], " ") != "0 0" {
			t.Error(line)
		}
	}
}
