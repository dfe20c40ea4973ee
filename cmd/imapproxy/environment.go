package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
)

// Exit codes, documented in docs/configuration.md.
const (
	exitOK     = 0
	exitFailed = 1 // the attempt failed
	exitUsage  = 2 // the command line or the configuration is wrong; nothing was tried
)

// environment has the parts of the process that a verb may use.
type environment struct {
	ctx    context.Context // done at SIGINT or SIGTERM
	stdout io.Writer
	stderr io.Writer
	stdin  io.Reader
	// hangups delivers SIGHUPs from now on, until stop. A SIGHUP ends a verb that doesn't call it.
	hangups func() (signals <-chan os.Signal, stop func())
}

// failure is an error that was printed already; it has only the exit code.
type failure struct{ code int }

func (f failure) Error() string { return fmt.Sprintf("exit code %d", f.code) }

// count is "1 mistake", "2 mistakes", "3 capabilities".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if stem, ok := strings.CutSuffix(what, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
