package handover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// lookEvery is how often Ended looks whether a process is there.
const lookEvery = 100 * time.Millisecond

// Process is another process of this machine. Once it has ended another process may get its number; that one isn't taken for it. Only PID may be
// called by several goroutines at once.
type Process struct {
	pid int
	// fd is the kernel's descriptor of the process; -1: there is none. Then what follows tells the process from a later one with its number.
	fd      int
	session int    // its session, as of setsid(2), for which no descriptor is needed; -1: unknown
	began   string // when it began, in clock ticks since the machine's start; "": unknown
	over    bool   // it has ended
}

// errNamespace says that a process has no number here.
var errNamespace = errors.New("it is in another PID namespace, so this process can't see when it ends")

// Find finds a process by its number. The caller knows that the process lives, or did so just now, and calls Close. One that has ended is no error.
func Find(pid int) (*Process, error) {
	if pid <= 0 {
		return nil, errNamespace
	}
	p := &Process{pid: pid, fd: -1}
	var err error
	if p.session, err = unix.Getsid(pid); err != nil {
		p.session = -1
	}
	p.learn()
	return p, nil
}

// PID is the process's number.
func (p *Process) PID() int { return p.pid }

// Close forgets the process. No other method but PID is called after it.
func (p *Process) Close() {
	if p.fd >= 0 {
		_ = unix.Close(p.fd)
		p.fd = -1
	}
}

// Ended waits until the process has ended, or until ctx does. A process that has ended has no connections.
func (p *Process) Ended(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if p.gone() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Kill ends the process at once. One that has ended is no error.
func (p *Process) Kill() (err error) {
	switch {
	case p.gone():
		return nil
	case p.fd >= 0:
		err = unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0)
	default:
		err = unix.Kill(p.pid, unix.SIGKILL)
	}
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// gone says whether the process has ended; one that its parent hasn't waited for has.
func (p *Process) gone() bool {
	if !p.over && p.fd < 0 {
		if p.began == "" && p.same() { // Find had no descriptors for more; this process may have some now
			p.learn()
		}
		p.over = p.over || !p.same() // also where another one got the number just before learn
	}
	if !p.over && p.fd >= 0 {
		poll := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, 0)
		p.over = err == nil && n > 0
	}
	return p.over
}

// learn finds what tells the process from a later one with its number.
func (p *Process) learn() {
	fd, err := unix.PidfdOpen(p.pid, 0)
	switch {
	case err == nil:
		p.fd = fd
	case errors.Is(err, unix.ESRCH):
		p.over = true
	default: // an old kernel, a filter of system calls, no descriptors
		p.began, p.over = beganAt(p.pid)
	}
}

// same says whether the process that has the number now may be this one, as far as this process can tell without a descriptor of it.
func (p *Process) same() bool {
	session, err := unix.Getsid(p.pid)
	switch {
	case errors.Is(err, unix.ESRCH), err == nil && p.session >= 0 && session != p.session:
		return false
	case p.began == "":
		return true
	}
	began, over := beganAt(p.pid)
	return !over && (began == "" || began == p.began)
}

// beganAt returns when the process that has a number now began, in clock ticks since the machine's start, and whether it has ended and waits for
// its parent. "": unknown.
func beganAt(pid int) (began string, over bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", false
	}
	// proc_pid_stat(5): the number, the program's name in brackets, which may have any octets, then the state; the time is field 22.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 20 {
		return "", false
	}
	return fields[19], fields[0] == "Z" || fields[0] == "X"
}
