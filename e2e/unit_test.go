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

// The unit's type is one that each release of systemd knows: notify-reload is unknown before 253, and such a unit would be a simple one.
func TestTheUnitHasATypeThatEachReleaseKnows(t *testing.T) {
	t.Parallel()
	servers.Real(t)
	text, err := os.ReadFile("../contrib/systemd/imapproxy-lb.service")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("systemd-analyze", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	var release int
	if _, err := fmt.Sscanf(string(out), "systemd %d", &release); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for kind, since := range map[string]int{"notify": 1, "notify-reload": 253} {
		path := filepath.Join(servers.Folder(t), "imapproxy-lb.service")
		unit := strings.ReplaceAll(strings.Replace(string(text), "Type=notify\n", "Type="+kind+"\n", 1), "=/usr/bin/imapproxy ", "="+os.Getenv(proxyBinary)+" ")
		if !strings.Contains(unit, "\nType="+kind+"\n") {
			t.Fatal("the unit has no Type=notify")
		}
		writeFile(t, path, unit)
		complaints, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", path).CombinedOutput()
		if known := err == nil && len(complaints) == 0; known != (release >= since) {
			t.Errorf("systemd %d and Type=%s: %v\n%s", release, kind, err, complaints)
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
