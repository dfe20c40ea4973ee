package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
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
