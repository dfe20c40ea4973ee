package servers

import (
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// noneListens waits until no process listens at the addresses, nor accepts connections at a unix socket in or below
// dir. A server's other processes have its listening sockets too, and go on for a moment after its main process has
// ended, also when all were killed: a Dovecot that is started meanwhile ends ("already running?"), and a Cyrus serves
// the address never ("unable to create listener socket").
func noneListens(t testing.TB, dir string, addrs ...string) {
	t.Helper()
	deadline := time.Now().Add(startTimeout)
	for {
		at := listens(t, dir, addrs)
		if at == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is listened at after %v though its server's main process has ended", at, startTimeout)
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

// listens says at which of the addresses and sockets a process listens, "" at none. An address of another network
// namespace is taken for free.
func listens(t testing.TB, dir string, addrs []string) (at string) {
	t.Helper()
	for _, addr := range addrs {
		l, err := net.Listen("tcp", addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			return addr
		}
		if err == nil {
			_ = l.Close() // it was only looked at
		}
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Type() != fs.ModeSocket {
			return nil //nolint:nilerr // a server that has ended accepts no connection
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			return nil //nolint:nilerr // a file that is left, or datagrams
		}
		at = path
		_ = c.Close() // it was only looked at
		return fs.SkipAll
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}
