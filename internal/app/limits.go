package app

import (
	"bytes"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"syscall"

	"imapproxy/internal/problems"
)

// descriptorUse returns how many files the process has open, of those that it may.
func descriptorUse() problems.Use {
	var most syscall.Rlimit
	dir, err := os.Open("/proc/self/fd")
	if err != nil || syscall.Getrlimit(syscall.RLIMIT_NOFILE, &most) != nil {
		return problems.Use{}
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return problems.Use{}
	}
	return problems.Use{Used: int64(len(names)) - 1, Limit: int64(min(most.Cur, math.MaxInt64))} // without dir
}

// memoryUse returns how much memory the process has, and the least of its limits: GOMEMLIMIT, the control group's
// (and those above it), the machine's memory.
func memoryUse() problems.Use {
	statm, err := os.ReadFile("/proc/self/statm")
	fields := bytes.Fields(statm)
	if err != nil || len(fields) < 2 {
		return problems.Use{}
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return problems.Use{}
	}
	limit := min(debug.SetMemoryLimit(-1), groupLimit("/"), machineMemory())
	if limit == math.MaxInt64 {
		limit = 0
	}
	return problems.Use{Used: pages * int64(os.Getpagesize()), Limit: limit}
}

// groupLimit returns the least memory limit of the process's control group and those above it. root is "/", or a test's.
func groupLimit(root string) int64 {
	least := int64(math.MaxInt64)
	text, err := os.ReadFile(path.Join(root, "proc/self/cgroup"))
	if err != nil {
		return least
	}
	for line := range bytes.Lines(text) {
		parts := bytes.SplitN(bytes.TrimSpace(line), []byte(":"), 3)
		if len(parts) < 3 {
			continue
		}
		base, file := "sys/fs/cgroup", "memory.max"
		switch string(parts[1]) {
		case "":
		case "memory": // the first version of control groups
			base, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		for group := path.Clean("/" + string(parts[2])); ; group = path.Dir(group) {
			if b, err := os.ReadFile(path.Join(root, base, group, file)); err == nil {
				if n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64); err == nil { // otherwise it is "max"
					least = min(least, n)
				}
			}
			if group == "/" {
				break
			}
		}
	}
	return least
}

func machineMemory() int64 {
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return math.MaxInt64
	}
	return int64(info.Totalram) * int64(info.Unit)
}
