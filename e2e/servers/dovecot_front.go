package servers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A DovecotFront is a Dovecot without mail, which sends clients to other servers: a proxy or a director.
type DovecotFront struct {
	*Process
	t    testing.TB
	dir  string
	host string
}

// StartDovecotFront runs a Dovecot of a whole configuration, which listens on host, in a folder of its own ("%DIR%" in the
// configuration).
func StartDovecotFront(t testing.TB, host, conf string) *DovecotFront {
	t.Helper()
	Real(t)
	d := &DovecotFront{t: t, dir: Folder(t), host: host}
	own := fmt.Sprintf("base_dir = %[1]s/run\nstate_dir = %[1]s/state\nlog_path = %[1]s/log\ninstance_name = %[2]s\n", d.dir, filepath.Base(d.dir))
	write(t, filepath.Join(d.dir, "dovecot.conf"), strings.ReplaceAll(conf, "%DIR%", d.dir)+own)
	d.Start()
	return d
}

// Start runs the server, again after its Stop.
func (d *DovecotFront) Start() {
	d.t.Helper()
	d.Process = Start(d.t, "dovecot-front", exec.Command("dovecot", "-F", "-c", filepath.Join(d.dir, "dovecot.conf")), filepath.Join(d.dir, "log"))
	d.WaitPort(d.host + ":143")
}

// Doveadm is what doveadm prints for this server.
func (d *DovecotFront) Doveadm(args ...string) string {
	d.t.Helper()
	return run(d.t, "", "doveadm", append([]string{"-c", filepath.Join(d.dir, "dovecot.conf")}, args...)...)
}

// Doveadm is what doveadm prints for a Dovecot.
func (s *Server) Doveadm(t testing.TB, args ...string) string {
	t.Helper()
	return run(t, "", "doveadm", append([]string{"-c", filepath.Join(filepath.Dir(s.Log), "dovecot.conf")}, args...)...)
}

// RunFolder is where the server has its sockets.
func (d *DovecotFront) RunFolder() string { return filepath.Join(d.dir, "run") }
