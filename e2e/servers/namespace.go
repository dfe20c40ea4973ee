package servers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// ProxyBinary names the variable that holds the imapproxy under test; inside says that this process is in its
// own namespace, and alone that it runs only that test there.
const (
	ProxyBinary = "IMAPPROXY_BIN"
	inside      = "E2E_INSIDE"
	alone       = "E2E_ALONE"
)

// Namespaced is for TestMain: it builds imapproxy unless ./test did, runs the tests in a network namespace of
// their own, and returns the exit code. Without prepared servers no test needs either.
func Namespaced(m *testing.M) int {
	switch {
	case os.Getenv("IMAPPROXY_REAL") == "":
		return m.Run()
	case os.Getenv(inside) != "":
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "ip: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}
	code, err := moveInside()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// moveInside runs this program again in a namespace, and returns its exit code.
func moveInside() (int, error) {
	env := append(os.Environ(), inside+"=1")
	if os.Getenv(ProxyBinary) == "" {
		dir, err := os.MkdirTemp("", "imapproxy-bin-")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		bin := filepath.Join(dir, "imapproxy")
		if out, err := exec.Command("go", "build", "-race", "-o", bin, "imapproxy/cmd/imapproxy").CombinedOutput(); err != nil {
			return 0, fmt.Errorf("go build: %w\n%s", err, out)
		}
		env = append(env, ProxyBinary+"="+bin)
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	case errors.Is(err, syscall.EPERM):
		return 0, fmt.Errorf("no network namespace can be made here; it takes root with CAP_SYS_ADMIN and CAP_NET_ADMIN: %w", err)
	}
	return 0, err
}

// OwnNetwork runs the test that calls it once more, by itself, in a process with a network namespace of its own, for a test whose ports are
// fixed. It returns true in that process, and false in the first one, whose test has nothing left to do. t is not a subtest's.
func OwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(alone) == t.Name() {
		if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
			t.Fatalf("ip: %v\n%s", err, out)
		}
		return true
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^"+regexp.QuoteMeta(t.Name())+"$", "-test.v", "-test.count=1")
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), alone+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}
