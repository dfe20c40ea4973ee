package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watchFlag is the flag of the verbs that show a state.
type watchFlag struct {
	Watch bool `help:"Show it again every two seconds, until interrupted."`
}

// clearScreen has a terminal begin a screen anew.
const clearScreen = "\x1b[H\x1b[2J\x1b[3J"

// watched runs show once, or with --watch again and again. An error ends it.
func (f watchFlag) watched(env environment, show func() error) error {
	if !f.Watch {
		return show()
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		switch {
		case isTerminal(env.stdout):
			fmt.Fprint(env.stdout, clearScreen)
		case !first:
			fmt.Fprintln(env.stdout)
		}
		err := show()
		var said failure
		if err != nil && !errors.As(err, &said) { // other proxies may not have answered: that was shown
			if env.ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-env.ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// isTerminal says whether a screen shows what is written.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS) //nolint:gosec // a descriptor is small
	return err == nil
}
