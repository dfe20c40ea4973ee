package proxy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"testing"
)

// A session belongs to the phase that runs: the source says so, as far as it can. Only phase.go starts its goroutines,
// changes its phase, and closes its client's connection. A goroutine is started by a go statement, by a method Go (of a
// sync.WaitGroup, an errgroup, a task.Group), and by an AfterFunc.
func TestOnlyOwnersTouchASession(t *testing.T) {
	goroutines := map[string]string{
		"listener.go":            "of accept; a session's first phase goes on in it",
		"server.go":              "of the server: they end with Serve",
		"rechecks.go":            "of the recheck, for all sessions",
		"routes_held.go":         "ends the hold of a route that was looked up",
		"trials.go":              "of probes of backends",
		"session/phase.go":       "all others of a session",
		"park/state.go":          "of the hub",
		"park/client.go":         "cancels a context, when the hub ends",
		"park/site.go":           "cancels a context, when the hub ends",
		"upstream/claim.go":      "waits for the end of a backend connection",
		"upstream/patience.go":   "cancels a login",
		"auth/passwd.go":         "of a passwd-file",
		"auth/authpolicy/new.go": "sends reports to a policy server, apart from all sessions, until Close",
		"conn/deadline.go":       "interrupts a connection, when a context ends",
		"conn/foreign.go":        "interrupts a library's connection, when a context ends",
		"conn/tlscheck.go":       "the client of a handshake that is tried out",
		"conn/poller.go":         "wakes a session's owner, who says in phase.go what it does",
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

// A bound on a connection's reads or writes is its owner's: LimitReads, WriteUntil, Discard and Until set one, and Rearm takes
// it away, with the interruptions. Each function that does so is listed, with the owner that calls it. Interrupt has a list as
// well, since goroutines that don't own a session interrupt it by Signal and Terminate only.
func TestOnlyOwnersBoundAConnection(t *testing.T) {
	owners := map[string]string{
		"listener.go turnAway":                         "accept: the connection gets no session",
		"listener.go proxyHeader":                      "accept: the connection has no session yet",
		"session/login.go prelogin":                    "phasePrelogin",
		"session/login.go finish":                      "phasePrelogin",
		"session/phase.go change":                      "the runner, between two phases",
		"session/relay.go fromClient":                  "phaseRelay, by the client's reader",
		"session/shared_carry.go line":                 "phaseShared, or the goroutine that reads while the client idles",
		"session/shared_carry.go response":             "the same",
		"session/shared_state.go read":                 "the same",
		"session/shared_carry.go sendBeside":           "phaseShared",
		"session/shared_carry.go deselectHome":         "phaseShared",
		"session/shared_connect.go do":                 "phaseShared",
		"session/shared_state.go owes":                 "phaseShared, for the answer to DONE, before DONE is sent",
		"session/shared_rights.go idle":                "phaseShared, before that goroutine begins",
		"session/shared.go shared":                     "phaseShared",
		"session/shared_rights.go waitDone":            "phaseShared",
		"session/shared_home.go restHome":              "phaseShared",
		"upstream/share.go withoutRights":              "the login that made the connection",
		"session/relay.go paused":                      "phaseRelay, after both readers",
		"session/relay_reuse.go mayReuse":              "phaseRelay, by the backend's reader",
		"session/clientout.go relayUntil":              "a phase that writes responses, under writeMu",
		"session/clientout.go finish":                  "phaseEnd, under writeMu",
		"session/signal.go takeSignals":                "phaseParked",
		"session/signal.go rested":                     "phaseRelay, after both readers",
		"session/backend.go give":                      "the phase that gives its backend connection away",
		"session/recover_command.go rearmed":           "phaseRecover, phaseCatchUp",
		"session/relay_responses.go endsSoon":          "phaseRelay, by the backend's reader; phaseCatchUp",
		"session/recover_response.go continueResponse": "phaseRecover",
		"session/recover_response.go Read":             "phaseRecover",
		"session/end.go lastWords":                     "phaseEnd",
		"imapclient/do.go within":                      "a client of its own: no session uses it",
		"imapclient/waker.go end":                      "a client of its own: no session uses it",
		"upstream/dialer.go connected":                 "a login: the connection is handed over after it",
		"upstream/inbox.go inbox":                      "a login: the connection is handed over after it",
		"upstream/inbox.go leave":                      "a login: the connection is handed over after it",
		"auth/ldapauth/pool.go dial":                   "a login's question to LDAP",
		"auth/ldapauth/pool.go do":                     "a login's question to LDAP",
		"auth/dovecotauth/pool.go do":                  "a login's question to Dovecot",
		"auth/dovecotauth/connection.go dial":          "a login's question to Dovecot",
	}
	interrupts := map[string]string{
		"session/signal.go interruptLocked":        "Signal, Terminate",
		"session/signal.go interruptBackendLocked": "Terminate",
		"session/relay.go relay":                   "phaseRelay, its other direction",
		"session/shared_guests.go visits":          "phaseShared, for a session that ends at that moment",
		"session/shared_rights.go idle":            "phaseShared, its other direction",
		"session/shared_stall.go stallVisit":       "the sweep, while control.mu shows that the connection is the session's",
		"imapclient/waker.go Wake":                 "a client of its own: no session uses it",
	}
	lists := map[string]map[string]string{
		"LimitReads": owners, "WriteUntil": owners, "Discard": owners, "Until": owners, "Rearm": owners, "Interrupt": interrupts,
	}
	unused := maps.Clone(owners)
	maps.Copy(unused, interrupts)
	var in *ast.FuncDecl
	eachNode(t, ".", func(path string, n ast.Node, at func() token.Position) {
		if f, ok := n.(*ast.FuncDecl); ok {
			in = f
		}
		call, ok := n.(*ast.SelectorExpr)
		if !ok || strings.HasPrefix(path, "conn/") || lists[call.Sel.Name] == nil {
			return
		}
		if x, ok := call.X.(*ast.Ident); ok && (x.Name == "time" || x.Name == "telemetry" || x.Name == "io") {
			return // time.Until and the like
		}
		where := path + " " + in.Name.Name
		if delete(unused, where); lists[call.Sel.Name][where] == "" {
			t.Errorf("%s: %s in %s: does the connection's owner call it?", at(), call.Sel.Name, in.Name.Name)
		}
	})
	for where := range unused {
		t.Errorf("%s does nothing of the kind: remove it from the list", where)
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
