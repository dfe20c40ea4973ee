package handover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// maxPath is the longest path of a unix socket, in bytes.
const maxPath = 107

// CheckPath returns what is wrong with the path of a unix socket.
func CheckPath(path string) error {
	if len(path) > maxPath-len(".new") {
		return fmt.Errorf("%q is longer than the path of a socket may be (%d bytes)", path, maxPath-len(".new"))
	}
	return nil
}

// Dial connects to the process that listens at a path, to take over from it. Nil without an error: there is none.
func Dial(ctx context.Context, path string) (*Conn, error) { return dial(ctx, path, permitted) }

// DialToAsk connects as Dial does, for a command of an operator, which takes nothing from the process: root may ask a process of
// any user.
func DialToAsk(ctx context.Context, path string) (*Conn, error) { return dial(ctx, path, mayBeAsked) }

func dial(ctx context.Context, path string, may func(uid, own int) bool) (*Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED): // the process has ended, and left the file
		return nil, nil
	case err != nil:
		return nil, err
	}
	k, err := newConn(c.(*net.UnixConn), may)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return k, nil
}

// Listener waits for other processes of this proxy.
type Listener struct{ l *net.UnixListener }

// Listen listens at a path, in place of the process that listens there. That one's connections stay.
func Listen(path string) (*Listener, error) {
	if err := CheckPath(path); err != nil {
		return nil, err
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// The folder's mode counts until chmod; UMask= is the unit's.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // the name may be the successor's by then
	if err = os.Chmod(fresh, 0o600); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(fresh)
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return &Listener{l: l}, nil
}

// Accept waits for another process. err is net.ErrClosed after Close. A process of another user is refused, and
// refused says so; the next one may be called for.
func (l *Listener) Accept() (k *Conn, refused, err error) {
	c, err := l.l.AcceptUnix()
	if err != nil {
		return nil, nil, err
	}
	k, refused = newConn(c, permitted)
	if refused != nil {
		_ = c.Close()
		return nil, refused, nil
	}
	return k, nil, nil
}

// Close ends Accept. The file stays: another process may listen at the path by now.
func (l *Listener) Close() error { return l.l.Close() }
