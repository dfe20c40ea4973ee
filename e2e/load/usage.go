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

// usage is a process's proportional set size, in bytes (proc(5), smaps_rollup).
type usage struct {
	pss  int64
	anon int64 // of it, what isn't a page of a file: the program's own text and tables are
}

func used(pid int) (usage, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return usage{}, err
	}
	values := map[string]int64{}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return usage{}, err
			}
			values[f[0]] = kb << 10
		}
	}
	if values["Pss:"] == 0 || values["Pss_Anon:"] == 0 {
		return usage{}, fmt.Errorf("no Pss of process %d", pid)
	}
	return usage{pss: values["Pss:"], anon: values["Pss_Anon:"]}, nil
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
