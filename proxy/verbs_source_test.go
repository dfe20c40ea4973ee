package proxy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"imapproxy/proxy/wire"
)

// wire's table is the only description of IMAP's commands: no other list, map or switch names several verbs. A switch that calls
// one function for each of several commands has to name them; so it is listed. Fakes have descriptions of their own, so that a
// fault of the table can't hide in them.
func TestOneTableOfVerbs(t *testing.T) {
	may := map[string]string{
		"proxy/session/login.go command":                 "the commands before login, which the proxy answers",
		"proxy/session/relay_intercept.go intercept":     "the commands after login that the proxy answers, each with its text",
		"proxy/session/relay_intercept.go hidden":        "names of capabilities",
		"proxy/session/able.go needs":                    "names of capabilities",
		"proxy/session/park_answer.go answer":            "the commands that a parked session answers, each in its way",
		"proxy/track/changes.go changes":                 "a FETCH may change a mailbox, as its arguments say",
		"proxy/track/inflight_follow.go BeginWith":       "IDLE and LOGOUT, whose exchange isn't a command and its answer",
		"proxy/track/inflight_follow.go follow":          "the same",
		"proxy/track/leaving.go LeavingBy":               "UNSELECT is an extension; CLOSE removes messages",
		"telemetry/verbs.go classOf":                     "the few kinds of commands by which a metric tells backends' answers",
		"proxy/park/view/translate_search.go program":    "where the search program begins, by the command's grammar",
		"proxy/park/view/translate_response.go Response": "names of responses",
	}
	may["proxy/session/shared_home.go needsHome"] = "the commands that go to a shared mailbox's backend alone"
	for _, f := range []string{"serve", "unnamed", "about"} {
		may["proxy/session/shared.go "+f] = "the commands of a session that uses a shared mailbox, each with the connection that it goes to"
	}
	may["proxy/shared/list.go word"] = "names of responses"
	unused := maps.Clone(may)
	names := wire.Verbs()
	constants := verbConstants(t)
	isVerb := func(e ast.Expr) bool {
		switch e := e.(type) {
		case *ast.BasicLit:
			text, err := strconv.Unquote(e.Value)
			return e.Kind == token.STRING && err == nil && slices.Contains(names, text)
		case *ast.SelectorExpr:
			x, ok := e.X.(*ast.Ident)
			return ok && x.Name == "wire" && constants[e.Sel.Name]
		}
		return false
	}
	var in *ast.FuncDecl
	eachProductNode(t, func(path string, n ast.Node, at func() token.Position) {
		verbs := map[string]bool{}
		count := func(e ast.Expr) {
			ast.Inspect(e, func(n ast.Node) bool {
				if _, call := n.(*ast.CallExpr); call {
					return false // such as u.Is("FETCH"), of a response
				}
				if e, ok := n.(ast.Expr); ok && isVerb(e) {
					verbs[types.ExprString(e)] = true
				}
				return true
			})
		}
		switch n := n.(type) {
		case *ast.File:
			in = nil
		case *ast.FuncDecl:
			in = n
		case *ast.CompositeLit:
			for _, e := range n.Elts {
				if pair, ok := e.(*ast.KeyValueExpr); ok {
					count(pair.Key)
					e = pair.Value
				}
				if _, whole := e.(*ast.CompositeLit); !whole {
					count(e)
				}
			}
		case *ast.SwitchStmt:
			for _, s := range n.Body.List {
				for _, e := range s.(*ast.CaseClause).List {
					count(e)
				}
			}
		}
		if len(verbs) < 2 || strings.HasPrefix(path, "proxy/wire/") {
			return
		}
		name := "a declaration outside of functions"
		if in != nil && n.Pos() < in.End() {
			name = in.Name.Name
		}
		where := path + " " + name
		if delete(unused, where); may[where] == "" {
			t.Errorf("%s: %s names several verbs: should a column of wire's table say what it says?", at(), name)
		}
	})
	for where := range unused {
		t.Errorf("%s names no verbs: remove it from the list", where)
	}
}

// Package imapclient is the only IMAP client towards backends. Others give it a command to send (Do, Queue, or a login's
// function command); none writes the line of a command itself.
func TestOneIMAPClient(t *testing.T) {
	may := map[string]string{
		"routing/discovery/probe.go": "a health check begins TLS and says goodbye; routing imports nothing of proxy",
		"proxy/imapclient/idle.go":   "the client itself",
	}
	unused := maps.Clone(may)
	given := map[ast.Expr]bool{}
	eachProductNode(t, func(path string, n ast.Node, at func() token.Position) {
		switch n := n.(type) {
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.SelectorExpr); ok && (f.Sel.Name == "Queue" || f.Sel.Name == "command") && len(n.Args) == 1 {
				given[n.Args[0]] = true
			}
		case *ast.BasicLit:
			if n.Kind != token.STRING || given[n] {
				return
			}
			text, _ := strconv.Unquote(n.Value)
			for line := range strings.Lines(text) {
				if !strings.HasSuffix(line, "\r\n") || !isCommand(strings.Fields(line)) {
					continue
				}
				if delete(unused, path); may[path] == "" {
					t.Errorf("%s: %q is a command that imapclient should send", at(), line)
				}
			}
		}
	})
	for path := range unused {
		t.Errorf("%s writes no command: remove it from the list", path)
	}
}

// isCommand says whether the words of a line are a command or the end of one: its verb comes before any word of a response.
func isCommand(words []string) bool {
	for _, word := range words {
		switch word {
		case "*", "+", "OK", "NO", "BAD", "BYE":
			return false
		}
		if slices.Contains(wire.Verbs(), word) {
			return true
		}
	}
	return false
}

// eachProductNode is eachNode for the code of the product that talks to backends or to clients.
func eachProductNode(t *testing.T, f func(path string, n ast.Node, at func() token.Position)) {
	t.Helper()
	eachNode(t, "..", func(path string, n ast.Node, at func() token.Position) {
		path = strings.TrimPrefix(path, "../")
		if !strings.HasPrefix(path, "internal/imaptest/") && !strings.HasPrefix(path, "internal/dev/") && !strings.HasPrefix(path, "e2e/") {
			f(path, n, at)
		}
	})
}

// verbConstants returns the names of wire's constants of type Verb.
func verbConstants(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "wire/verb.go", nil, 0)
	must(t, err)
	names := map[string]bool{}
	for _, d := range file.Decls {
		if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.CONST {
			for _, s := range d.Specs {
				for _, name := range s.(*ast.ValueSpec).Names {
					names[name.Name] = true
				}
			}
		}
	}
	if !names["Fetch"] {
		t.Fatalf("wire/verb.go has %v: this test looks in the wrong place", names)
	}
	return names
}
