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
// starts its goroutines and closes its client's connection, and only package conn sets deadlines:
// others interrupt (signal.go), the owner bounds what it does itself.
func TestOnlyOwnersTouchASession(t *testing.T) {
	goroutines := []string{
		"listener.go",       // of accept; a session's first phase goes on in it
		"session/phase.go",  // all others of a session
		"park/state.go",     // of the hub
		"upstream/claim.go", // waits for the end of a backend connection
		"auth/passwd.go",    // of a passwd-file
		"conn/poller.go",    // wakes a session's owner, who says in phase.go what it does
	}
	deadlines := []string{
		"conn/",
		"park/events/",   // of its own HTTP requests
		"auth/ldapauth/", // of its own connections to a directory
		"leave.go",       // of its own listening sockets
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if n == nil {
				return true
			}
			at := func() token.Position { return files.Position(n.Pos()) }
			switch n := n.(type) {
			case *ast.GoStmt:
				if !slices.Contains(goroutines, filepath.ToSlash(path)) {
					t.Errorf("%s: a goroutine is started", at())
				}
			case *ast.SelectorExpr:
				switch n.Sel.Name {
				case "SetDeadline", "SetReadDeadline", "SetWriteDeadline":
					if !slices.ContainsFunc(deadlines, func(p string) bool { return strings.HasPrefix(filepath.ToSlash(path), p) }) {
						t.Errorf("%s: %s", at(), n.Sel.Name)
					}
				case "Close", "Abort":
					x, ok := n.X.(*ast.SelectorExpr)
					if ok && x.Sel.Name == "client" && filepath.Dir(path) == "session" && path != "session/phase.go" {
						t.Errorf("%s: a client's connection is closed", at())
					}
				}
			}
			return true
		})
		return nil
	})
	must(t, err)
}
