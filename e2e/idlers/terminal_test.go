package idlers

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A terminal is a program's screen and keyboard: a DEC VT52, which has few tricks.
type terminal struct {
	a    *account
	pty  *os.File
	cmd  *exec.Cmd
	done chan struct{} // closed when the program has ended

	mu       sync.Mutex // guards what follows
	cells    [rows][columns]byte
	row, col int
	pending  []byte // an escape sequence that has begun
}

// The screen's size. VT52 addresses them as a character above the space each.
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
	t := &terminal{a: a, pty: pty, cmd: cmd, done: make(chan struct{})}
	t.clear(0, 0)
	cmd.Env = append(cmd.Env, "TERM=vt52")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	must(a, cmd.Start())
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.Copy(t, pty) }) // ends with the program, which alone holds the other end
	go func() {                                   // ends with the program; closes done
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
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for _, r := range t.cells {
		lines = append(lines, strings.TrimRight(string(r[:]), " "))
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

// ends waits until the program has.
func (t *terminal) ends() {
	t.a.Helper()
	select {
	case <-t.done:
	case <-time.After(patience):
		t.a.Fatal("the program doesn't end")
	}
}

// Write implements io.Writer: it is what the program prints.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range p {
		t.print(b)
	}
	return len(p), nil
}

func (t *terminal) print(b byte) {
	if len(t.pending) > 0 || b == 0x1b {
		t.pending = append(t.pending, b)
		if t.escape(t.pending[1:]) {
			t.pending = t.pending[:0]
		}
		return
	}
	switch b {
	case '\r':
		t.col = 0
	case '\n':
		if t.row++; t.row == rows {
			t.row = rows - 1
			copy(t.cells[:], t.cells[1:])
			t.clear(rows-1, 0)
		}
	case '\b':
		t.col = max(t.col-1, 0)
	case '\t':
		t.col = min(t.col/8*8+8, columns-1)
	default:
		if b >= ' ' {
			t.cells[t.row][t.col] = b
			t.col = min(t.col+1, columns-1)
		}
	}
}

// escape does what an escape sequence says, once it is complete.
func (t *terminal) escape(s []byte) (complete bool) {
	if len(s) == 0 || s[0] == 'Y' && len(s) < 3 {
		return false
	}
	switch s[0] {
	case 'A':
		t.row = max(t.row-1, 0)
	case 'B':
		t.row = min(t.row+1, rows-1)
	case 'C':
		t.col = min(t.col+1, columns-1)
	case 'D':
		t.col = max(t.col-1, 0)
	case 'H':
		t.row, t.col = 0, 0
	case 'I':
		if t.row--; t.row < 0 {
			t.row = 0
			copy(t.cells[1:], t.cells[:rows-1])
			for i := range t.cells[0] {
				t.cells[0][i] = ' '
			}
		}
	case 'J':
		t.clear(t.row, t.col)
	case 'K':
		for i := t.col; i < columns; i++ {
			t.cells[t.row][i] = ' '
		}
	case 'Y':
		t.row, t.col = min(int(s[1]-' '), rows-1), min(int(s[2]-' '), columns-1)
	}
	return true
}

// clear empties the screen from a place on.
func (t *terminal) clear(row, col int) {
	for ; row < rows; row, col = row+1, 0 {
		for ; col < columns; col++ {
			t.cells[row][col] = ' '
		}
	}
}
