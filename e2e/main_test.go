package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// proxyBinary names the variable that holds the imapproxy under test.
const proxyBinary = "IMAPPROXY_BIN"

// TestMain builds the command unless ./test did; without prepared servers
// nothing here needs it.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue { // most of them wait, on other programs
		_ = f.Value.Set("4")
	}
	os.Exit(func() int {
		if os.Getenv("IMAPPROXY_REAL") == "" || os.Getenv(proxyBinary) != "" {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "imapproxy-bin-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		bin := filepath.Join(dir, "imapproxy")
		if out, err := exec.Command("go", "build", "-race", "-o", bin, "imapproxy/cmd/imapproxy").CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		if err := os.Setenv(proxyBinary, bin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}
