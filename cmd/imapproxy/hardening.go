package main

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// noDumps keeps the process's memory, which has passwords in it, out of core files and from
// other processes of the same user: no core is written, and no debugger may attach.
func noDumps() error {
	var errs []error
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		errs = append(errs, fmt.Errorf("RLIMIT_CORE: %w", err))
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		errs = append(errs, fmt.Errorf("PR_SET_DUMPABLE: %w", err))
	}
	return errors.Join(errs...)
}
