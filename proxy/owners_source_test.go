package proxy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A session belongs to the phase that runs: the source says so, as far as it can. Only phase.go
// starts its goroutines and closes its client's connection.
func TestOnlyOwnersTouchASession(t *testing.T) {
	goroutines := []string{
		"listener.go",       // of accept; a session's first phase goes on in it
		"session/phase.go",  // all others of a session
		"park/state.go",     // of the hub
		"upstream/claim.go", // waits for the end of a backend connection
		"auth/passwd.go",    // of a passwd-file
		"conn/poller.go",    // wakes a session's owner, who says in phase.go what it does
	}
	eachNode(t, ".", func(path string, n ast.Node, at func() token.Position) {
		switch n := n.(type) {
		case *ast.GoStmt:
			if !slices.Contains(goroutines, filepath.ToSlash(path)) {
				t.Errorf("%s: a goroutine is started", at())
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.SelectorExpr)
			if ok && x.Sel.Name == "client" && (n.Sel.Name == "Close" || n.Sel.Name == "Abort") &&
				filepath.Dir(path) == "session" && path != "session/phase.go" {
				t.Errorf("%s: a client's connection is closed", at())
			}
		}
	})
}

// Only package conn sets deadlines: others interrupt (signal.go), and the owner bounds what it does itself. Beside
// it, each of these sets them on connections that are its own, and that no session, parked reader or pool uses.
func TestOnlyConnSetsDeadlines(t *testing.T) {
	others := map[string]string{
		"proxy/park/events/handler.go": "net/http has the connection of an event's request and lends its deadline to the handler alone",
		"routing/discovery/probe.go":   "a health check's connection begins and ends in one function; routing imports nothing of proxy",
		"internal/handover/conn.go":    "a Unix socket between two processes, in a package that imports nothing of proxy",
	}
	used := map[string]bool{}
	eachNode(t, "..", func(path string, n ast.Node, at func() token.Position) {
		path = strings.TrimPrefix(path, "../")
		call, ok := n.(*ast.SelectorExpr)
		if !ok || strings.HasPrefix(path, "proxy/conn/") || strings.HasPrefix(path, "internal/imaptest/") || strings.HasPrefix(path, "e2e/") {
			return
		}
		switch call.Sel.Name {
		case "SetDeadline", "SetReadDeadline", "SetWriteDeadline":
			if used[path] = true; others[path] == "" {
				t.Errorf("%s: %s", at(), call.Sel.Name)
			}
		}
	})
	for path := range others {
		if !used[path] {
			t.Errorf("%s sets no deadline: remove it from the list", path)
		}
	}
}

// eachNode calls f with each node of the syntax of the files below root that aren't tests.
func eachNode(t *testing.T, root string, f func(path string, n ast.Node, at func() token.Position)) {
	t.Helper()
	must(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if n != nil {
				f(filepath.ToSlash(path), n, func() token.Position { return files.Position(n.Pos()) })
			}
			return true
		})
		return nil
	}))
}
