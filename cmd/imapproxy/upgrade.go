package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/app"
	"imapproxy/internal/config"
	"imapproxy/internal/handover"
	"imapproxy/internal/wiring"
)

type upgradeCommand struct {
	Config string `required:"" placeholder:"FILE" help:"The configuration file of the running proxy."`
	Socket string `placeholder:"PATH" help:"The hand-over socket of the running proxy; default: shutdown.handover_socket, or /run/imapproxy/handover.sock."`
}

const (
	// unitSocket is where the unit's processes have the socket, if the configuration has none.
	unitSocket = "/run/imapproxy/handover.sock"
	// upgradeWithin bounds an upgrade: the new process's backends become known, it serves on trial, and the old one stops to accept.
	upgradeWithin = 3 * time.Minute
)

// Run has the running proxy start a new process of the program as it is installed now, which takes over. It returns when the new process serves.
func (c upgradeCommand) Run(env environment) error {
	cfg, _, err := config.Load(c.Config) // so that mistakes are shown here, and not only in the log
	if err != nil {
		return err
	}
	path := c.Socket
	if path == "" {
		path = wiring.HandoverSocket(cfg, func(string) string { return "" })
	}
	if path == "" {
		path = unitSocket
	}
	ctx, cancel := context.WithTimeout(env.ctx, upgradeWithin)
	defer cancel()
	k, err := handover.DialToAsk(ctx, path)
	switch {
	case err != nil:
		return fmt.Errorf("the hand-over socket: %w", err)
	case k == nil:
		return fmt.Errorf("no proxy listens at %s: is it running, and has it a hand-over socket? If the socket's file was deleted, SIGHUP (systemctl reload) makes it again", path)
	}
	defer k.Close()
	defer context.AfterFunc(ctx, func() { _ = k.Close() })()
	if err := k.Send(handover.Message{Do: "upgrade", Format: handover.Format}, nil); err != nil {
		return err
	}
	for {
		m, sockets, err := k.Receive(time.Time{})
		sockets.Close()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("the new process doesn't serve yet; the log shows why: %w", ctx.Err())
		case err != nil:
			return fmt.Errorf("the running proxy ended: %w", err)
		}
		switch m.Do {
		case "started":
			fmt.Fprintf(env.stdout, "a new process was started (pid %d)\n", m.PID)
		case "done":
			fmt.Fprintf(env.stdout, "the new process serves (pid %d); the old one (pid %d) serves its sessions until they end, for %s at most\n", m.PID, k.PID(), cfg.Shutdown.Handover)
			return nil
		case "refused":
			return fmt.Errorf("not upgraded: %s. The log shows more", admin.Printable(m.Text))
		}
	}
}

// again returns what starts this program as it is installed then, with the same arguments. Under systemd it is in the same unit.
func again() func() (app.Started, error) {
	program, err := programFile(os.Args[0])
	return func() (app.Started, error) {
		if err != nil {
			return app.Started{}, err
		}
		return startAgain(program)
	}
}

// programFile returns the path by which this process was started, absolute, with its links: by the next upgrade they may lead to another
// release. named is the first argument. Where that isn't a path of the program, it is the path without links. It is called when the process
// starts, since the path may be relative, and its links may change.
func programFile(named string) (string, error) {
	own, err := os.Executable() // without links
	if err != nil {
		return "", err
	}
	path, err := exec.LookPath(named)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return own, nil //nolint:nilerr // it was started in another way
	}
	if isSameFile(path, own) {
		return path, nil
	}
	return own, nil
}

// isSameFile says whether two paths lead to one file that is there.
func isSameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

// startAgain starts a program with the arguments of this process.
func startAgain(program string) (app.Started, error) {
	cmd := exec.Command(program, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = nil, os.Stdout, os.Stderr
	// What systemd says to this process alone.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "LISTEN_") || strings.HasPrefix(v, "WATCHDOG_") || strings.HasPrefix(v, "MAINPID=")
	})
	if err := cmd.Start(); err != nil {
		return app.Started{}, err
	}
	return app.Started{PID: cmd.Process.Pid, Wait: cmd.Wait, Kill: cmd.Process.Kill}, nil
}
