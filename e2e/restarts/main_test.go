package restarts

import (
	"os"
	"testing"

	"imapproxy/e2e/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Namespaced(m)) }
