package idlers

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hinshun/vt10x"
	"golang.org/x/sys/unix"
)

// A terminal is a program's screen and keyboard.
type terminal struct {
	a    *account
	pty  *os.File
	vt   vt10x.Terminal // the screen; it has a lock of its own
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended
}

// The screen's size.
const rows, columns = 50, 90

// newTerminal runs a program on a terminal of its own, and ends it with the test.
func newTerminal(a *account, cmd *exec.Cmd) *terminal {
	a.Helper()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	must(a, err)
	must(a, unix.IoctlSetPointerInt(int(pty.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(pty.Fd()), unix.TIOCGPTN)
	must(a, err)
	must(a, unix.IoctlSetWinsize(int(pty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}))
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	must(a, err)
	defer tty.Close()
	vt := vt10x.New(vt10x.WithSize(columns, rows), vt10x.WithWriter(pty))
	t := &terminal{a: a, pty: pty, vt: vt, cmd: cmd, done: make(chan struct{})}
	cmd.Env = append(cmd.Env, "TERM=xterm")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	must(a, cmd.Start())
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(vt, pty) }) // ends with the program, which alone holds the other end
	go func() {                                    // ends with the program; closes done
		defer close(t.done)
		_ = cmd.Wait() // how it ended is of no interest
	}()
	a.Cleanup(func() {
		if a.Failed() {
			a.Logf("the screen:\n%s", strings.Join(t.screen(), "\n"))
		}
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			a.Error(err)
		}
		<-t.done
		reading.Wait()
		_ = pty.Close()
	})
	return t
}

// keys types.
func (t *terminal) keys(s string) {
	t.a.Helper()
	select {
	case <-t.done:
		t.a.Fatal("the program has ended")
	default:
	}
	_, err := t.pty.WriteString(s)
	must(t.a, err)
}

// screen returns the text on the screen, without blanks at the ends of lines.
func (t *terminal) screen() []string {
	lines := strings.Split(t.vt.String(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return lines
}

// shows waits until the screen is as it should be.
func (t *terminal) shows(what string, try func(lines []string) error) {
	t.a.Helper()
	t.a.eventually(what, func() error {
		select {
		case <-t.done:
			t.a.Fatalf("the program ended before it showed %s", what)
		default:
		}
		lines := t.screen()
		if err := try(lines); err != nil {
			return fmt.Errorf("%w on\n%s", err, strings.Join(slices.Compact(lines), "\n"))
		}
		return nil
	})
}

// lists waits until the index has these messages, numbered from 1. The entry finds a line's number and subject.
func (t *terminal) lists(entry *regexp.Regexp, want []string) {
	t.a.Helper()
	t.a.eventually("the index", func() error { return t.listed(entry, want) })
}

// listed compares the index with what should stand there.
func (t *terminal) listed(entry *regexp.Regexp, want []string) error {
	t.a.Helper()
	select {
	case <-t.done:
		t.a.Fatal("the program has ended")
	default:
	}
	var got []string
	for _, l := range t.screen() {
		if found := entry.FindStringSubmatch(l); found != nil {
			if number := found[1]; number != fmt.Sprint(len(got)+1) {
				return fmt.Errorf("number %s stands at place %d", number, len(got)+1)
			}
			got = append(got, found[2])
		}
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("it has\n%v, want\n%v", got, want)
	}
	return nil
}

// ends waits until the program has.
func (t *terminal) ends() {
	t.a.Helper()
	select {
	case <-t.done:
	case <-time.After(patience):
		t.a.Fatal("the program doesn't end")
	}
}
