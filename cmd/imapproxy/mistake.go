package main

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

// settingError is what went wrong with one setting when it was used: the file itself
// was in order.
type settingError struct {
	setting string // its path, admin.address
	err     error
}

func (e *settingError) Error() string { return e.setting + ": " + e.err.Error() }
func (e *settingError) Unwrap() error { return e.err }

// about says which setting an error is about; nil stays nil.
func about(setting string, err error) error {
	if err == nil {
		return nil
	}
	return &settingError{setting, err}
}

// located is an error of a start or a reload in the form of the file's own mistakes:
// file:line: what is wrong; what to do about it. Other errors stay as they are. It isn't
// config.Errors: the file is in order, and something was tried.
func located(file string, err error) error {
	var listener *proxy.ListenError
	if errors.As(err, &listener) {
		err = about("listener."+listener.Listener+".address", listener.Err)
	}
	var s *settingError
	if !errors.As(err, &s) {
		return err
	}
	return config.Error{File: file, Line: config.LineOf(file, s.setting), What: s.Error(), Instead: remedy(s)}
}

// remedy is what to do about it, "" where the error says it.
func remedy(s *settingError) string {
	var dns *net.DNSError
	switch {
	case errors.Is(s.err, syscall.EADDRINUSE):
		return "end the process that listens there (ss -ltnp shows it), or write another port"
	case errors.Is(s.err, syscall.EADDRNOTAVAIL):
		return "write an address that this machine has (ip address shows them), or leave the host out for all of them"
	case errors.Is(s.err, syscall.EACCES) && strings.HasSuffix(s.setting, "address"):
		return "ports below 1024 need a right: AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit, or write a port from 1024 on"
	case errors.As(s.err, &dns):
		return "write an IP address, or a name that resolves"
	case errors.Is(s.err, errSecret):
		return "write the secret into the file, on one line and nothing else"
	case errors.Is(s.err, fs.ErrPermission):
		return "let the proxy's user write there: chown or chmod the folder and the file"
	case errors.Is(s.err, fs.ErrNotExist):
		return "create the folder, or correct the name"
	case s.setting == "auth.passwd_file.path":
		return "correct these lines; with one bad line the file isn't used (imapproxy check lists them)"
	}
	return ""
}

// errSecret is wrapped by what readSecret says of a file's content.
var errSecret = errors.New("not a secret")

// badSecret is a file whose content is no secret.
type badSecret struct{ path, what string }

func (e badSecret) Error() string        { return fmt.Sprintf("%s %s", e.path, e.what) }
func (e badSecret) Is(target error) bool { return target == errSecret }
