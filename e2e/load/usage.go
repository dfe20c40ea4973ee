package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// pss returns the process's proportional set size, in bytes (proc(5), smaps_rollup).
func pss(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "Pss:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no Pss of process %d", pid)
}

// cpu returns the processor time of a process and its children as far as their threads live (/proc/PID/task/TID/schedstat).
func cpu(pid int) (time.Duration, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, t := range tasks {
		text, err := os.ReadFile(t + "/schedstat")
		if err != nil {
			continue // the thread has ended
		}
		ran, _, _ := bytes.Cut(text, []byte(" "))
		ns, err := strconv.ParseInt(string(ran), 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
		children, _ := os.ReadFile(t + "/children")
		for _, c := range bytes.Fields(children) {
			child, err := strconv.Atoi(string(c))
			if err != nil {
				return 0, err
			}
			more, err := cpu(child)
			if err != nil {
				return 0, err
			}
			sum += more
		}
	}
	return sum, nil
}
