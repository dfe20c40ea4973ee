package wiring

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"imapproxy/internal/config"
	"imapproxy/proxy"
)

// SettingError is an error in the use of one setting; the file itself is valid.
type SettingError struct {
	Setting string // its path, admin.address
	Err     error
}

func (e *SettingError) Error() string { return e.Setting + ": " + e.Err.Error() }
func (e *SettingError) Unwrap() error { return e.Err }

// About adds to an error the setting that it is about; nil stays nil.
func About(setting string, err error) error {
	if err == nil {
		return nil
	}
	return &SettingError{setting, err}
}

// Located is an error of a start or a reload in the form of the file's own mistakes:
// file:line: what is wrong; what to do about it. Other errors stay as they are. It isn't
// config.Errors: the file is in order, and something was tried.
func Located(file string, err error) error {
	var listener *proxy.ListenError
	if errors.As(err, &listener) {
		err = About("listener."+listener.Listener+".address", listener.Err)
	}
	var s *SettingError
	if !errors.As(err, &s) {
		return err
	}
	return config.Error{File: file, Line: config.LineOf(file, s.Setting), What: s.Error(), Instead: remedy(s)}
}

// remedy is what to do about it, "" where the error says it.
func remedy(s *SettingError) string {
	var dns *net.DNSError
	switch {
	case errors.Is(s.Err, syscall.EADDRINUSE):
		return "end the process that listens there (ss -ltnp shows it), or write another port"
	case errors.Is(s.Err, syscall.EADDRNOTAVAIL) && s.Setting == "backend_defaults.source_addresses":
		return "write addresses that this machine has (ip address shows them)"
	case errors.Is(s.Err, syscall.EADDRNOTAVAIL):
		return "write an address that this machine has (ip address shows them), or leave the host out for all of them"
	case errors.Is(s.Err, syscall.EACCES) && strings.HasSuffix(s.Setting, "address"):
		return "ports below 1024 need a right: AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or write a port from 1024 on"
	case errors.As(s.Err, &dns):
		return "write an IP address, or a name that resolves"
	case errors.Is(s.Err, errSecret):
		return "write the secret into the file, on one line and nothing else"
	case errors.Is(s.Err, fs.ErrPermission):
		return "let the proxy's user write there: chown or chmod the folder and the file"
	case errors.Is(s.Err, fs.ErrNotExist):
		return "create the folder, or correct the name"
	case strings.HasPrefix(s.Setting, "auth.passwd_file.") && strings.HasSuffix(s.Setting, ".path"):
		return "correct these lines; with one bad line the file isn't used (imapproxy check lists them)"
	}
	return ""
}

// errSecret is matched by the errors about a secret's file and its content.
var errSecret = errors.New("not a secret")

// badSecret is the error about a file whose content isn't a secret.
type badSecret struct{ path, what string }

func (e badSecret) Error() string        { return fmt.Sprintf("%s %s", e.path, e.what) }
func (e badSecret) Is(target error) bool { return target == errSecret }
