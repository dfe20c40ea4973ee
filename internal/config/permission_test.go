package config

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// asNobody runs f on a thread whose access to files is that of a user who owns none (65534), also
// where the tests run as root. The thread isn't used again.
func asNobody(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() { // its thread ends with it, since it stays locked
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			if err := syscall.Setfsuid(65534); err != nil {
				done <- err
				return
			}
			if err := syscall.Setfsgid(65534); err != nil {
				done <- err
				return
			}
		}
		f()
		done <- nil
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAFileThatMayNotBeReadIsNotAWrongName(t *testing.T) {
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	certificateFiles(t, dir)
	if err := os.Chmod(filepath.Join(dir, "cert.pem"), 0o644); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(closed, "admin.token"), "secret\n")
	config := filepath.Join(dir, "config.hcl")
	write(t, config, strings.Replace(smallest, `tls     = "none"
  cleartext_from = ["127.0.0.1"]`, `tls     = "implicit"
  certificate {
    cert_file = "cert.pem"
    key_file  = "key.pem"
  }`, 1)+`
hostname = file("key.pem")
admin {
  token_file = "closed/admin.token"
}
`)
	load := func() (text string) {
		asNobody(t, func() {
			_, _, err := Load(config)
			if err != nil {
				text = err.Error()
			}
		})
		return strings.ReplaceAll(text, dir+string(filepath.Separator), "")
	}
	if text := load(); !strings.HasPrefix(text, "config.hcl: config.hcl may not be read by the user that runs this") || !strings.Contains(text, "chmod g+r config.hcl") {
		t.Errorf("the file itself: %s", text)
	}
	if err := os.Chmod(config, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	text := load()
	for _, want := range []string{
		"config.hcl:7: listener.local.certificate.key_file: key.pem may not be read by the user that runs this",
		"let the user that runs the proxy read it: chgrp imapproxy key.pem && chmod g+r key.pem",
		"config.hcl:19: hostname: key.pem may not be read by the user that runs this",
		"let the proxy's user read it (chgrp and chmod g+r), or write the value itself",
		"config.hcl:21: admin.token_file: closed/admin.token may not be read by the user that runs this",
		"enter the folder closed (chgrp and chmod g+x",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("doesn't say %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "correct the name") {
		t.Errorf("a name is blamed:\n%s", text)
	}
}

// A user who can write a file that the configuration names, or replace it, decides who may log in.
func TestFilesThatOthersMayWriteAreWarnedOf(t *testing.T) {
	dir := t.TempDir()
	certificateFiles(t, dir)
	text := strings.Replace(smallest, `tls     = "none"
  cleartext_from = ["127.0.0.1"]`, `tls     = "implicit"
  certificate {
    cert_file = "cert.pem"
    key_file  = "key.pem"
  }`, 1) + `
auth "passwd_file" {
  path = "users.passwd"
}
backend_login {
  mode          = "master"
  username      = "proxy"
  password_file = "master.password"
}
backend_defaults {
  ca_file = "cert.pem"
}
admin {
  token_file = "admin.token"
}
park {
  events {
    token_file = "events.token"
  }
}
`
	path := filepath.Join(dir, "config.hcl")
	write(t, path, text)
	named := map[string]string{
		"users.passwd": "auth.passwd_file.path", "master.password": "backend_login.password_file", "admin.token": "admin.token_file",
		"events.token": "park.events.token_file", "key.pem": "listener.local.certificate.key_file", "cert.pem": "backend_defaults.ca_file",
	}
	for name := range named {
		if !strings.HasSuffix(name, ".pem") {
			write(t, filepath.Join(dir, name), "0123456789abcdef:{PLAIN}x\n")
		}
	}
	warnings := func() string {
		t.Helper()
		_, all, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for _, w := range all {
			text.WriteString(w.What + "; " + w.Instead + "\n")
		}
		return text.String()
	}
	if s := warnings(); strings.Contains(s, "may write") {
		t.Errorf("nobody else may write them:\n%s", s)
	}
	for name, setting := range named {
		file := filepath.Join(dir, name)
		want := setting + ": users other than its owner may write " + file + "; chmod go-w " + file
		for _, mode := range []os.FileMode{0o620, 0o602} {
			if err := os.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
			if s := warnings(); !strings.Contains(s, want) {
				t.Errorf("%s with %v: no %q in\n%s", name, mode, want, s)
			}
		}
		if err := os.Chmod(file, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for mode, warned := range map[os.FileMode]bool{0o757: true, 0o775: true, 0o777 | os.ModeSticky: false} {
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		for name, setting := range named {
			want := setting + ": users other than its owner may write " + dir + ", and so replace " + filepath.Join(dir, name)
			if s := warnings(); strings.Contains(s, want) != warned {
				t.Errorf("%s in a folder with %v:\n%s", name, mode, s)
			}
		}
	}
}
