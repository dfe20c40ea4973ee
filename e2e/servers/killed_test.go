package servers

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asHelper has this test be the process that is killed.
const asHelper = "SERVERS_KILLED_HELPER"

// A test binary that is killed takes its servers along, a Cyrus too, which isn't root.
func TestServersEndWithATestThatIsKilled(t *testing.T) {
	Real(t)
	if os.Getenv(asHelper) != "" {
		s := StartCyrusWith(t, CyrusOptions{Users: 1})
		fmt.Println("pid", s.Process.Pid())
		select {}
	}
	helper := exec.Command(os.Args[0], "-test.run=^TestServersEndWithATestThatIsKilled$")
	// Only this test removes the files that it leaves.
	helper.Env = append(os.Environ(), asHelper+"=1", "TMPDIR="+Folder(t))
	out, err := helper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := helper.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if number, ok := strings.CutPrefix(lines.Text(), "pid "); ok {
			if pid, err = strconv.Atoi(number); err != nil {
				t.Fatal(err)
			}
		} else {
			t.Log(lines.Text())
		}
	}
	_ = helper.Process.Kill()
	_ = helper.Wait() // killed
	if pid == 0 {
		t.Fatal("the helper has started no server")
	}
	// The server leads a process group, with all of its children.
	deadline := time.Now().Add(startTimeout / 6)
	for !errors.Is(syscall.Kill(-pid, 0), syscall.ESRCH) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
			t.Fatal("the server goes on without its test")
		}
		time.Sleep(20 * time.Millisecond) // between two looks
	}
}
