package proxy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// A session belongs to the phase that runs: the source says so, as far as it can. Only phase.go starts its goroutines,
// changes its phase, and closes its client's connection. A goroutine is started by a go statement, by a method Go (of a
// sync.WaitGroup, an errgroup, a task.Group), and by an AfterFunc.
func TestOnlyOwnersTouchASession(t *testing.T) {
	goroutines := map[string]string{
		"listener.go":          "of accept; a session's first phase goes on in it",
		"server.go":            "of the server: they end with Serve",
		"rechecks.go":          "of the recheck, for all sessions",
		"routes_held.go":       "ends the hold of a route that was looked up",
		"trials.go":            "of probes of backends",
		"session/phase.go":     "all others of a session",
		"park/state.go":        "of the hub",
		"park/client.go":       "cancels a context, when the hub ends",
		"park/site.go":         "cancels a context, when the hub ends",
		"park/watch_idle.go":   "wakes the goroutine of a watch",
		"park/watch_notify.go": "wakes the goroutine of a watch",
		"upstream/claim.go":    "waits for the end of a backend connection",
		"upstream/patience.go": "cancels a login",
		"auth/passwd.go":       "of a passwd-file",
		"conn/deadline.go":     "interrupts a connection, when a context ends",
		"conn/foreign.go":      "interrupts a library's connection, when a context ends",
		"conn/poller.go":       "wakes a session's owner, who says in phase.go what it does",
	}
	owners := methodsOf(t, "session/phase.go", "Session") // each but those that other phases may call
	delete(owners, "Live")
	delete(owners, "beside")
	delete(owners, "later")
	if !owners["follow"] || !owners["close"] {
		t.Fatalf("phase.go has %v: this test looks in the wrong place", owners)
	}
	used := map[string]bool{}
	starts := func(path string, at func() token.Position) {
		if used[path] = true; goroutines[path] == "" {
			t.Errorf("%s: a goroutine is started", at())
		}
	}
	eachNode(t, ".", func(path string, n ast.Node, at func() token.Position) {
		session := filepath.Dir(path) == "session" && path != "session/phase.go"
		switch n := n.(type) {
		case *ast.GoStmt:
			starts(path, at)
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Go" || f.Sel.Name == "AfterFunc") {
				starts(path, at)
			}
		case *ast.AssignStmt:
			for i, value := range n.Rhs {
				if to, ok := n.Lhs[min(i, len(n.Lhs)-1)].(*ast.SelectorExpr); ok && to.Sel.Name == "conn" {
					continue // clientOut's, which writes to it
				}
				if field, ok := value.(*ast.SelectorExpr); ok && field.Sel.Name == "client" && session {
					t.Errorf("%s: a session's client has a second name, under which it could be closed", at())
				}
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.SelectorExpr)
			if ok && x.Sel.Name == "client" && (n.Sel.Name == "Close" || n.Sel.Name == "Abort") && session {
				t.Errorf("%s: a client's connection is closed", at())
			}
			if owner, ok := n.X.(*ast.Ident); ok && owner.Name == "s" && owners[n.Sel.Name] && session {
				t.Errorf("%s: %s is for phase.go alone", at(), n.Sel.Name)
			}
		}
	})
	for path := range goroutines {
		if !used[path] {
			t.Errorf("%s starts no goroutine: remove it from the list", path)
		}
	}
}

// methodsOf returns the names of a type's methods that a file declares.
func methodsOf(t *testing.T, path, receiver string) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	must(t, err)
	names := map[string]bool{}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv == nil {
			continue
		}
		if pointer, ok := f.Recv.List[0].Type.(*ast.StarExpr); ok {
			if of, ok := pointer.X.(*ast.Ident); ok && of.Name == receiver {
				names[f.Name.Name] = true
			}
		}
	}
	return names
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
