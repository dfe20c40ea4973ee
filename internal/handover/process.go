package handover

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// lookEvery is how often Ended looks whether a process is there.
const lookEvery = 100 * time.Millisecond

// Ended waits until a process has ended, or until ctx does. A process that has ended has no connections.
func Ended(ctx context.Context, pid int) error {
	// A descriptor of the process keeps its number from being taken for another's.
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil
	case err == nil:
		defer func() { _ = unix.Close(fd) }()
	default:
		fd = -1 // an old kernel: signal 0 tells
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if gone(fd, pid) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// gone says whether a process has ended; one that its parent hasn't waited for has.
func gone(fd, pid int) bool {
	if fd < 0 {
		return errors.Is(unix.Kill(pid, 0), unix.ESRCH)
	}
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}
