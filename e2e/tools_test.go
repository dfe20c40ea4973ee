package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"imapproxy/e2e/servers"
)

// tool returns a program of tools/NAME. ./test builds them before the tests, in this machine's release of Debian only.
func tool(t *testing.T, name string) string {
	t.Helper()
	if path := os.Getenv(strings.ToUpper(name) + "_BIN"); path != "" {
		return path
	}
	path := filepath.Join(servers.Folder(t), name)
	c := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	c.Dir = filepath.Join("..", "tools", name)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}
