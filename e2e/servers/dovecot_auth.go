package servers

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A Dovecot that serves no mail, with a passwd-file and two listeners of service auth.
const (
	dovecotAuthBase = `base_dir = %[1]s/run
state_dir = %[1]s/state
log_path = %[1]s/log
instance_name = e2e-auth
listen = 127.0.0.1
ssl = no
auth_failure_delay = 0
service auth {
  unix_listener auth-imapproxy {
    mode = 0600
  }
  inet_listener auth-imapproxy {
    port = %[2]s
  }
}
`
	dovecotAuth23 = `protocols =
auth_mechanisms = %[2]s
passdb {
  driver = passwd-file
  args = scheme=PLAIN username_format=%%u %[1]s/users
}
`
	dovecotAuth24 = `dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
protocols =
auth_mechanisms = %[2]s
passdb users {
  driver = passwd-file
  passwd_file_path = %[1]s/users
  default_password_scheme = PLAIN
  auth_username_format = %%{user}
}
`
)

// DovecotAuth is a running Dovecot that checks passwords only.
type DovecotAuth struct {
	*Process
	Socket string // the path of its unix socket
	Addr   string // of its TCP listener
	Log    string

	t   testing.TB
	dir string
}

// StartDovecotAuth runs a Dovecot that checks passwords by the mechanisms, for these lines of a passwd-file.
func StartDovecotAuth(t testing.TB, mechanisms, users string) *DovecotAuth {
	t.Helper()
	release := DovecotRelease(t)
	dir := Folder(t)
	addr, port := FreeAddr(t)
	d := &DovecotAuth{t: t, dir: dir, Socket: filepath.Join(dir, "run", "auth-imapproxy"), Addr: addr, Log: filepath.Join(dir, "log")}
	base, own := fmt.Sprintf(dovecotAuthBase, dir, port), fmt.Sprintf(dovecotAuth23, dir, mechanisms)
	if release == "2.4" {
		own = fmt.Sprintf(dovecotAuth24, dir, mechanisms)
	}
	write(t, filepath.Join(dir, "dovecot.conf"), own+base)
	d.Write(users)
	d.Start()
	return d
}

// Write replaces the passwd-file.
func (d *DovecotAuth) Write(users string) {
	d.t.Helper()
	write(d.t, filepath.Join(d.dir, "users"), users)
}

// Start runs the server, again after its Stop.
func (d *DovecotAuth) Start() {
	d.t.Helper()
	d.Process = Start(d.t, "dovecot-auth", exec.Command("dovecot", "-F", "-c", filepath.Join(d.dir, "dovecot.conf")), d.Log)
	d.WaitAccepts("tcp", d.Addr)
	d.WaitAccepts("unix", d.Socket)
}

// PasswdLine is a line of a passwd-file: the fields are extra fields.
func PasswdLine(user, password string, fields ...string) string {
	return user + ":{PLAIN}" + password + "::::::" + strings.Join(fields, " ") + "\n"
}
